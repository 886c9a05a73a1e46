"""What `.grad` may be, and how it is copied."""

import copy

import numpy as np
import pytest

import needle as ndl
from needle import nn


@pytest.mark.parametrize("gradient", [3, 3.0, np.ones(2), [1.0], "1", ndl.make_tuple()])
def test_a_gradient_is_a_tensor_or_none(gradient):
    t = ndl.Tensor([1.0, 2.0])
    kept = t.grad = ndl.Tensor([0.0, 1.0])
    with pytest.raises(ndl.ArgumentError, match=r"grad: a Tensor was given a .*t\.grad = ndl\.Ten"):
        t.grad = gradient
    assert t.grad is kept
    t.grad = None
    pair = ndl.make_tuple(t, t)
    with pytest.raises(ndl.ArgumentError, match=r"a TensorTuple was given a Tensor.*make_tuple"):
        pair.grad = kept


def test_deepcopy_of_gradients_that_go_round():
    a, b = nn.Parameter([1.0]), nn.Parameter([2.0])
    a.grad, b.grad = b, a
    model = nn.Sequential()
    model.a, model.b = a, b
    twin = copy.deepcopy(model)
    assert (twin.a.grad, twin.b.grad) == (twin.b, twin.a)
    assert twin.a.tolist() == [1.0]
    assert twin.a.requires_grad
    assert twin.a is not a
