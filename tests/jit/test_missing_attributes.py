"""Attributes that a function asks for, or sets, and that are not there yet."""

import types

import numpy as np
import pytest

import needle as ndl
from needle import nn


@pytest.mark.parametrize("read", [lambda p: getattr(p, "scale", 1.0), lambda p: scale_of(p)])
def test_attributes_that_tensors_come_to_have(read):
    model = nn.Linear(2, 2)
    step = ndl.jit(lambda x: sum((p.sum() * read(p) for p in model.parameters()), x), warmup=0)
    x = ndl.Tensor(1.0, dtype="float32")

    def expect(weight, bias):
        expected = 1 + weight * model.weight.numpy().sum() + bias * model.bias.numpy().sum()
        for _ in range(2):
            np.testing.assert_allclose(step(x).numpy(), expected, rtol=1e-5)

    expect(1, 1)
    model.weight.scale = 2.0
    expect(2, 1)
    model.bias.scale = 3.0
    expect(2, 3)
    del model.weight.scale
    expect(1, 3)
    count = len(step.programs)
    expect(1, 3)
    assert len(step.programs) == count
    assert not hasattr(ndl.Tensor, "__getattr__")
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'scale'"):
        x.scale  # noqa: B018


def scale_of(parameter):
    try:
        return parameter.scale
    except AttributeError:
        return 1.0


def test_what_a_missing_attribute_of_a_tensor_says_in_a_trace():
    w = nn.Parameter([1.0])
    with pytest.raises(AttributeError, match="'Parameter' object has no attribute 'scale'"):
        ndl.jit(lambda x: x * w.scale, warmup=0)(ndl.Tensor([1.0]))


def test_an_attribute_that_a_function_gives_a_tensor_it_asked_for_it():
    w = nn.Parameter([1.0])

    def function(x):
        if not hasattr(w, "moment"):
            w.moment = ndl.Tensor([0.0], requires_grad=False)
        w.moment.data = w.moment + x
        return w.moment * 1

    step = ndl.jit(function, warmup=0)
    assert [step(ndl.Tensor([2.0])).item() for _ in range(4)] == [2, 4, 6, 8]
    assert len(step.programs) == 1


class Fields:
    __slots__ = ("note",)


@pytest.mark.parametrize(
    "make",
    [lambda: ndl.Tensor([2.0]), Fields, lambda: types.ModuleType("my_module")],
    ids=["tensor", "fields", "module"],
)
def test_the_first_attribute_of_a_thing_is_put_back_and_made_eagerly(make):
    thing, w = make(), ndl.Tensor([2.0])

    def step(x):
        thing.note = x * w
        return thing.note + 1

    step = ndl.jit(step, warmup=0)
    for k in range(3):
        assert step(ndl.Tensor([float(k)])).tolist() == [2.0 * k + 1]
        assert thing.note.tolist() == [2.0 * k]
        assert len(step.programs) == (k > 0)
