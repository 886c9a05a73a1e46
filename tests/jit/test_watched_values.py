"""Values that a function reads from other objects: watched, and how many programs that may make."""

import argparse
import types
import warnings
import weakref
from collections import deque

import numpy as np
import pytest

import needle as ndl
from needle import nn

# -- lists, dicts, names, other objects ---------------------------------------------------------


def test_lists_and_dicts():
    layers = [nn.Linear(2, 2), nn.ReLU()]
    options = {"scale": 2.0, "names": ["a"]}

    def function(x):
        for layer in layers:
            x = layer(x)
        return x * options["scale"] * len(options["names"])

    step = ndl.jit(function)
    x = ndl.init.randn(3, 2)

    def expect_fresh():
        for _ in range(2):
            np.testing.assert_allclose(step(x).numpy(), function(x).numpy(), rtol=1e-5, atol=1e-6)

    expect_fresh()
    layers.append(nn.Linear(2, 3))
    expect_fresh()
    layers[0] = nn.Linear(2, 2)
    expect_fresh()
    layers[0], layers[1] = layers[1], layers[0]
    expect_fresh()
    options["scale"] = 3.0
    expect_fresh()
    options["names"].append("b")
    expect_fresh()
    options["names"] = ["c"]
    expect_fresh()
    del layers[:2]
    expect_fresh()
    count = len(step.programs)
    options["scale"] = 3  # an int: it could make another dtype
    expect_fresh()
    options["scale"] = 3.0
    expect_fresh()
    assert len(step.programs) <= count + 1


@pytest.mark.parametrize("shape", [(), (2,), (2, 128)])
def test_arrays_that_are_changed_in_place(shape):
    weights, holder = np.ones(shape), types.SimpleNamespace(weights=np.ones(shape))
    weights_t = np.ones(shape).T

    def function(x):
        logs = np.log(holder.weights).sum()
        return (x * float(weights.sum()) + float(logs) + float(weights_t.sum())).sum()

    step, x = ndl.jit(function), ndl.Tensor([1.0, 2.0])
    for change in (
        lambda: None,
        lambda: weights.__setitem__(..., 3.0),
        lambda: holder.weights.__setitem__(..., 4.0),
        lambda: weights_t.T.__setitem__(..., 5.0),
        lambda: setattr(holder, "weights", np.full(shape, 2.0)),
        lambda: weights.__setitem__(..., 1.0),
    ):
        change()
        for _ in range(2):
            assert step(x).item() == pytest.approx(function(x).item())
    assert any("array weights was written" in program.reason for program in step.programs)


def test_large_arrays_are_constants():
    table = np.ones(20_000)
    step = ndl.jit(lambda x: x * float(table[0]), warmup=0)
    x = ndl.Tensor([1.0])
    assert step(x).item() == 1
    table[0] = 2
    assert step(x).item() == 1


scale = 2.0
table = ndl.Tensor([1.0])


def helper(x):
    return x * scale + table


def test_names(monkeypatch):
    shift, weights = 1.0, ndl.Tensor([10.0])
    module = types.SimpleNamespace(power=2)

    def function(x):
        return helper(x) * weights + shift**module.power

    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])

    def expect_fresh():
        assert step(x).tolist() == function(x).tolist()

    expect_fresh()
    monkeypatch.setitem(globals(), "scale", 3.0)
    expect_fresh()
    monkeypatch.setitem(globals(), "table", ndl.Tensor([5.0]))
    expect_fresh()
    shift = 2.0
    expect_fresh()
    weights = ndl.Tensor([20.0])
    expect_fresh()
    module.power = 3
    expect_fresh()
    monkeypatch.setitem(globals(), "helper", lambda x: x - scale)
    expect_fresh()
    count = len(step.programs)
    expect_fresh()
    assert len(step.programs) == count


class Settings:
    shared = 1.0

    def __init__(self):
        self.factor = 2.0
        self.unread = 0
        self.log = []
        self.inner = {"offset": 1.0}

    @property
    def total(self):
        return self.factor + self.inner["offset"]

    def scaled(self, x):
        return x * self.total * self.shared * scale


def test_attributes_of_other_objects_that_are_read(monkeypatch):
    settings = Settings()
    step = ndl.jit(lambda x: settings.scaled(x), warmup=0)
    x = ndl.Tensor([1.0])

    def expect_fresh(programs):
        assert step(x).tolist() == settings.scaled(x).tolist()
        assert len(step.programs) == programs

    expect_fresh(1)
    settings.unread += 1
    settings.log.append(3.0)
    settings.new = 1
    expect_fresh(1)  # nothing of it is read
    settings.factor = 3.0
    expect_fresh(2)
    settings.inner["offset"] = 5.0
    expect_fresh(3)
    settings.shared = 10.0  # hides the attribute of the class
    expect_fresh(4)
    monkeypatch.setitem(globals(), "scale", 7.0)
    expect_fresh(5)
    settings.factor, settings.inner["offset"] = 2.0, 1.0
    del settings.shared
    monkeypatch.undo()
    expect_fresh(5)  # as it was at first
    assert type(settings) is Settings


@pytest.mark.parametrize("hold", [weakref.proxy, weakref.ref, lambda item: [weakref.proxy(item)]])
def test_what_is_held_weakly(hold):
    settings = Settings()
    held = hold(settings)

    def function(x):
        item = held() if isinstance(held, weakref.ref) else held
        item = item[0] if isinstance(item, list) else item
        return x * item.factor

    step = ndl.jit(function, warmup=0)
    for settings.factor in (2.0, 5.0, 5.0):
        assert step(ndl.Tensor([1.0])).item() == settings.factor
    assert len(step.programs) == 2


def test_attributes_of_modules_that_are_not_read():
    model = nn.Linear(2, 2)
    predict = ndl.jit(lambda x: model(x))
    x = ndl.init.randn(3, 2)
    for k in range(20):
        model.epoch = k
        predict(x)
    assert len(predict.programs) == 1


# -- many programs ------------------------------------------------------------------------------


def test_after_eight_programs_a_warning_names_the_guard():
    options = {"k": 0}
    step = ndl.jit(lambda x: x + options["k"], warmup=0)
    x = ndl.Tensor([1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(8):
            options["k"] = k
            step(x)
    options["k"] = 8
    with pytest.warns(
        UserWarning, match=r"has 9 programs, the last because: options\['k'\] changed"
    ) as caught:
        assert step(x).tolist() == [9.0]
    assert caught[0].filename == __file__  # the user's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options["k"] = 9
        step(x)


def test_programs_list_the_reason_each_was_made():
    options = {"k": 0}
    step = ndl.jit(lambda x: x + options["k"], warmup=0)
    step(ndl.Tensor([1.0]))
    options["k"] = 1
    step(ndl.Tensor([1.0]))
    step(ndl.Tensor([1.0, 2.0]))
    assert sorted(program.reason for program in step.programs) == [
        "first call with this signature",
        "first call with this signature",
        "options['k'] changed",
    ]
    step = ndl.jit(lambda x: x + options["a"] + options["b"], warmup=0)
    for options["a"], options["b"] in ((0, 0), (1, 0), (1, 1), (1, 2)):
        step(ndl.Tensor([1.0]))
    reasons = [program.reason for program in step.programs]  # the newest first
    assert reasons[:3] == ["options['b'] changed"] * 2 + ["options['a'] changed"]


@pytest.mark.filterwarnings("ignore:jit. .* has 9 programs")
def test_the_number_of_programs_is_bounded():
    step = ndl.jit(lambda x, k: x + k, warmup=0)
    x = ndl.Tensor([1.0])
    for k in range(80):
        assert step(x, k).tolist() == [1.0 + k]
    assert len(step.programs) == 64
    assert step(x, 79).tolist() == [80.0]
    assert step(x, 0).tolist() == [1.0]
    assert len(step.programs) == 64


def late(x):
    try:
        return x * LATE
    except NameError:
        return x


def test_a_global_that_comes(monkeypatch):
    step = ndl.jit(late, warmup=0)
    x = ndl.Tensor([1.0])
    assert [step(x).item() for _ in range(2)] == [1.0, 1.0]
    monkeypatch.setitem(globals(), "LATE", 5.0)
    assert step(x).item() == 5.0


class Plain:
    width = 1.0


class Fields:
    __slots__ = ("a", "k")

    def __init__(self, **given):
        for name, value in given.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("make", "read", "add"),
    [
        (dict, lambda d: d.get("k", 1.0), lambda d: d.update(k=5.0)),
        (list, lambda d: 1.0 + 4 * len(d), lambda d: d.append(0)),
        (types.SimpleNamespace, lambda n: getattr(n, "k", 1.0), lambda n: setattr(n, "k", 5.0)),
        (argparse.Namespace, lambda n: getattr(n, "k", 1.0), lambda n: setattr(n, "k", 5.0)),
        (
            lambda: types.SimpleNamespace(a=0),
            lambda n: getattr(n, "k", 1.0),
            lambda n: setattr(n, "k", 5.0),
        ),
        (Fields, lambda f: getattr(f, "k", 1.0), lambda f: setattr(f, "k", 5.0)),
        (
            lambda: Fields(a=0),
            lambda f: getattr(f, "k", 1.0),
            lambda f: setattr(f, "k", 5.0),
        ),
        (
            lambda: type("Wide", (Plain,), {})(),
            lambda w: w.width,
            lambda w: setattr(type(w), "width", 5.0),
        ),
    ],
    ids=[
        "dict",
        "list",
        "empty namespace",
        "argparse",
        "namespace",
        "no field",
        "a field",
        "subclass",
    ],
)
def test_what_was_not_there_and_comes(make, read, add):
    held = make()
    step = ndl.jit(lambda x: x * read(held), warmup=0)
    x = ndl.Tensor([1.0])
    assert [step(x).item() for _ in range(2)] == [1.0, 1.0]
    add(held)
    assert [step(x).item() for _ in range(2)] == [5.0, 5.0]
    assert len(step.programs) == 2


def doubled(x):
    return x * 2


def increased(x):
    return x + 1


@pytest.mark.parametrize("kind", [dict, types.SimpleNamespace, argparse.Namespace])
def test_keys_and_their_order(kind):
    held = kind(a=doubled, b=increased)
    entries = held if kind is dict else vars(held)

    def function(x):
        for act in entries.values():
            x = act(x)
        return x * 10 if "a" in entries else x

    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])
    assert step(x).item() == 30.0
    entries["a"] = entries.pop("a")
    assert step(x).item() == 40.0
    entries["c"] = entries.pop("a")  # the same values in the same order
    assert step(x).item() == 4.0
    assert [program.reason for program in step.programs][:2] == [
        "entries has other keys, or the same in another order"
    ] * 2


def test_attributes_of_parameters():
    def make():
        layer = nn.Linear(2, 1, dtype="float64")
        layer.weight.data = ndl.Tensor([[1.0], [2.0]])
        for p in layer.parameters():
            p.factor = 0.5
            p.momentum = ndl.zeros(*p.shape, dtype="float64")

        def step(x):
            layer(x).sum().backward()
            for p in layer.parameters():
                p.momentum = p.momentum * 0.5 + p.grad.detach()
                p.data = p - p.factor * p.momentum
            return layer(x)

        return layer, step

    (eager, slow), (ours, function) = make(), make()
    ours.bias.data = eager.bias
    quick = ndl.jit(function)
    for k in range(8):
        if k == 4:
            eager.weight.factor = ours.weight.factor = 2.0
        if k == 6:
            eager.weight.momentum = ndl.ones(2, 1, dtype="float64")
            ours.weight.momentum = ndl.ones(2, 1, dtype="float64")
        x = ndl.Tensor([[1.0, k]])
        np.testing.assert_allclose(quick(x).numpy(), slow(x).numpy(), rtol=1e-12)
    for p, q in zip(ours.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(p.momentum.numpy(), q.momentum.numpy(), rtol=1e-12)
    assert len(quick.programs) == 2


class Scaled(nn.Parameter):
    factor = 2.0

    def scaled(self):
        return self * self.factor


def test_attributes_of_tensors_of_an_own_class(monkeypatch):
    w = Scaled([1.0])
    step = ndl.jit(lambda x: x * w.scaled(), warmup=0)
    x = ndl.Tensor([1.0])
    assert step(x).item() == 2.0
    w.factor = 5.0
    assert step(x).item() == 5.0
    del w.factor
    monkeypatch.setattr(Scaled, "factor", 7.0)
    assert step(x).item() == 7.0
    assert len(step.programs) == 3


# -- what is the same ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [float, np.float32, lambda v: (v, 1.0)])
def test_minus_zero_is_another_value_and_nan_the_same(make):
    holder = types.SimpleNamespace(v=make(0.0))

    def function(x):
        v = holder.v[0] if isinstance(holder.v, tuple) else holder.v
        return x / v

    step, x = ndl.jit(function, warmup=0), ndl.Tensor([1.0])
    for value in (0.0, -0.0, 0.0):
        holder.v = make(value)
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(step(x).numpy(), function(x).numpy())
    for _ in range(3):
        holder.v = make(float("nan"))
        assert np.isnan(step(x).item())
    assert len(step.programs) == 3


def test_an_argument_that_is_a_tensor_the_function_names(backend):
    first, second = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    step = ndl.jit(lambda t: t * 2 if t is first else t * 3, warmup=0)
    for _ in range(2):
        assert step(second).tolist() == [6]
        assert step(first).tolist() == [2]
    assert len(step.programs) == 2


# -- sets and deques ----------------------------------------------------------------------------


def test_sets_and_deques():
    frozen, factors = {"a"}, deque([1.0, 2.0])
    layers = deque([nn.Linear(2, 2), nn.Dropout(0.5)])

    def function(x):
        for layer in layers:
            x = layer(x)
        return x * factors[-1] * (2 if "b" in frozen else 1)

    step, x = ndl.jit(function), ndl.init.randn(3, 2)
    layers[1].eval()
    for change in (
        lambda: None,
        lambda: frozen.add("b"),
        lambda: factors.append(3.0),
        lambda: factors.rotate(),
        lambda: layers.append(nn.Linear(2, 1)),
        lambda: frozen.discard("b"),
    ):
        change()
        for _ in range(3):
            np.testing.assert_allclose(step(x).numpy(), function(x).numpy(), rtol=1e-5)
    count = len(step.programs)
    factors[-1] = float(factors[-1])  # another object, the same value
    step(x)
    assert len(step.programs) == count
    layers[1].train()
    seen = [step(x).numpy() for _ in range(3)]
    assert not np.allclose(seen[0], seen[1])  # drawn anew


def test_what_a_function_adds_to_a_set_or_deque_is_a_side_effect():
    shapes, calls = set(), deque(maxlen=2)

    @ndl.jit(warmup=0)
    def step(x):
        shapes.add(x.shape)
        calls.append("call")
        return x * 2

    for _ in range(3):
        assert step(ndl.Tensor([1.0, 2.0])).tolist() == [2, 4]
    assert len(step.programs) == 1
    assert shapes == {(2,)}


def test_large_collections_are_constants():
    numbers = deque([1.0] * 5000)
    step, x = ndl.jit(lambda x: x * numbers[-1], warmup=0), ndl.Tensor([1.0])
    assert step(x).item() == 1
    numbers.append(2.0)
    assert step(x).item() == 1
