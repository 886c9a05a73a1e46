"""Float arguments where the library's functions take a number."""

import numpy as np
import pytest

import needle as ndl

FUNCTIONS = {
    "add_scalar": ndl.add_scalar,
    "mul_scalar": ndl.mul_scalar,
    "divide_scalar": ndl.divide_scalar,
    "power_scalar": ndl.power_scalar,
    "clip": lambda x, c: x.clip(-c, c),
    "clip below": lambda x, c: ndl.clip(x, c),
    "clip above": lambda x, c: ndl.clip(x, None, c),
    "full": lambda x, c: ndl.full((2, 3), c),
    "full of no axes": lambda x, c: ndl.full((), c, "float64"),
    "full of integers": lambda x, c: ndl.full((2,), c, "int64"),
    "full_like": lambda x, c: x.full_like(c),
    "constant": lambda x, c: ndl.init.constant(3, c=c),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_functions_of_a_number_take_a_float_argument(function, dtype):
    x = ndl.Tensor(np.array([1, 2, 3]), dtype=dtype, requires_grad=False)
    step = ndl.jit(function, warmup=0)
    for number in (0.5, 2.0, 0.25, 3.0):
        got, expected = step(x, number), function(x, number)
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-6)
    assert len(step.programs) == 1


def test_the_derivative_of_a_clip_is_one_at_its_limits():
    x = ndl.Tensor(np.array([-3.0, -2.0, 0.5, 2.0, np.nan]))
    slope = ndl.jit(ndl.grad(lambda x, c: x.clip(-c, c).sum()), warmup=0)
    np.testing.assert_array_equal(slope(x, 2.0).numpy(), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(slope(x, 0.5).numpy(), [0, 0, 1, 0, 0])
    eager = ndl.grad(lambda x: x.clip(-2.0, 2.0).sum())(x)
    np.testing.assert_array_equal(eager.numpy(), [0, 1, 1, 1, 0])


OF_A_NUMBER = {
    "exp": lambda x, c: ndl.exp(c),
    "sqrt times a number": lambda x, c: ndl.sqrt(c) * 2,
    "beside a tensor": lambda x, c: x * ndl.tanh(c),
    "sum": lambda x, c: ndl.summation(c) + x,
    "clip": lambda x, c: ndl.clip(c, 0.0, 1.0) * x,
    "arithmetic": lambda x, c: (2 - 1 / c) ** 2 * x,
    "a float": lambda x, c: -abs(c) / 3,
}


@pytest.mark.parametrize("function", OF_A_NUMBER.values(), ids=OF_A_NUMBER)
def test_functions_of_a_float_argument_give_what_they_give_of_a_number(function):
    """A tensor of float64, which counts beside others; arithmetic gives a float, which does not."""
    x = ndl.Tensor(2.0, dtype="float32", requires_grad=False)
    step = ndl.jit(function, warmup=0)
    for number in (0.5, 2.0, 0.25):
        got, expected = step(x, number), function(x, number)
        assert type(got) is type(expected)
        assert isinstance(got, float) or got.dtype == expected.dtype
        assert float(got) == pytest.approx(float(expected), rel=1e-6)


def test_gradients_are_clipped_to_a_float_argument():
    def run(jit):
        parameter, found = ndl.nn.Parameter([3.0, 4.0]), []
        optimizer = ndl.optim.SGD([parameter])

        @jit
        def step(largest):
            (parameter * parameter / 2).sum().backward()
            norm, grad = optimizer.clip_grad_norm(largest), parameter.grad
            optimizer.reset_grad()
            return norm, grad

        for largest in (0.5, 2.5, 10.0):
            norm, grad = step(largest)
            found += [norm.item(), *grad.tolist()]
        return found

    np.testing.assert_allclose(run(lambda f: ndl.jit(f, warmup=0)), run(lambda f: f), rtol=1e-6)
