"""Functions of one tensor against float64, SciPy and mpmath."""

import mpmath
import numpy as np
import pytest
import scipy.special

import needle as ndl

# Name, the function in float64, and the interval where float32 must keep a relative 1e-6.
FUNCTIONS = {
    "exp": (np.exp, -80, 80),
    "log": (np.log, 1e-30, 1e30),
    "sqrt": (np.sqrt, 0, 1e30),
    "sin": (np.sin, -3, 3),
    "cos": (np.cos, -1.5, 1.5),
    "tanh": (np.tanh, -12, 12),
    "sigmoid": (scipy.special.expit, -80, 80),
    "erf": (scipy.special.erf, -8, 8),
    "silu": (lambda x: x * scipy.special.expit(x), -80, 80),
    "relu": (lambda x: np.maximum(x, 0), -10, 10),
    "abs": (np.abs, -10, 10),
    "sign": (np.sign, -10, 10),
    "step": (lambda x: np.heaviside(x, 0), -10, 10),
    "negate": (np.negative, -10, 10),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def points(low, high, dtype):
    """Evenly spread points, and points that come close to 0 from both sides."""
    spread = np.linspace(low, high, 5001)
    scale = np.geomspace(1e-30, 1, 301) * min(abs(low) or 1, abs(high))
    near = np.concatenate([scale, -scale]) if low < 0 else scale
    array = np.concatenate([spread, near]).astype(dtype)
    return array[(array >= low) & (array <= high)]


@every_function
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 4e-15)])
def test_relative_accuracy(name, dtype, rtol):
    exact, low, high = FUNCTIONS[name]
    x = points(low, high, dtype)
    y = getattr(ndl, name)(ndl.Tensor(x))
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(), exact(x.astype(np.float64)), rtol=rtol, atol=0)


@pytest.mark.parametrize("name", ["erf", "tanh", "sigmoid", "exp", "log"])
def test_float64_against_mpmath(name):
    exact = {
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    }.get(name, getattr(mpmath, name, None))
    low = 1e-6 if name == "log" else -9.0
    x = np.random.RandomState(1).uniform(low, 9.0, 200)
    with mpmath.workdps(40):
        expected = [float(exact(mpmath.mpf(float(value)))) for value in x]
    y = getattr(ndl, name)(ndl.Tensor(x)).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-15 if name == "erf" else 4e-15, atol=0)


def test_erf_to_the_last_digits_everywhere():
    x = np.concatenate([np.linspace(-7, 7, 20_001), np.geomspace(1e-300, 1, 1000)])
    np.testing.assert_allclose(ndl.erf(ndl.Tensor(x)).numpy(), scipy.special.erf(x), rtol=1e-15)


def test_erf_of_special_values():
    y = ndl.erf(ndl.Tensor([np.inf, -np.inf, np.nan, 0.0, -0.0])).numpy()
    np.testing.assert_array_equal(y, [1, -1, np.nan, 0, 0])
    assert np.signbit(y[4])


@every_function
def test_methods_are_the_functions(name):
    x = ndl.Tensor([0.5, 0.25])
    function = getattr(ndl, name)(x)
    method = -x if name == "negate" else getattr(x, name)()
    assert type(method.op) is type(function.op)
    np.testing.assert_array_equal(method.numpy(), function.numpy())


@pytest.mark.parametrize("name", ["exp", "sqrt", "tanh", "sigmoid", "erf", "silu", "gelu", "cos"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_integers_are_computed_in_float64(name, dtype):
    y = getattr(ndl, name)(ndl.Tensor([0, 1], dtype=dtype))
    expected = getattr(ndl, name)(ndl.Tensor([0.0, 1.0]))
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.numpy(), expected.numpy())


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float16", "float32"])
def test_relu_abs_and_sign_keep_the_dtype(dtype):
    x = ndl.Tensor([0, 1, 2], dtype=dtype)
    for name in ("relu", "abs", "sign", "step"):
        assert getattr(ndl, name)(x).dtype == dtype


@pytest.mark.parametrize(
    ("name", "at_zero"), [("relu", 0.0), ("abs", 0.0), ("tanh", 1.0), ("sigmoid", 0.25)]
)
def test_derivative_at_zero(name, at_zero):
    x = ndl.Tensor([0.0])
    getattr(ndl, name)(x).backward()
    assert x.grad.item() == at_zero


def test_nan_and_infinity_pass_through():
    x = ndl.Tensor([np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(ndl.relu(x).numpy(), [np.nan, np.inf, 0])
    np.testing.assert_array_equal(ndl.sigmoid(x).numpy(), [np.nan, 1, 0])
    np.testing.assert_array_equal(ndl.tanh(x).numpy(), [np.nan, 1, -1])
    np.testing.assert_array_equal(ndl.sign(x).numpy(), [0, 1, -1])


def test_sigmoid_never_overflows():
    x = ndl.Tensor([-1e30, -1000.0, 1000.0, 1e30], dtype="float32")
    np.testing.assert_array_equal(ndl.sigmoid(x).numpy(), [0, 0, 1, 1])
    np.testing.assert_array_equal(ndl.silu(x).numpy(), [0, 0, 1000, np.float32(1e30)])


@pytest.mark.parametrize("name", ["exp", "sqrt", "sin", "cos", "tanh", "sigmoid", "silu", "erf"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_gradients_of_small_integers_are_those_of_floats(name, dtype):
    """20² does not fit int8: what a gradient rule multiplies has to be a float."""
    check_against_float64(getattr(ndl, name), dtype)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_gradients_of_gelu_of_small_integers(approximate, dtype):
    check_against_float64(lambda a: ndl.gelu(a, approximate), dtype)


def check_against_float64(f, dtype):
    gradients = []
    for kind in (dtype, "float64"):
        x = ndl.Tensor([1, 3, 20, 100], dtype=kind)
        f(x).sum().backward()
        gradients.append(x.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-12)
