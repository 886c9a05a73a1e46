"""What the layer tests share: inputs of a dtype, tolerances, numerical gradients."""

import numpy as np

import needle as ndl

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-5}, "float64": {"rtol": 1e-11, "atol": 1e-12}}


def tensor(*shape, dtype="float64", scale=1.0):
    """Normal numbers that need a gradient."""
    return ndl.Tensor(np.random.randn(*shape) * scale, dtype=dtype)


def close(actual, expected, dtype="float64"):
    """Values, shape and dtype of a tensor are those of a float64 oracle, rounded to `dtype`."""
    assert actual.dtype == np.dtype(dtype)
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual.numpy(), expected, **TOLERANCE[dtype])


def numerical_gradient(f, x, eps=1e-6):
    """Central differences of a function of a float64 array that returns a number."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + eps
        above = f(x)
        x[index] = kept - eps
        gradient[index] = (above - f(x)) / (2 * eps)
        x[index] = kept
    return gradient
