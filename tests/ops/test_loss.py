"""Cross-entropy against its definition, at the extremes, and what it refuses."""

import numpy as np
import pytest
import scipy.special

import needle as ndl
from needle.errors import DTypeError, IndexRangeError, ShapeError


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5])
def test_cross_entropy_is_scipys(scale):
    z, y = np.random.randn(5, 4) * scale, np.array([0, 3, 1, 1, 2])
    expected = np.mean(scipy.special.logsumexp(z, 1) - z[np.arange(5), y])
    logits = ndl.Tensor(z)
    loss = ndl.cross_entropy(logits, y)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-13)
    loss.backward()
    softmax = scipy.special.softmax(z, 1)
    softmax[np.arange(5), y] -= 1
    np.testing.assert_allclose(logits.grad.numpy(), softmax / 5, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shift", [1e5, -1e5, 1e30])
@pytest.mark.parametrize(
    "call", [lambda f: f, lambda f: ndl.jit(f, warmup=0)], ids=["eager", "jit"]
)
def test_large_logits_of_float32_keep_their_digits(shift, call):
    z = (np.array([[0.0, 1.0, -2.0], [3.0, 3.0, 3.0]]) + shift).astype("float32")
    exact, y = z.astype("float64"), np.array([1, 0])
    value, gradient = call(ndl.value_and_grad(ndl.cross_entropy))(ndl.Tensor(z), ndl.Tensor(y))
    log_softmax = scipy.special.log_softmax(exact, 1)
    np.testing.assert_allclose(value.item(), -log_softmax[[0, 1], y].mean(), rtol=1e-6)
    expected = (np.exp(log_softmax) - np.eye(3)[y]) / 2
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_infinite_logits():
    z = ndl.Tensor([[0.0, -np.inf], [np.inf, 0.0]])
    assert ndl.cross_entropy(z, [1, 1]).item() == np.inf
    assert ndl.cross_entropy(z[:1], [0]).item() == 0


def test_integer_logits_are_float64():
    assert ndl.cross_entropy(ndl.Tensor([[1, 2]]), [0]).dtype == np.float64


@pytest.mark.parametrize(
    ("shape", "labels", "error", "message"),
    [
        ((3,), [0], ShapeError, r"logits of shape \(3,\) and y of shape \(1,\). Pass \(batch, cl"),
        ((2, 3), [0], ShapeError, r"logits of shape \(2, 3\) and y of shape \(1,\)"),
        ((0, 3), np.zeros(0), ShapeError, r"logits of shape \(0, 3\) .* both sizes >= 1"),
        ((2, 3), [0, 3], IndexRangeError, r"index 3 at position \(1,\) is out of range for size 3"),
        ((2, 3), [-1, 0], IndexRangeError, r"index -1 at position \(0,\)"),
        ((2, 3), [0.5, 0], DTypeError, "index 0.5 is no whole number"),
    ],
)
def test_cross_entropy_refuses(shape, labels, error, message):
    with pytest.raises(error, match=f"cross_entropy: {message}"):
        ndl.cross_entropy(ndl.zeros(*shape), labels)


def test_the_mean_over_many_float16_rows():
    logits = np.zeros((70_000, 4), "float16")
    loss = ndl.cross_entropy(ndl.Tensor(logits), ndl.Tensor(np.zeros(70_000), requires_grad=False))
    np.testing.assert_allclose(loss.item(), np.log(4), rtol=1e-3)
    assert loss.dtype == "float16"


def test_many_classes_of_float16_are_summed_in_float32():
    logits, classes = ndl.Tensor(np.zeros((2, 70_000), "float16")), ndl.Tensor([0, 1])
    loss = ndl.cross_entropy(logits, classes)
    assert loss.dtype == np.float16
    np.testing.assert_allclose(loss.numpy(), np.log(70_000), rtol=1e-3)
    loss.backward()
    np.testing.assert_allclose(logits.grad.numpy()[0, :2], [-0.5, 0.5 / 70_000], rtol=1e-2)
