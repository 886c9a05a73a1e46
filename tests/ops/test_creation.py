"""Tensors from static arguments, and from the random stream."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle.errors import ArgumentError, DTypeError, ShapeError


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), [2, 3], 3, np.array([2, 1])])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [(3, "float32"), (0.5, "float64"), (2, "int64"), (True, "bool"), (np.float32(1.5), "float16")],
)
def test_full(shape, value, dtype):
    result = ndl.full(shape, value, dtype)
    expected = np.full(shape, value, dtype)
    assert (result.shape, result.dtype, result.requires_grad) == (expected.shape, dtype, False)
    assert result.is_leaf()
    np.testing.assert_array_equal(result.numpy(), expected)


def test_like():
    x = ndl.Tensor([[1, 2]], dtype="float16")
    for made, value in [(x.zeros_like(), 0), (x.ones_like(), 1), (x.full_like(2.5), 2.5)]:
        assert (made.shape, made.dtype) == (x.shape, x.dtype)
        np.testing.assert_array_equal(made.numpy(), np.full((1, 2), value))
    assert x.full_like(1, dtype="int8").dtype == np.int8


@given(
    start=st.integers(-20, 20),
    stop=st.integers(-20, 20),
    step=st.integers(-5, 5).filter(bool) | st.sampled_from([0.5, -0.25]),
    dtype=st.sampled_from([None, "float32", "int64"]),
)
def test_arange(start, stop, step, dtype):
    if dtype == "int64" and isinstance(step, float):
        step = 1
    result = ndl.arange(start, stop, step, dtype)
    expected = np.arange(start, stop, step, dtype)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.numpy(), expected)
    np.testing.assert_array_equal(ndl.arange(stop).numpy(), np.arange(stop))


REFUSED = {
    "negative size": (
        lambda: ndl.full((2, -1), 0),
        ShapeError,
        r"full: shape \(2, -1\) has a negative size. Give sizes >= 0",
    ),
    "real size": (
        lambda: ndl.full(2.0, 0),
        ArgumentError,
        "full: shape must be an integer, got 2.0",
    ),
    "no number": (
        lambda: ndl.full((2,), "a"),
        ArgumentError,
        "full: 'a' is not one real number. Pass a number",
    ),
    "infinite integers": (
        lambda: ndl.full((2,), np.inf, "int32"),
        DTypeError,
        "full: int32 cannot hold inf. Use another value or dtype",
    ),
    "integers too large": (lambda: ndl.full((2,), 256, "uint8"), DTypeError, "cannot hold 256"),
    "unknown dtype": (
        lambda: ndl.full((2,), 1, "float31"),
        DTypeError,
        r'full: dtype \'float31\' is not known. Use a NumPy dtype such as "float32"',
    ),
    "dtype of no numbers": (
        lambda: ndl.full((2,), 1, "U3"),
        DTypeError,
        "full: dtype <U3 holds no real numbers. Use a float, integer or bool dtype",
    ),
    "step 0": (
        lambda: ndl.arange(1, 2, 0),
        ArgumentError,
        "arange: step 0 leads nowhere. Use another step",
    ),
    "no bounds": (lambda: ndl.arange("a"), ArgumentError, "arange: 'a' is not one real number"),
    "negative size of a draw": (lambda: ndl.rand(-1), ShapeError, "rand: shape .* negative size"),
    "no probability": (
        lambda: ndl.init.randb(2, p=1.5),
        ArgumentError,
        "randb: p=1.5 is no probability. Use 0 <= p <= 1",
    ),
}


@pytest.mark.parametrize(("compute", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(compute, error, message):
    with pytest.raises(error, match=message):
        compute()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_draws_are_numpys(dtype):
    """Drawn in float64 from the global state, scaled, then cast."""
    np.random.seed(3)
    uniform = (np.random.rand(2, 3) * 5 - 2).astype(dtype)
    normal = (np.random.randn(4) * 0.5 + 1).astype(dtype)
    bits = np.random.rand(3, 3) <= 0.3
    np.random.seed(3)
    drawn = [
        ndl.Uniform((2, 3), -2.0, 3.0, dtype)(),
        ndl.Normal((4,), 1.0, 0.5, dtype)(),
        ndl.Bernoulli((3, 3), 0.3)(),
    ]
    for result, expected in zip(drawn, [uniform, normal, bits], strict=True):
        assert (result.dtype, result.requires_grad) == (expected.dtype, False)
        np.testing.assert_array_equal(result.numpy(), expected)


def test_draws_happen_in_the_order_of_the_program_when_lazy(monkeypatch):
    np.random.seed(3)
    first, second = np.random.rand(2), np.random.rand(2)
    np.random.seed(3)
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    a = ndl.rand(2, dtype="float64")
    b = ndl.Uniform(2, dtype="float64")()
    np.testing.assert_array_equal(b.numpy(), second)
    np.testing.assert_array_equal(a.numpy(), first)
    assert np.random.rand() == np.random.RandomState(3).rand(5)[4]
