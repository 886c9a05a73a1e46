"""check_gradients finds wrong gradients and lets right ones pass."""

import numpy as np
import pytest

import needle as ndl
from needle.errors import ArgumentError, GradientError


class Wrong(ndl.TensorOp):
    """y = a², with a gradient that is wrong where a > 1."""

    def compute(self, a):
        return a * a

    def gradient(self, out_grad, node):
        a = node.inputs[0]
        return out_grad * ndl.where(a.greater(1), a * 2.001, a * 2)


class WrongTwice(ndl.TensorOp):
    """y = a³, whose gradient is right and the gradient's gradient is not."""

    def compute(self, a):
        return a**3

    def gradient(self, out_grad, node):
        a = node.inputs[0]
        return out_grad * (a * a.detach()) * 3


def test_a_wrong_gradient_is_named_with_argument_position_and_both_values():
    message = (
        r"check_gradients: argument 1 at \(1, 0\): finite differences give \S+, the gradient is "
        r"\S+ \(allowed difference \S+\). Correct the operator's gradient rule"
    )
    with pytest.raises(GradientError, match=message):
        ndl.check_gradients(lambda x, y: x * Wrong()(y), np.ones((2, 1)), [[0.5], [1.5]])


def test_second_order_finds_what_first_order_does_not():
    ndl.check_gradients(WrongTwice(), [0.5, 1.5])
    with pytest.raises(GradientError, match="check_gradients: argument 0"):
        ndl.check_gradients(WrongTwice(), [0.5, 1.5], order=2)


def test_a_gradient_of_the_right_size_and_wrong_sign():
    class Minus(ndl.TensorOp):
        def compute(self, a):
            return a * 2

        def gradient(self, out_grad, node):
            return -out_grad * 2

    with pytest.raises(GradientError):
        ndl.check_gradients(Minus(), 1.0)


def test_a_nan_is_wrong():
    with np.errstate(all="ignore"), pytest.raises(GradientError):
        ndl.check_gradients(lambda x: ndl.sqrt(x - 1), [1.0])


def test_float32_is_checked_in_float64():
    ndl.check_gradients(ndl.tanh, ndl.Tensor(np.random.randn(3), dtype="float32"))


def test_integers_and_bools_are_passed_on():
    ndl.check_gradients(
        lambda x, index, mask: ndl.where(mask, x.take(index), 0.5 * x),
        np.random.randn(3),
        np.array([2, 0, 0]),
        np.array([True, False, True]),
    )


@pytest.mark.parametrize(("arguments", "dtypes"), [([[1, 2], True], "int64, bool"), ([], "none")])
def test_that_nothing_would_be_checked_is_an_error(arguments, dtypes):
    with pytest.raises(ArgumentError, match=f"no argument is floating-point, got {dtypes}. Write"):
        ndl.check_gradients(Wrong(), *arguments)


@pytest.mark.parametrize("result", [lambda x: x.numpy(), lambda x: ()])
def test_a_function_that_returns_no_tensor_is_refused(result):
    with pytest.raises(GradientError, match=r"check_gradients: the function returned .* Return a"):
        ndl.check_gradients(result, [1.0])


@pytest.mark.parametrize("shape", [(), (0,), (1, 1)])
def test_shapes(shape):
    ndl.check_gradients(lambda x: x * x, np.ones(shape), order=2)


def test_several_results_and_those_without_a_gradient():
    ndl.check_gradients(lambda x: (x * 2, ndl.argmax(x), ndl.make_tuple(x)[0]), [1.0, 2.0])
    ndl.check_gradients(lambda x: ndl.fused_add_scalars(x, 1, 2), [1.0, 2.0], order=2)


def test_an_argument_that_is_not_used():
    ndl.check_gradients(lambda x, y: x * 2, [1.0], [2.0], order=2)


def test_arguments_are_left_alone():
    x = ndl.Tensor([1.0, 2.0])
    with ndl.no_grad():
        ndl.check_gradients(ndl.exp, x, order=2)
    np.testing.assert_array_equal(x.numpy(), [1, 2])
    assert x.grad is None


def test_third_order():
    ndl.check_gradients(lambda x: x**4, [0.5, 1.0], order=3)
