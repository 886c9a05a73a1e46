"""A `.grad` that is returned or kept is that of the tensor, and of this call."""

import numpy as np
import pytest

import needle as ndl
from needle import nn


def ones(*values):
    return ndl.Tensor(np.array(values, np.float32), requires_grad=False)


class World:
    def __init__(self):
        self.w = nn.Parameter(np.ones(2, np.float32))
        self.kept = None

    def set(self, x):
        self.w.grad = None
        (self.w * self.w * x).sum().backward()
        return self.w.grad

    def set_among_others(self, x):
        return {"grads": [self.set(x)], "x": x * 2}

    def keep(self, x):
        self.kept = self.set(x).detach()
        self.w.grad = self.kept


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("name", ["set", "set_among_others", "keep"])
def test_a_gradient_that_is_set_is_the_one_that_is_returned_or_kept(name, warmup):
    world = World()
    world.kept = ones(0, 0)
    step = ndl.jit(getattr(world, name), warmup=warmup)
    for number in range(5):
        result = step(ones(number, 1))
        if name == "keep":
            result = world.kept
        result = result["grads"][0] if name == "set_among_others" else result
        assert result is world.w.grad
        np.testing.assert_array_equal(result.numpy(), [2 * number, 2])
        result.data = result * 3  # as one clips gradients
        np.testing.assert_array_equal(world.w.grad.numpy(), [6 * number, 6])
    assert len(step.programs) == 1


@pytest.mark.parametrize("function", [lambda w: w.grad, lambda w: (w.grad, w.grad * 2)[0]])
def test_a_gradient_that_is_read_is_the_present_one(function):
    w = nn.Parameter(np.ones(2, np.float32))
    read = ndl.jit(lambda: function(w))
    for number in range(5):
        w.grad = given = ones(number, 1)
        assert read() is given
    assert len(read.programs) == 1


def test_a_gradient_that_is_replaced_is_returned_as_it_was():
    w = nn.Parameter(np.ones(2, np.float32))

    def replace():
        before = w.grad
        w.grad = before * 2
        return before

    step = ndl.jit(replace)
    for number in range(5):
        w.grad = ones(number, 1)
        np.testing.assert_array_equal(step().numpy(), [number, 1])
        np.testing.assert_array_equal(w.grad.numpy(), [2 * number, 2])


def test_a_gradient_of_zero_is_one_tensor_too():
    w = nn.Parameter(np.float32(0))

    def step():
        w.grad = None
        (w * w).backward()
        return w.grad

    compiled = ndl.jit(step, warmup=0)
    assert [compiled() is w.grad for _ in range(3)] == [True] * 3
