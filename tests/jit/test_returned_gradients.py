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


def h_alone(model, x):
    model.h = (model.h * 0.5 + x).detach()


def h_whose_gradient_is_returned(model, x):
    grad = model.h.grad
    h_alone(model, x)
    return grad


def h_whose_gradient_is_set(model, x):
    model.h.grad = x * 1
    h_alone(model, x)


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize(
    "function", [h_alone, h_whose_gradient_is_returned, h_whose_gradient_is_set]
)
def test_a_new_tensor_in_a_slot_has_no_gradient_of_the_one_before(function, hold, warmup):
    def run(jit):
        model = nn.Module()
        model.h = ones(1, 2)
        step = jit(lambda x: function(model, x))

        def call(number):
            if number in (0, 3, 4, 6):
                model.h.grad = ones(number, 1)
            before = [model.h] if hold else []
            result = step(ones(number, 1))
            grads = [tensor.grad for tensor in [*before, model.h]]
            return [model.h.tolist(), *[grad and grad.tolist() for grad in [*grads, result]]]

        return [call(number) for number in range(9)]

    assert run(lambda f: ndl.jit(f, warmup=warmup)) == run(lambda f: f)


def test_a_tensor_that_is_given_its_gradient_is_not_the_new_one_in_a_slot():
    """Both slots hold it at the call."""

    def run(jit):
        model = nn.Module()
        model.h = model.k = ones(1, 2)

        def step(x):
            model.h.grad = model.k
            model.k = (model.k * 0.5 + x).detach()

        step(ones(1, 1))
        compiled, seen = jit(step), []
        for number in range(4):
            compiled(ones(number, 1))
            seen += [model.h.grad.tolist(), model.k.tolist(), model.k.grad]
            model.h = model.k
        return seen

    assert run(lambda f: ndl.jit(f, warmup=0)) == run(lambda f: f)


def test_the_gradient_of_an_argument_that_another_program_updates_is_read():
    w = nn.Parameter([1.0, 2.0])

    @ndl.jit(warmup=0)
    def update():
        w.data = w * 2

    with_gradient = ndl.jit(lambda x: (x * w, w.grad * 1), warmup=0)
    update()
    w.grad = ndl.Tensor([5.0, 6.0], requires_grad=False)
    product, gradient = with_gradient(w)
    assert product.tolist() == [4.0, 16.0]
    assert gradient.tolist() == [5.0, 6.0]
    product.sum().backward()
    assert w.grad.tolist() == [4.0, 8.0]
