"""Batch normalisation against NumPy; what is known beforehand changes nothing; what is refused."""

import numpy as np
import pytest

import needle as ndl
from needle.errors import DTypeError, ShapeError


def operands(dtype="float64"):
    x, w, b, mean, var = (np.random.randn(*shape) for shape in [(5, 3), *[(3,)] * 4])
    return [ndl.Tensor(a, dtype=dtype) for a in (x * 2 + 3, w, b, mean, var**2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpys_values(dtype):
    tensors = operands(dtype)
    x, w, b, mean, var = (t.numpy().astype("float64") for t in tensors)
    y, *running = ndl.batch_norm(*tensors, momentum=0.25, eps=0.5)
    expected = w * (x - x.mean(0)) / np.sqrt(x.var(0) + 0.5) + b
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for ours, theirs in zip(
        (y, *running),
        (expected, 0.75 * mean + 0.25 * x.mean(0), 0.75 * var + 0.25 * x.var(0)),
        strict=True,
    ):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=tolerance, atol=tolerance)
    assert not any(t.requires_grad for t in running)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_known_changes_nothing(dtype):
    x, w, b, *_ = operands(dtype)
    out_grad = ndl.Tensor(np.random.randn(5, 3), dtype=dtype)
    centred, var, *_ = ndl.BatchStatistics(0.1)(x, w, b)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    results = []
    for y in (ndl.BatchNorm(1e-5)(x, w, b), ndl.BatchNorm(1e-5)(x, w, b, centred, var)):
        y.backward(out_grad)
        found = [y, x.grad, w.grad, b.grad]
        total = (x.grad * x.grad).sum() + (w.grad * w.grad).sum()
        total.backward()
        results.append([t.numpy() for t in (*found, x.grad, w.grad, out_grad.grad)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_gradients_through_the_function():
    x, w, b, mean, var = operands()
    ndl.check_gradients(
        lambda *t: ndl.batch_norm(*t, mean, var)[0] ** 2, x.numpy(), w.numpy(), b.numpy(), order=2
    )


def test_operands_keep_their_values():
    tensors = [*operands(), ndl.ones(5, 3)]
    before = [t.numpy().copy() for t in tensors]
    y, *_ = ndl.batch_norm(*tensors[:5])
    y.backward(tensors[5])
    for tensor, values in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), values)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (
            (3,),
            ShapeError,
            r"x of shape \(3,\) with rows of shapes \(3,\), \(3,\). Pass x of shape",
        ),
        ((5, 2), ShapeError, r"x of shape \(5, 2\) with rows of shapes \(3,\), \(3,\)"),
        ((0, 3), ShapeError, r"shape \(0, 3\) has nothing to average over axes \(0,\)"),
        ((5, 3), DTypeError, "not defined for dtype int64. Convert with astype first"),
    ],
)
def test_what_is_refused(shape, error, message, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    x = ndl.zeros(*shape, dtype="int64" if error is DTypeError else "float32")
    row = ndl.ones(3)
    calls = {
        "batch_statistics": lambda: ndl.batch_norm(x, row, row, row, row),
        "batch_norm": lambda: ndl.BatchNorm(0.1)(x, row, row).shape,
    }
    for name, call in calls.items():
        with pytest.raises(error, match=f"^{name}: {message}"):
            call()
    with pytest.raises(error, match=r"^batch_norm_gradient: "):
        len(ndl.BatchNormGradient(0.1)(x, x, row))


@pytest.mark.parametrize("rows", [1024, 1025, 100_003])
@pytest.mark.parametrize(
    "call", [lambda f: f, lambda f: ndl.jit(f, warmup=0)], ids=["eager", "jit"]
)
def test_statistics_of_many_rows_keep_their_digits(call, rows):
    x = np.random.default_rng(0).normal(1000, 1, (rows, 5)).astype("float32")
    zero, one = np.zeros(5, "float32"), np.ones(5, "float32")

    def run(*tensors):
        return ndl.batch_norm(*tensors, momentum=1.0)

    y, mean, var = call(run)(
        *[ndl.Tensor(a, requires_grad=False) for a in (x, one, zero, zero, one)]
    )
    exact = x.astype("float64")
    np.testing.assert_allclose(mean.numpy(), exact.mean(0), rtol=4e-7)
    np.testing.assert_allclose(var.numpy(), exact.var(0), rtol=1e-5)
    normal = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(y.numpy(), normal, atol=4e-4)


def test_many_rows_of_no_column():
    x, none = ndl.Tensor(np.ones((2050, 0), "float32")), ndl.Tensor(np.ones(0, "float32"))
    y, mean, _ = ndl.batch_norm(x, none, none, none, none)
    assert (y.shape, mean.shape) == ((2050, 0), (0,))


def test_statistics_of_many_float16_rows():
    x = np.random.default_rng(0).normal(3, 1, (70_000, 2)).astype("float16")
    one, zero = (np.full(2, value, "float16") for value in (1, 0))
    tensors = [ndl.Tensor(a, requires_grad=False) for a in (x, one, zero, zero, one)]
    _, mean, var = ndl.batch_norm(*tensors, momentum=1.0)
    np.testing.assert_allclose(mean.numpy(), x.astype("float64").mean(0), rtol=1e-3)
    np.testing.assert_allclose(var.numpy(), x.astype("float64").var(0), rtol=5e-3)
    for ours, theirs in zip(ndl.moments(tensors[0], axes=0), (mean, var), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float64"])
@pytest.mark.parametrize("of_x", ["float16", "float32", "float64"])
def test_dtypes_of_running_statistics_are_known_before_their_values(of_x, dtype, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "numpy")  # what is computed is compared with the shape rule

    def normalised(x, row, running):
        return list(ndl.batch_norm(x, row, row, running, running))

    x, row = ndl.ones(4, 3, dtype=of_x), ndl.ones(3, dtype=of_x)
    args = x, row, ndl.ones(3, dtype=dtype)
    results = ndl.jit(normalised, warmup=0)(*args)
    assert [t.dtype for t in results] == [t.dtype for t in normalised(*args)]
