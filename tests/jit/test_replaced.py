"""What is put in the place of what a function reads: other code, defaults, classes, names."""

import gc
import importlib
import sys
import types
import weakref

import numpy as np
import pytest

import needle as ndl
from needle import nn


def expect_fresh(function, *changes, programs=None):
    """After each change compiled calls give what eager ones give, and settle on one program."""
    step, x = ndl.jit(function, warmup=0), ndl.Tensor([1.0, 2.0])
    for change in (lambda: None, *changes):
        change()
        for _ in range(2):
            ours, theirs = step(x).numpy(), function(x).numpy()
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        count = len(step.programs)
        step(x)
        assert len(step.programs) == count
    assert programs is None or len(step.programs) == programs
    return step


def twice(x, factor=2.0, *, offset=0.0):
    return x * factor + offset


def thrice(x, factor=2.0, *, offset=0.0):
    return x * (factor + 1) + offset


def copy_of(function):
    copy = types.FunctionType(function.__code__, globals(), function.__name__, (2.0,))
    copy.__kwdefaults__ = {"offset": 1.0}
    return copy


class One:
    factor = 1.0

    def scaled(self, x):
        return x * self.factor


class Two(One):
    factor = 2.0


class Doubling(nn.Module):
    def forward(self, x):
        return x * 2


class Squaring(nn.Module):
    def forward(self, x):
        return x * x


class Box:
    __slots__ = ("factor",)

    def scaled(self, x):
        return x * self.factor


class OtherBox(Box):
    __slots__ = ()

    def scaled(self, x):
        return x * self.factor * 3


# -- functions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
def test_code(own):
    helper = copy_of(twice)
    step = expect_fresh(
        helper if own else lambda x: helper(x),
        lambda: setattr(helper, "__code__", thrice.__code__),
        lambda: setattr(helper, "__code__", twice.__code__.replace()),  # equal: the first program
        programs=2,
    )
    assert step.programs[0].reason == "twice has other code"


def test_code_of_methods():
    class Scaled(One):
        def scaled(self, x):
            return x * self.factor + 1

    item = Scaled()
    code = One.scaled.__code__
    expect_fresh(
        lambda x: item.scaled(x), lambda: setattr(Scaled.scaled, "__code__", code), programs=2
    )


@pytest.mark.parametrize("own", [True, False])
def test_defaults(own):
    helper = copy_of(twice)
    step = expect_fresh(
        helper if own else lambda x: helper(x),
        lambda: setattr(helper, "__defaults__", (3.0,)),
        lambda: setattr(helper, "__defaults__", (-0.0,)),
        lambda: setattr(helper, "__kwdefaults__", {"offset": 2.0}),
        lambda: helper.__kwdefaults__.update(offset=3.0),
    )
    assert any("the defaults of twice[0] changed" in program.reason for program in step.programs)


class Owner(nn.Module):
    def __init__(self):
        self.lin = nn.Linear(2, 2)
        self.helper = lambda x, me=self: me.lin(x)

    @ndl.jit
    def forward(self, x):
        return self.helper(x)


def test_a_default_does_not_keep_the_owner_of_a_program_alive():
    model = Owner()
    gone = weakref.ref(model)
    for _ in range(3):
        model(ndl.init.ones(2, 2))
    del model
    gc.collect()
    assert gone() is None


def test_a_module_that_is_reloaded(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(factor):
        lines = f"factor = {factor}\ndef scaled(x):\n    return x * {factor} * factor\n"
        (tmp_path / "reloaded_by_a_test.py").write_text(lines)

    write(2.0)
    import reloaded_by_a_test as module  # pyright: ignore[reportMissingImports]

    def reload(factor):
        write(factor)
        importlib.reload(module)

    expect_fresh(lambda x: module.scaled(x), lambda: reload(3.0), lambda: reload(10.0))


# -- classes of objects ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read",
    [
        lambda item: lambda x: item.scaled(x),
        lambda item: lambda x: x * 2 if isinstance(item, Two) else x,
        lambda item: lambda x: x * 2 if type(item) is Two else x,
    ],
)
def test_the_class_of_an_object(read):
    item = One()
    step = expect_fresh(
        read(item),
        lambda: setattr(item, "__class__", Two),
        lambda: setattr(item, "__class__", One),
        programs=2,
    )
    assert step.programs[0].reason == "item is a Two now"


def test_the_class_of_a_module():
    module = Doubling()
    expect_fresh(lambda x: module(x), lambda: setattr(module, "__class__", Squaring), programs=2)


def test_the_class_of_an_object_with_slots_and_of_a_dict():
    class Options(dict):
        factor = 2.0

    class Others(Options):
        factor = 3.0

    box, options = Box(), Options()
    box.factor = 2.0
    expect_fresh(
        lambda x: box.scaled(x) * options.factor,
        lambda: setattr(box, "__class__", OtherBox),
        lambda: setattr(options, "__class__", Others),
        programs=3,
    )


# -- names of classes, modules and functions in C --------------------------------------------------


class Scales:
    factor = 2.0


Layer = nn.ReLU
largest = max
dtype = np.float32
settings = types.ModuleType("settings")
settings.factor = 2.0


def test_globals_that_stand_for_classes_modules_and_functions_in_c(monkeypatch):
    def change(name, value):
        return lambda: monkeypatch.setitem(globals(), name, value)

    expect_fresh(
        lambda x: Layer()(x - 1.5) + largest(2.0, 3.0) * Scales.factor * settings.factor,
        change("Layer", nn.Tanh),
        change("largest", min),
        change("Scales", type("Scales", (), {"factor": 3.0})),
    )
    expect_fresh(lambda x: x.astype(dtype), change("dtype", np.float64), programs=2)


def test_variables_of_a_closure_that_stand_for_classes_modules_and_functions_in_c():
    layer, largest, dtype, scales, module = nn.ReLU, max, np.float32, One, settings
    other = types.SimpleNamespace(factor=4.0)

    def change(**given):
        nonlocal layer, largest, dtype, scales, module
        layer, largest = given.get("layer", layer), given.get("largest", largest)
        dtype, scales = given.get("dtype", dtype), given.get("scales", scales)
        module = given.get("module", module)

    expect_fresh(
        lambda x: (layer()(x - 1.5) + largest(2.0, 3.0) * scales.factor * module.factor).astype(
            dtype
        ),
        lambda: change(layer=nn.Tanh),
        lambda: change(largest=min),
        lambda: change(dtype=np.float64),
        lambda: change(scales=Two),
        lambda: change(module=other),
        programs=6,
    )


def test_an_attribute_that_comes_to_hide_that_of_a_metaclass():
    meta = type("Meta", (type,), {"factor": 1.0})
    base = meta("Base", (), {})
    cls = meta("Derived", (base,), {})
    expect_fresh(
        lambda x: x * cls.factor,
        lambda: setattr(meta, "factor", 2.0),
        lambda: setattr(base, "factor", 3.0),
        lambda: setattr(cls, "factor", 4.0),
    )


def test_a_variable_of_a_closure_that_is_assigned_later():
    def function(x):
        try:
            return x * factor
        except NameError:
            return x * offset

    def change(number):
        nonlocal factor
        factor = number

    def forget():
        nonlocal factor
        del factor

    offset = 5.0
    changes = [lambda: change(2.0), lambda: change(3.0), forget, lambda: change(4.0)]
    expect_fresh(function, *changes)
    factor = 1.0


def test_attributes_of_classes_that_strings_name():
    cls = type("Scale", (One,), {"offset": 1.0})
    expect_fresh(
        lambda x: x * getattr(cls, "factor", 3.0) + vars(cls)["offset"],
        lambda: setattr(cls, "offset", 2.0),
        lambda: setattr(cls, "factor", 4.0),
    )


def test_the_shape_of_a_tensor_that_is_not_computed_with():
    queue = nn.Module()
    queue.rows = ndl.Tensor(np.zeros((4, 2)), requires_grad=False)
    beside = [ndl.Tensor(np.zeros(3), requires_grad=False)]

    def give(tensor, *shape):
        tensor.data = ndl.Tensor(np.zeros(shape), requires_grad=False)

    expect_fresh(
        lambda x: x * queue.rows.shape[0] + len(beside[0]),
        lambda: give(queue.rows, 8, 2),
        lambda: give(beside[0], 5),
        lambda: give(queue.rows, 8, 2),
        programs=3,
    )


LAYERS = """
class Layer:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, x):
        return act(x) * self.factor
def act(x):
    return x + 1
layer = Layer(2.0)
def step(x):
    return layer(x) + Layer(3.0)(x)
"""


@pytest.mark.parametrize(
    "change",
    [
        "layer.factor = 5.0",
        "def act(x): return x - 1",
        "Layer.__call__ = lambda self, x: x",
        "class Layer(Layer):\n    def __call__(self, x): return x * 9",
        "layer = Layer(7.0)",
    ],
)
def test_classes_made_by_exec_in_a_namespace_without_a_name(change):
    """They say that their module is `builtins`, whose name is found there."""
    space = {}
    exec(LAYERS, space)
    step = ndl.jit(space["step"], warmup=0)
    x = ndl.Tensor([1.0, 2.0])
    assert step(x).tolist() == [10.0, 15.0]
    exec(change, space)
    assert step(x).tolist() == space["step"](x).tolist() != [10.0, 15.0]
