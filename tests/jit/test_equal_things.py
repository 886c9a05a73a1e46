"""What is put in place of its equal: where it can be changed, it is another thing from then on."""

import collections
import dataclasses
import types

import numpy as np
import pytest

import needle as ndl
from needle import nn


@dataclasses.dataclass(slots=True)
class Settings:
    """Equal to others, and nothing refers to it weakly."""

    k: float


class Number(int):
    k: float


class Pair(tuple):
    k: float


def with_attribute(value, k):
    value.k = k
    return value


def set_item(thing, k):
    thing[0] = k


THINGS = {
    "slots": (lambda: Settings(2), lambda thing: thing.k, lambda t, k: setattr(t, "k", k)),
    "list": (lambda: [2], lambda thing: thing[0], set_item),
    "array": (lambda: np.array([2.0]), lambda thing: thing.item(), set_item),
    "bytearray": (lambda: bytearray([2]), lambda thing: thing[0], set_item),
    "in a tuple": (lambda: ([2],), lambda thing: thing[0][0], lambda t, k: set_item(t[0], k)),
    "number": (
        lambda: with_attribute(Number(2), 2.0),
        lambda thing: thing.k,
        lambda t, k: setattr(t, "k", k),
    ),
    "tuple": (
        lambda: with_attribute(Pair([1]), 2.0),
        lambda thing: thing.k,
        lambda t, k: setattr(t, "k", k),
    ),
}


@pytest.mark.parametrize("hold", [lambda x: types.SimpleNamespace(x=x), lambda x: [x]])
@pytest.mark.parametrize(("make", "read", "change"), THINGS.values(), ids=THINGS)
def test_an_equal_thing_that_is_changed_then(make, read, change, hold):
    held = hold(make())
    in_list = isinstance(held, list)
    step = ndl.jit(lambda x: x * read(held[0] if in_list else held.x), warmup=0)
    one = ndl.Tensor([1.0])
    assert step(one).item() == 2
    new = make()
    if in_list:
        held[0] = new
    else:
        held.x = new
    assert step(one).item() == 2
    change(new, 5)
    assert step(one).item() == 5


@pytest.mark.parametrize(("make", "read", "change"), THINGS.values(), ids=THINGS)
def test_an_equal_thing_in_a_deque(make, read, change):
    held = collections.deque([make()])
    step = ndl.jit(lambda x: x * read(held[0]), warmup=0)
    one = ndl.Tensor([1.0])
    assert step(one).item() == 2
    held[0] = make()
    assert step(one).item() == 2
    change(held[0], 5)
    assert step(one).item() == 5


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_new_list_at_each_call_is_new_where_it_is_equal_too(warmup):
    layer = nn.Module()
    layer.seen = []

    @ndl.jit(warmup=warmup)
    def step(x):
        layer.seen = []
        return x * 2

    for k in range(5):
        assert step(ndl.Tensor([1.0])).item() == 2
        layer.seen.append(k)
        assert layer.seen == [k]


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("kind", ["list", "array", "in a tuple"])
def test_an_equal_thing_that_each_call_puts_anew(kind, reads):
    make, read, change = THINGS[kind]
    layer = nn.Module()
    layer.thing = make()

    @ndl.jit(warmup=0)
    def step(x):
        layer.thing = make()
        return x * (read(layer.thing) if reads else 2)

    one = ndl.Tensor([1.0])
    assert [step(one).item() for _ in range(4)] == [2] * 4
    assert len(step.programs) == 1
    change(layer.thing, 5)
    assert step(one).item() == 2
    assert read(layer.thing) == 2


def test_a_state_tensor_of_another_class():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(np.ones(2))

    layer = Layer()

    @ndl.jit
    def step(x):
        (x * layer.w).sum().backward()
        count = len(layer.parameters())
        layer.w = type(layer.w)(layer.w.data - 0.1 * layer.w.grad.data)
        return x * count

    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    for cls in (nn.Parameter, ndl.Tensor, nn.Parameter):
        layer.w = cls(np.ones(2))
        for _ in range(3):
            assert step(x).tolist() == ([1.0, 2.0] if cls is nn.Parameter else [0.0, 0.0])
            assert type(layer.w) is cls


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_plain_tensor_in_place_of_a_parameter(warmup):
    layer = nn.Module()

    @ndl.jit(warmup=warmup)
    def step(x):
        count = len(layer.parameters())
        layer.w = (layer.w * 0.5).detach()
        return x * layer.w + count

    for _ in range(3):
        layer.w = nn.Parameter(np.ones(1))
        layer.w.requires_grad = False
        for expected in (1.5, 0.25, 0.125):
            assert step(ndl.Tensor([1.0])).tolist() == [expected]
            assert type(layer.w) is ndl.Tensor


DIFFERENT = {
    "numbers in tuples": ((1, 2), (1.0, 2)),
    "zeros in tuples": (((0.0,),), ((-0.0,),)),
    "frozen sets": (frozenset([1]), frozenset([True])),
    "zeros in frozen sets": (frozenset([0.0]), frozenset([-0.0])),
    "complex zeros": (0j, complex(0.0, -0.0)),
    "slices": (slice(0, 1), slice(False, True)),
}


@pytest.mark.parametrize(("before", "new"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_python_calls_equal_and_shows_otherwise_is_assigned(before, new):
    module = nn.Module()
    module.config = before

    @ndl.jit(warmup=0)
    def step(x):
        module.config = new
        return x * 2

    for _ in range(3):
        step(np.ones(2))
        assert repr(module.config) == repr(new)
        module.config = before


@pytest.mark.parametrize(("before", "new"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_python_calls_equal_and_shows_otherwise_is_read(before, new):
    module = nn.Module()
    module.config = before
    scaled = ndl.jit(lambda x: x * (2 if repr(module.config) == repr(before) else 3), warmup=0)
    for config, scale in ((before, 2), (new, 3), (before, 2)):
        module.config = config
        for _ in range(2):
            assert scaled(np.ones(1)).item() == scale
