"""Losses against written-out NumPy, with labels as they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import needle as ndl
from needle import nn

from .oracles import DTYPES, close, numerical_gradient, tensor

LABEL_DTYPES = ["uint8", "int8", "int32", "int64", "uint64", "float16", "float32", "float64"]


def softmax_loss(z, y):
    return (special.logsumexp(z, axis=1) - z[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("labels", LABEL_DTYPES)
@pytest.mark.parametrize("batch", [1, 7])
def test_softmax_loss_and_its_gradient(batch, labels, dtype):
    logits = tensor(batch, 5, dtype=dtype, scale=3)
    y = np.random.randint(5, size=batch)
    targets = ndl.Tensor(y.astype(labels))
    loss = nn.SoftmaxLoss()(logits, targets)
    z = logits.numpy().astype("float64")
    close(loss, softmax_loss(z, y), dtype)
    loss.backward()
    close(logits.grad, (special.softmax(z, axis=1) - np.eye(5)[y]) / batch, dtype)
    assert targets.grad is None


def test_softmax_loss_takes_bool_labels_and_arrays():
    z = tensor(3, 2)
    y = np.array([True, False, True])
    close(nn.SoftmaxLoss()(z, ndl.Tensor(y)), softmax_loss(z.numpy(), y.astype(int)))
    close(nn.SoftmaxLoss()(z, y), softmax_loss(z.numpy(), y.astype(int)))


@given(st.floats(1, 1e5), st.integers(0, 2**32 - 1))
def test_softmax_loss_is_stable(scale, seed):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((4, 3)) * scale
    y = rng.integers(3, size=4)
    logits = ndl.Tensor(z, dtype="float32")
    loss = nn.SoftmaxLoss()(logits, ndl.Tensor(y))
    loss.backward()
    expected = softmax_loss(logits.numpy().astype("float64"), y)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-6, atol=1e-6 * scale)
    assert np.isfinite(logits.grad.numpy()).all()


def test_softmax_loss_to_second_order():
    y = ndl.Tensor([2, 0, 1])
    ndl.check_gradients(lambda z: nn.SoftmaxLoss()(z, y), tensor(3, 4))


WRONG = {
    "axes": ((2, 3, 4), np.zeros((2, 3)), ndl.ShapeError, r"logits of shape \(2, 3, 4\)"),
    "batch": ((2, 3), np.zeros(3), ndl.ShapeError, r"and y of shape \(3,\)\. Pass \(batch, cl"),
    "one-hot": ((2, 3), np.zeros((2, 3)), ndl.ShapeError, r"and y of shape \(2, 3\)"),
    "empty": ((0, 3), np.zeros(0), ndl.ShapeError, r"logits of shape \(0, 3\).*sizes >= 1"),
    "class": ((2, 3), np.array([0, 3]), ndl.IndexRangeError, r"index 3 at position \(1,\)"),
    "negative": ((2, 3), np.array([-1, 0]), ndl.IndexRangeError, r"index -1 at position \(0,\)"),
    "fraction": ((2, 3), np.array([0.5, 0]), ndl.DTypeError, r"index 0\.5 is no whole number"),
    "NaN": ((2, 3), np.array([np.nan, 0]), ndl.DTypeError, "index nan is no whole number"),
}


@pytest.mark.parametrize(("shape", "y", "error", "message"), WRONG.values(), ids=WRONG)
def test_softmax_loss_refuses_what_does_not_fit(shape, y, error, message):
    with pytest.raises(error, match="^SoftmaxLoss: .*" + message):
        nn.SoftmaxLoss()(ndl.init.zeros(*shape), ndl.Tensor(y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (4,), (3, 2), (2, 1, 3)])
def test_mse_loss(shape, dtype):
    x, y = tensor(*shape, dtype=dtype), tensor(*shape, dtype=dtype)
    loss = nn.MSELoss()(x, y)
    X, Y = x.numpy(), y.numpy()
    close(loss, ((X - Y) ** 2).mean(), dtype)
    loss.backward()
    close(x.grad, 2 * (X - Y) / X.size, dtype)
    close(y.grad, 2 * (Y - X) / X.size, dtype)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.BCEWithLogitsLoss()])
def test_losses_do_not_broadcast(loss):
    """(N, 1) against (N,) is the silent error that broadcasting makes of a regression."""
    with pytest.raises(ndl.ShapeError, match=r"shapes \(4, 1\) and \(4,\) differ"):
        loss(ndl.init.ones(4, 1), ndl.init.ones(4))
    with pytest.raises(ndl.ShapeError, match="no elements"):
        loss(ndl.init.ones(0, 1), ndl.init.ones(0, 1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (4,), (3, 2)])
def test_binary_cross_entropy(shape, dtype):
    z = tensor(*shape, dtype=dtype, scale=3)
    y = ndl.Tensor(np.random.rand(*shape), dtype=dtype)
    loss = nn.BCEWithLogitsLoss()(z, y)
    Z, Y = z.numpy().astype("float64"), y.numpy().astype("float64")

    def formula(Z):
        return -(Y * special.log_expit(Z) + (1 - Y) * special.log_expit(-Z)).mean()

    close(loss, formula(Z), dtype)
    loss.backward()
    close(z.grad, (special.expit(Z) - Y) / Z.size, dtype)
    np.testing.assert_allclose(z.grad.numpy(), numerical_gradient(formula, Z), atol=1e-5)


@pytest.mark.parametrize("label", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("logit", [-1e4, -200.0, -30.0, -0.0, 0.0, 30.0, 200.0, 1e4])
def test_binary_cross_entropy_at_zero_and_far_out(logit, label):
    z = ndl.Tensor([logit], dtype="float32")
    loss = nn.BCEWithLogitsLoss()(z, ndl.Tensor([label], dtype="float32"))
    loss.backward()
    expected = -(label * special.log_expit(logit) + (1 - label) * special.log_expit(-logit))
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(z.grad.numpy(), special.expit([logit]) - label, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_the_sure_keeps_its_digits(dtype):
    compute = ndl.jit(nn.BCEWithLogitsLoss())
    for size in (1.0, 10.0, 16.5, 20.0, 36.9, 80.0):
        for label in (0.0, 1.0):
            z = ndl.Tensor([size if label else -size], dtype=dtype)
            for _ in range(2):  # as written, then compiled
                loss = compute(z, ndl.Tensor([label], dtype=dtype)).numpy()
                np.testing.assert_allclose(loss, -special.log_expit(size), 20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("label", [1.0, 0, np.float32(0.25)])
def test_one_number_is_the_target_of_all_logits(label):
    z = ndl.Tensor([0.5, -2.0], dtype="float32")
    loss = nn.BCEWithLogitsLoss()
    expected = loss(z, ndl.Tensor([label, label], dtype="float32")).numpy()
    for compute in (loss, ndl.jit(loss, warmup=0)):
        np.testing.assert_allclose(compute(z, label).numpy(), expected, rtol=1e-6)


def test_binary_cross_entropy_to_second_order():
    y = ndl.Tensor([0.0, 1.0, 0.25, 0.0])
    ndl.check_gradients(lambda z: nn.BCEWithLogitsLoss()(z, y), ndl.Tensor([0.0, 0.0, 1.0, -2.0]))
