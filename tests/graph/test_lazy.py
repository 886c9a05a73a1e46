"""LAZY_MODE: operators record, and compute when a value is read."""

import numpy as np
import pytest

import needle as ndl
from needle.autograd import Tensor
from needle.errors import ShapeError


class Lazily:
    def __enter__(self):
        ndl.autograd.LAZY_MODE = True

    def __exit__(self, *error):
        ndl.autograd.LAZY_MODE = False


class Counting(ndl.TensorOp):
    """Counts how often it computes."""

    def __init__(self):
        self.count = 0

    def compute(self, a):
        self.count += 1
        return a * 2

    def infer(self, a):
        return a

    def gradient(self, out_grad, node):
        return out_grad * 2


def test_lazy_computes_on_demand_and_once():
    assert ndl.autograd.LAZY_MODE is False
    operator = Counting()
    x = Tensor([1.0])
    with Lazily():
        assert ndl.autograd.LAZY_MODE is True
        y = operator(x)
        z = y + y
        assert (z.shape, z.dtype, operator.count) == ((1,), np.float64, 0)
        assert z.numpy()[0] == 4
        assert z.numpy()[0] == 4
        assert operator.count == 1
    assert operator(x).numpy()[0] == 2
    assert operator.count == 2


class Twice(ndl.TensorOp):
    """Without a shape rule, as programs write it."""

    computed = 0

    def compute(self, a):
        self.computed += 1
        return a * 2

    def gradient(self, out_grad, node):
        return out_grad * 2


class Pair(ndl.TensorTupleOp):
    computed = 0

    def compute(self, a):
        self.computed += 1
        return a, a * 3

    def gradient(self, out_grad, node):
        return out_grad[0] + out_grad[1] * 3


def test_operators_without_a_shape_rule_are_lazy_too():
    double, pair = Twice(), Pair()
    x = Tensor([1.0, 2.0])
    with Lazily():
        y = double(double(x))
        parts = pair(y)
        assert (double.computed, pair.computed) == (0, 0)
        assert (type(y), type(parts)) == (Tensor, ndl.TensorTuple)
        assert y.shape == (2,)
        assert (double.computed, pair.computed) == (2, 0)
        (parts[0] * parts[1]).sum().backward()
        assert (double.computed, pair.computed) == (2, 1)
    np.testing.assert_array_equal(x.grad.numpy(), 2 * 3 * 16 * x.numpy())


def test_lazy_and_eager_values_mix():
    x = Tensor([2.0])
    with Lazily():
        y = x * x
    z = y * 3
    with Lazily():
        w = z + y
    w.backward()
    assert (w.item(), x.grad.item()) == (16, 16)


def test_lazy_errors_come_at_their_line():
    with Lazily(), pytest.raises(ShapeError, match="add: shapes"):
        Tensor([1.0]) + Tensor([1.0, 2.0])


def test_lazy_training_is_eager_training():
    def train():
        np.random.seed(0)
        w = ndl.nn.Parameter(np.random.randn(3, 2), dtype="float32")
        optimizer = ndl.optim.Adam([w], lr=0.1, weight_decay=0.01)
        for _ in range(5):
            optimizer.reset_grad()
            loss = ndl.relu(Tensor(np.random.randn(4, 3), dtype="float32") @ w).sum()
            loss.backward()
            optimizer.step()
        return w.numpy()

    eager = train()
    with Lazily():
        lazy = train()
    assert lazy.dtype == np.float32
    np.testing.assert_array_equal(lazy, eager)


def test_a_lazy_tensor_is_copied():
    with Lazily():
        y = Tensor([1.0]) + 1
        twin = Tensor(y)
        twin.realize_cached_data()[0] = 9
        assert y.item() == 2
        assert twin.is_leaf()
