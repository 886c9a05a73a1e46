"""apps/simple_ml.py against NumPy."""

import numpy as np
import pytest
import simple_ml
from scipy import special

import needle as ndl

from .mnist_files import DATA, cut, read


def test_parse_mnist(tmp_path):
    for folder, part in ((DATA, "t10k"), (tmp_path, "train")):
        expected, labels = read(part) if folder == DATA else cut(folder, part, 7)
        X, y = simple_ml.parse_mnist(
            f"{folder}/{part}-images-idx3-ubyte.gz", f"{folder}/{part}-labels-idx1-ubyte.gz"
        )
        assert (X.shape, X.dtype) == ((len(labels), 784), np.float32)
        assert (y.shape, y.dtype) == ((len(labels),), np.uint8)
        if folder == DATA:
            assert X.tobytes() == (expected.astype("float32") / np.float32(255)).tobytes()
        assert (X.min(), X.max()) == (0, 1)
        np.testing.assert_array_equal(y, labels)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    cut(tmp_path, "train", 7)
    images, labels = DATA / "t10k-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    with pytest.raises(ndl.DataError, match=r"holds 10000 images, .* 7 labels. Give two files of"):
        simple_ml.parse_mnist(images, labels)
    with pytest.raises(ndl.DataError, match=r"labels.*not bytes of images.*files in their places"):
        simple_ml.parse_mnist(labels, images)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hit_dtype", ["float32", "float64", "int64"])
def test_softmax_loss_is_differentiable_in_both_arguments(dtype, hit_dtype):
    z = np.random.randn(6, 4) * 3
    y = np.random.randint(4, size=6)
    Z, hit = ndl.Tensor(z, dtype=dtype), ndl.Tensor(np.eye(4)[y], dtype=hit_dtype)
    loss = simple_ml.softmax_loss(Z, hit)
    assert loss.shape == ()
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12}
    expected = (special.logsumexp(z, axis=1) - z[np.arange(6), y]).mean()
    np.testing.assert_allclose(loss.numpy(), expected, **tolerance)
    loss.backward()
    assert Z.grad.dtype == np.dtype(dtype)
    np.testing.assert_allclose(
        Z.grad.numpy(), (special.softmax(z, 1) - np.eye(4)[y]) / 6, **tolerance
    )
    np.testing.assert_allclose(hit.grad.numpy(), -z / 6, rtol=1e-5, atol=1e-6)


def test_softmax_loss_does_not_cancel_what_all_samples_share():
    z = np.random.randn(1000, 10) + 1e4
    y = np.random.randint(10, size=1000)
    Z = ndl.Tensor(z, dtype="float32")
    exact = Z.numpy().astype("float64")
    expected = (special.logsumexp(exact, axis=1) - exact[np.arange(1000), y]).mean()
    loss = simple_ml.softmax_loss(Z, ndl.Tensor(np.eye(10)[y], dtype="float32"))
    assert float(loss) == pytest.approx(expected, abs=2e-3)


def test_softmax_loss_to_second_order():
    hit = np.eye(4)[[0, 3, 1]]
    ndl.check_gradients(simple_ml.softmax_loss, ndl.Tensor(np.random.randn(3, 4)), ndl.Tensor(hit))


def numpy_epoch(X, y, W1, W2, lr, batch):
    for start in range(0, len(y), batch):
        x, labels = X[start : start + batch], y[start : start + batch]
        h = np.maximum(x @ W1, 0)
        g = (special.softmax(h @ W2, axis=1) - np.eye(W2.shape[1])[labels]) / len(labels)
        W1, W2 = W1 - lr * (x.T @ (g @ W2.T * (h > 0))), W2 - lr * (h.T @ g)
    return W1, W2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("lr", "batch"), [(0.1, 100), (1.0, 32), (np.float64(0.2), 7)])
def test_nn_epoch_is_plain_sgd_over_the_samples_in_order(lr, batch, dtype):
    np.random.seed(0)
    X = np.random.randn(150, 5).astype(dtype)
    y = np.random.randint(3, size=150).astype(np.uint8)
    start = [np.random.randn(5, 10).astype(dtype), np.random.randn(10, 3).astype(dtype)]
    W1, W2 = (ndl.Tensor(W) for W in start)
    np.random.seed(1)
    W1, W2 = simple_ml.nn_epoch(X, y, W1, W2, lr=lr, batch=batch)
    after = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == after
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11}
    expected = numpy_epoch(X.astype("float64"), y, *(W.astype("float64") for W in start), lr, batch)
    for ours, theirs in zip((W1, W2), expected, strict=True):
        assert ours.dtype == np.dtype(dtype)
        assert ours.requires_grad
        np.testing.assert_allclose(ours.numpy(), theirs, **tolerance)


def test_nn_epoch_has_its_published_defaults():
    assert simple_ml.nn_epoch.__defaults__ == (0.1, 100)


def test_nn_epoch_learns_mnist_one_epoch_far():
    """Two layers, one epoch of the test digits: far better than chance on the same digits."""
    X, y = simple_ml.parse_mnist(
        f"{DATA}/t10k-images-idx3-ubyte.gz", f"{DATA}/t10k-labels-idx1-ubyte.gz"
    )
    np.random.seed(0)
    W1 = ndl.Tensor(np.random.randn(784, 50).astype("float32") / np.sqrt(50))
    W2 = ndl.Tensor(np.random.randn(50, 10).astype("float32") / np.sqrt(10))
    W1, W2 = simple_ml.nn_epoch(X, y, W1, W2, lr=0.2, batch=100)
    loss, error = simple_ml.loss_err(ndl.relu(ndl.Tensor(X) @ W1) @ W2, y)
    assert error < 0.2
    assert loss < 0.7


def test_loss_err_gives_numpy_numbers():
    z = np.random.randn(8, 3).astype("float32")
    y = np.random.randint(3, size=8).astype(np.uint8)
    loss, error = simple_ml.loss_err(ndl.Tensor(z), y)
    expected = (special.logsumexp(z.astype("float64"), axis=1) - z[np.arange(8), y]).mean()
    assert np.ndim(loss) == np.ndim(error) == 0
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert error == (z.argmax(1) != y).mean()
    assert np.array([error, loss]).dtype == np.float64


def test_star_import_gives_the_names_that_programs_use():
    names = {}
    exec("from simple_ml import *", names)
    assert names["np"] is np
    assert names["ndl"] is ndl
    assert {"parse_mnist", "softmax_loss", "nn_epoch", "loss_err"} <= names.keys()
