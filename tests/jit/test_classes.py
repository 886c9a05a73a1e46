"""Classes: their attributes and methods, `__slots__`, and objects that are made by the function."""

import builtins
import collections
import types
from operator import attrgetter

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.test_replaced import expect_fresh
from tests.jit.worlds import expect_like_eager, zeros

scale = 2.0


class Base(nn.Module):
    factor = 1.0

    def forward(self, x):
        return x * scale * self.factor


class Inherited(Base):
    def forward(self, x):
        return super().forward(x) + 1


class Named(Base):
    def forward(self, x):
        return Base.forward(self, x) + 1


class Special:
    def __enter__(self):
        return scale

    def __exit__(self, *error):
        pass

    def __getitem__(self, key):
        return scale

    def __iter__(self):
        return iter([scale])

    def __mul__(self, x):
        return x * scale

    def __getattr__(self, name):
        return scale


class Made:
    def __init__(self, x):
        self.x = x

    def scaled(self):
        return self.other()

    def other(self):
        return self.x * scale

    @staticmethod
    def without_self(x):
        return x * scale

    @classmethod
    def of_class(cls, x):
        return cls(x).scaled()


def within(x):
    with special as factor:
        return x * factor


special = Special()


class Patched(nn.Module):
    def forward(self, x):
        return self.doubled(x * self.width) + self.shift()

    def doubled(self, x):
        return x * 2

    def __len__(self):
        return 1

    @property
    def width(self):
        return 3

    @staticmethod
    def shift():
        return 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("forward", lambda self, x: x + 100),
        ("doubled", lambda self, x: x * -7),
        ("width", property(lambda self: 50)),
        ("shift", staticmethod(lambda: 9)),
        ("__len__", lambda self: 4),
    ],
)
def test_methods_of_classes_are_watched(name, other, monkeypatch):
    model = Patched()

    def function(x):
        return model(x) * len(model)

    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])
    own = [step(x).item() for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(Patched, name, other)
        expected = [function(x).item()] * 2
        assert [step(x).item() for _ in range(2)] == expected != own
    assert step(x).item() == own[0]
    assert len(step.programs) == 2


class Settings(types.SimpleNamespace):
    def factor(self):
        return self.k


def test_methods_of_a_class_derived_from_the_standard_librarys_are_watched(monkeypatch):
    settings = Settings(k=2.0)
    f = ndl.jit(lambda x: (x * settings.factor()).sum(), warmup=0)
    assert float(f(ndl.init.ones(3))) == 6.0
    monkeypatch.setattr(Settings, "factor", lambda self: 10.0)
    assert float(f(ndl.init.ones(3))) == 30.0


@pytest.mark.parametrize(
    "function",
    [
        Inherited(),
        Named(),
        within,
        lambda x: x * special[0],
        lambda x: [x * factor for factor in special][0],  # noqa: RUF015
        lambda x: special * x,
        lambda x: x * special.anything,
        lambda x: Made(x).scaled(),
        lambda x: Made.without_self(x),
        Made.of_class,
    ],
)
def test_globals_of_methods_are_watched_however_they_are_called(function, monkeypatch):
    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])
    for value in (2.0, 5.0, 5.0):
        monkeypatch.setitem(globals(), "scale", value)
        assert step(x).item() == function(x).item()
    assert len(step.programs) == 2


def test_attributes_of_classes_are_watched(monkeypatch):
    module = Inherited()
    step = ndl.jit(lambda x: module(x) * Base.factor, warmup=0)
    for factor in (1.0, 3.0, 3.0):
        monkeypatch.setattr(Base, "factor", factor)
        assert step(ndl.Tensor([1.0])).item() == (2 * factor + 1) * factor
    assert len(step.programs) == 2


def test_attributes_of_classes_under_names_that_are_computed():
    class Base:
        sgd_rate = adam_rate = 1.0

    class Settings(Base):
        scaled_by_one = staticmethod(lambda x: x * sizes["one"])

    kind, sizes, rate_of = ["sgd"], {"one": 1.0}, attrgetter("sgd_rate")

    def function(x):
        x = x * getattr(Settings, f"{kind[0]}_rate") + rate_of(Settings)
        x = x * sum(value for name, value in vars(Base).items() if name.endswith("_rate"))
        x = x + sum(getattr(Settings(), f"{name}_rate") for name in ("sgd", "adam"))
        x = x * 2 if hasattr(Settings, f"{kind[0]}_factor") else x
        return getattr(Settings, f"scaled_by_{next(iter(sizes))}")(x)

    asked = [getattr, hasattr, vars]
    expect_fresh(
        function,
        lambda: setattr(Base, "sgd_rate", 2.0),
        lambda: setattr(Settings, "sgd_rate", 3.0),
        lambda: setattr(Base, "adam_rate", 4.0),
        lambda: setattr(Settings, "sgd_factor", 1),
        lambda: sizes.update(one=5.0),
        lambda: setattr(Settings, "scaled_by_one", staticmethod(lambda x: -x)),
    )
    assert [builtins.getattr, builtins.hasattr, builtins.vars] == asked


def test_the_variables_of_a_traced_function_itself():
    def function(x):
        factor = 2.0  # noqa: F841
        return x * vars()["factor"] * len([vars() for _ in range(2)])

    assert ndl.jit(function, warmup=0)(ndl.Tensor([1.0])).item() == 4.0
    with pytest.raises(TypeError, match="getattr expected at least 2 arguments, got 0"):
        ndl.jit(lambda x: getattr(), warmup=0)(ndl.Tensor([1.0]))


def test_an_attribute_that_comes_to_hide_that_of_a_base():
    class First:
        pass

    class Second(Plain):
        pass

    class Both(First, Second):
        pass

    step = ndl.jit(lambda x: x * Both.factor, warmup=0)
    x = ndl.Tensor([1.0])
    assert step(x).item() == 2
    for k, cls in enumerate([Second, First, Both], start=3):
        cls.factor = k
        assert step(x).item() == k
    del Both.factor, First.factor
    assert step(x).item() == 3
    assert len(step.programs) == 4


class Plain:
    factor = 2.0


class Derived(Plain):
    def __getattribute__(self, name):
        return 3.0 if name == "factor" else super().__getattribute__(name)


@pytest.mark.parametrize("cls", [Inherited, Plain, Derived])
def test_objects_keep_their_class_while_traced(cls):
    thing, other, before = cls(), Plain(), dict(vars(cls))

    def function(x):
        factor = thing.factor + other.factor
        return x * factor if type(thing) is cls and thing.__class__ is cls else x * 0

    step = ndl.jit(function, warmup=0)
    assert step(ndl.Tensor([1.0])).item() == thing.factor + 2
    other.factor = 5.0
    assert step(ndl.Tensor([1.0])).item() == thing.factor + 5
    assert dict(vars(cls)) == before


class Meta(type):
    factor = 2.0

    @property
    def doubled(cls):
        return cls.factor * 2


class OfMeta(metaclass=Meta):
    pass


class Rescaled:
    def __init__(self):
        self.factor = 2.0

    def __get__(self, owner, cls=None):
        return self if owner is None else owner.inner * self.factor


class Described:
    scaled = Rescaled()
    inner = 3.0


class Listed(list):
    factor = 2.0

    def total(self):
        return sum(self) * self.factor


def fifty(self):
    return 50.0


class Keyed(dict):
    __getattr__ = dict.__getitem__


listed, keyed, described = Listed([1.0, 2.0]), Keyed(factor=2.0), Described()
listed.factor = 2.0
vars(keyed)["offset"] = 2.0


@pytest.mark.parametrize(
    ("function", "place"),
    [
        (lambda x: x * OfMeta.factor, (Meta, "factor")),
        (lambda x: x * OfMeta.doubled, (Meta, "factor")),
        (lambda x: x * described.scaled, (Described.scaled, "factor")),
        (lambda x: x * Described.scaled.factor, (Described.scaled, "factor")),
        (lambda x: x * listed.factor, (listed, "factor")),
        (lambda x: x * listed.total(), (listed, "factor")),
        (lambda x: x * listed.total(), (Listed, "total")),
        (lambda x: x * keyed.factor + keyed.offset, (keyed, "offset")),
    ],
)
def test_attributes_of_unusual_objects_are_watched(function, place, monkeypatch):
    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])
    own = [step(x).item() for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(*place, fifty if place[1] == "total" else 7.0)
        expected = [function(x).item()] * 2
        assert [step(x).item() for _ in range(2)] == expected != own
    assert [step(x).item() for _ in range(2)] == own
    assert len(step.programs) == 2


def test_attributes_of_jitted_functions_are_watched():
    @ndl.jit(warmup=0)
    def step(x):
        return x * step.factor if step.training else x

    x = ndl.Tensor([1.0])
    step.training = True
    for step.factor in (2.0, 5.0, 5.0):
        assert step(x).item() == step.factor
    step.training = False
    assert step(x).item() == 1
    assert len(step.programs) == 3


def test_a_jitted_model_has_the_attributes_of_the_model():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
    predict = ndl.jit(model)
    assert predict.eval() is model
    assert not predict.training
    assert predict.parameters() == model.parameters()
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        predict.unknown  # noqa: B018


@pytest.mark.parametrize("of", [lambda self, cls: cls, lambda self, cls: type(self)])
def test_classes_hold_state(of):
    def make():
        class Counting(nn.Module):
            total = zeros(2)

            def forward(self, x):
                of(self, Counting).total = self.total + x
                return self.total * 2

        return Counting(), lambda: Counting.total

    assert len(expect_like_eager(make).programs) == 1


@pytest.mark.parametrize("of", [lambda self, cls: cls, lambda self, cls: type(self)])
def test_numbers_that_a_class_counts_are_told(of):
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            of(self, Counting).calls += 1
            return x * self.calls

    with pytest.raises(ndl.TraceError, match=r"the Python number Counting\.calls changed"):
        ndl.jit(Counting(), warmup=0)(ndl.Tensor([1.0]))
    assert Counting.calls == 0


def test_objects_with_slots_hold_state():
    def make():
        class Cell:
            __slots__ = ("h", "scale")

            def advance(self, x):
                self.h = self.h * self.scale + x
                return self.h + 1

        cell = Cell()
        cell.h, cell.scale = zeros(2), 0.5
        return cell.advance, lambda: cell.h

    assert len(expect_like_eager(make).programs) == 1


def test_numbers_in_slots_are_watched():
    class Cell:
        __slots__ = ("scale",)

    cell = Cell()
    cell.scale = 2.0
    step = ndl.jit(lambda x: x * cell.scale, warmup=0)
    assert step(ndl.Tensor([1.0])).item() == 2.0
    cell.scale = 3.0
    assert step(ndl.Tensor([1.0])).item() == 3.0
    assert step.programs[0].reason == "cell.scale changed"

    def count(x):
        cell.scale += 1
        return x * cell.scale

    with pytest.raises(ndl.TraceError, match=r"the Python number cell\.scale changed"):
        ndl.jit(count, warmup=0)(ndl.Tensor([1.0]))
    assert cell.scale == 3.0


def test_attributes_of_functions_are_watched():
    def scaled(x):
        return x * scaled.factor

    scaled.factor = 2.0
    step = ndl.jit(scaled, warmup=0)
    assert step(ndl.Tensor([1.0])).item() == 2.0
    scaled.factor = 3.0
    assert step(ndl.Tensor([1.0])).item() == 3.0


@pytest.mark.parametrize(
    "array",
    [
        np.array([2.0, np.nan]),
        np.array([2.0, float("nan"), None], dtype=object),
        np.array(["2020-01-01", "NaT"], "datetime64[D]"),
    ],
    ids=["floats", "objects", "dates"],
)
def test_a_numpy_array_with_nan_may_be_read(array):
    step = ndl.jit(lambda x: x * len(array), warmup=0)
    assert step(ndl.Tensor([1.0])).tolist() == [len(array)]


def test_a_numpy_array_that_the_function_writes_is_told():
    calls = np.zeros(1)

    def counting(x):
        calls[0] += 1
        return x * calls[0]

    with pytest.raises(ndl.TraceError, match=r"the NumPy array calls was written .* in a tensor"):
        ndl.jit(counting, warmup=0)(ndl.Tensor([1.0]))
    assert calls.tolist() == [0.0]


def test_a_tensor_in_a_deque_is_told():
    kept = collections.deque()
    with pytest.raises(ndl.TraceError, match="was kept outside"):
        ndl.jit(lambda x: (kept.append(x * 2), x)[1], warmup=0)(ndl.Tensor([1.0]))


class _WithFields:
    __slots__ = ("scale", "total")


class _WithBoth(_WithFields):
    """Has a `__dict__` beside the fields of its base."""


def test_fields_beside_attributes_are_watched():
    both = _WithBoth()
    both.scale, both.offset, both.total = 2.0, 1.0, ndl.Tensor([0.0], requires_grad=False)

    @ndl.jit
    def step(x):
        both.total = both.total + x * both.scale + both.offset
        return both.total * 1

    expected = 0.0
    for scale, offset in ((2.0, 1.0),) * 3 + ((5.0, 1.0),) * 2 + ((5.0, 4.0),) * 2:
        both.scale, both.offset = scale, offset
        expected += scale + offset
        assert step(ndl.Tensor([1.0], requires_grad=False)).tolist() == [expected]
        assert both.total.tolist() == [expected]
