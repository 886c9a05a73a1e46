"""Softmax and its relatives against mpmath and SciPy; what they refuse is in `test_reduction`."""

import numpy as np
import pytest
import scipy.special

import needle as ndl


@pytest.mark.parametrize("scale", [1, 1e2, 1e5, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logsoftmax_is_exact_for_large_inputs(scale, dtype):
    x = (np.random.randn(4, 5) * scale).astype(dtype)
    x[0] = x[0, 0]  # all equal: the answer is -ln 5 whatever the scale
    result = ndl.logsoftmax(ndl.Tensor(x))
    expected = scipy.special.log_softmax(x.astype("float64"), axis=1)
    assert result.dtype == dtype
    np.testing.assert_allclose(
        result.numpy(), expected, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps
    )
    np.testing.assert_allclose(
        ndl.softmax(ndl.Tensor(x)).numpy(), np.exp(expected), rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        ndl.logsumexp(ndl.Tensor(x), axes=(1,)).numpy(),
        scipy.special.logsumexp(x.astype("float64"), axis=1),
        rtol=4 * np.finfo(dtype).eps,
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_softmax_along_an_axis(axis):
    x = np.random.randn(2, 3, 4)
    np.testing.assert_allclose(
        ndl.softmax(ndl.Tensor(x), axis).numpy(), scipy.special.softmax(x, axis), rtol=1e-14
    )
    np.testing.assert_allclose(
        ndl.logsoftmax(ndl.Tensor(x), axis).numpy(), scipy.special.log_softmax(x, axis), rtol=1e-13
    )
    ndl.check_gradients(lambda t: ndl.softmax(t, axis), x[:, :2, :2], order=2)


def test_softmax_of_minus_infinity_is_zero_with_a_clean_gradient():
    x = ndl.Tensor([[0.0, -np.inf, 0.0]])
    y = ndl.softmax(x)
    np.testing.assert_array_equal(y.numpy(), [[0.5, 0, 0.5]])
    (y * ndl.Tensor([[1.0, 2.0, 3.0]])).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[-0.5, 0, 0.5]])


@pytest.mark.parametrize(
    ("x", "expected"),
    [([-np.inf, -np.inf], -np.inf), ([np.inf, 0.0], np.inf), ([np.nan, 0.0], np.nan)],
)
def test_logsumexp_of_infinities(x, expected):
    np.testing.assert_array_equal(ndl.logsumexp(ndl.Tensor(x)).numpy(), expected)


@pytest.mark.parametrize("axes", [None, 1, (0, 1)])
@pytest.mark.parametrize("scale", [1, 1e5, 1e8, 1e30])
def test_gradient_of_logsumexp_is_the_softmax_of_large_inputs_too(axes, scale):
    x = (np.random.randn(4, 5) * scale).astype("float32")
    x[:, 0] = x[:, 1] = x.max()
    gradient = ndl.grad(lambda t: ndl.logsumexp(t, axes))
    for call in (gradient, ndl.jit(gradient, warmup=0)):
        np.testing.assert_allclose(
            call(ndl.Tensor(x)).numpy(),
            scipy.special.softmax(x.astype("float64"), axis=axes),
            rtol=1e-6,
            atol=1e-37,
        )


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("x", [[np.inf, 0.0], [-np.inf, -np.inf], [np.nan, 0.0]])
@pytest.mark.parametrize("name", ["softmax", "logsoftmax"])
def test_softmax_of_infinities_is_what_its_formula_gives(name, x):
    array = np.array(x)
    shifted = array - array.max()
    exponential = np.exp(shifted)
    expected = {
        "softmax": exponential / exponential.sum(),
        "logsoftmax": shifted - np.log(exponential.sum()),
    }[name]
    for call in (getattr(ndl, name), ndl.jit(getattr(ndl, name), warmup=0)):
        np.testing.assert_array_equal(call(ndl.Tensor(x)).numpy(), expected)


@pytest.mark.parametrize("name", ["logsumexp", "logsoftmax", "softmax"])
@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_exponentials_of_integers_are_float64(name, dtype):
    result = getattr(ndl, name)(ndl.Tensor([[1, 0]], dtype=dtype))
    assert result.dtype == np.float64
    np.testing.assert_array_equal(
        result.numpy(), getattr(ndl, name)(ndl.Tensor([[1.0, 0.0]])).numpy()
    )


@pytest.mark.parametrize("make", [ndl.LogSumExp(1), ndl.LogSumExp((0, 1), True), ndl.LogSumExp()])
def test_decomposed_logsumexp_is_the_same(make):
    x = ndl.Tensor(np.random.randn(3, 4) * 100)
    np.testing.assert_allclose(make.decompose(x).numpy(), make(x).numpy(), rtol=1e-15)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_decomposed_logsoftmax_is_the_same(axis):
    x = ndl.Tensor(np.random.randn(3, 4) * 100)
    operator = ndl.LogSoftmax(axis)
    np.testing.assert_allclose(operator.decompose(x).numpy(), operator(x).numpy(), rtol=1e-15)


@pytest.mark.parametrize(("shape", "axis"), [((5000, 3), 0), ((2, 70_000), 1)])
@pytest.mark.parametrize("function", [ndl.logsumexp, ndl.softmax, ndl.logsoftmax])
def test_float16_is_summed_in_float32(function, shape, axis):
    """A sum of float16 is infinite beyond 65,504, and adding up rows stands still at 2,048."""
    values = np.random.randn(*shape).astype("float16")
    given, exact = (ndl.Tensor(values, dtype=dtype) for dtype in ("float16", "float64"))
    result, expected = function(given, axis), function(exact, axis)
    assert result.dtype == np.float16
    np.testing.assert_allclose(result.numpy(), expected.numpy(), rtol=2e-3, atol=1e-6)
    compiled = ndl.jit(lambda a: function(a, axis), warmup=0)
    np.testing.assert_array_equal(compiled(given).numpy(), result.numpy())
    result.backward()
    expected.backward()
    assert given.grad.dtype == np.float16
    np.testing.assert_allclose(given.grad.numpy(), exact.grad.numpy(), rtol=2e-2, atol=0.1)
