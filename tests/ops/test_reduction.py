"""Reductions over axes against NumPy and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import ArgumentError, ShapeError

from .refusals import refused

EXACT = {
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
    "mean": np.mean,
    "var": np.var,
    "logsumexp": lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis, keepdims=keepdims)),
}


def reduced(name, x, axes, keepdims):
    return getattr(x, name)(axes, keepdims=keepdims)


@st.composite
def reductions(draw, min_side=1):
    """An array, axes (None, int or tuple, negative ones included) and keepdims."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=min_side, max_side=4))
    x = draw(hnp.arrays(np.float64, shape, elements=st.floats(-8, 8, width=32)))
    axis = st.integers(-len(shape), len(shape) - 1) if shape else st.nothing()
    several = st.lists(axis, unique_by=lambda a: a % len(shape), max_size=len(shape))
    axes = draw(st.none() | axis | several.map(tuple) | several)
    return x, axes, draw(st.booleans())


def as_numpy_axes(axes):
    return tuple(axes) if isinstance(axes, list) else axes


@pytest.mark.parametrize("name", EXACT)
@given(case=reductions())
def test_reductions(name, case):
    x, axes, keepdims = case
    result = reduced(name, ndl.Tensor(x), axes, keepdims)
    expected = np.asarray(EXACT[name](x, axis=as_numpy_axes(axes), keepdims=keepdims))
    assert (result.shape, result.dtype) == (expected.shape, np.float64)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-13, atol=1e-13)


@given(case=reductions(min_side=0))
def test_sums_of_nothing_are_zero(case):
    x, axes, keepdims = case
    result = ndl.summation(ndl.Tensor(x), axes, keepdims)
    np.testing.assert_allclose(result.numpy(), np.sum(x, as_numpy_axes(axes), keepdims=keepdims))


@given(case=reductions())
def test_gradient_of_a_sum_is_one_everywhere(case):
    x, axes, keepdims = case
    tensor = ndl.Tensor(x)
    tensor.sum(axes, keepdims=keepdims).backward()
    np.testing.assert_array_equal(tensor.grad.numpy(), np.ones_like(x))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("axes", [None, 0, -1, (0, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_gradients_to_second_order(name, axes, keepdims):
    x = np.random.uniform(-2, 2, (2, 2, 2))
    ndl.check_gradients(lambda t: reduced(name, t, axes, keepdims), x, order=2)


def test_sum_over_everything_is_0d():
    for result in (ndl.Tensor([1.0, 2.0]).sum(), ndl.logsumexp(ndl.Tensor([[0.0, 0.0]]))):
        assert result.shape == ()
    error, loss = ndl.Tensor([1.0, 2.0]).sum(), ndl.Tensor([1.5]).sum()
    pair = np.array([error, loss])
    assert pair.dtype == np.float64
    np.testing.assert_array_equal(pair, [3.0, 1.5])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32"])
def test_dtypes_are_numpys(dtype):
    x = np.array([[1, 0], [1, 1]], dtype)
    tensor = ndl.Tensor(x)
    for name in ("sum", "max", "min"):
        expected = EXACT[name](x)
        assert reduced(name, tensor, None, False).dtype == expected.dtype
        assert reduced(name, tensor, None, False).numpy() == expected
    mean = tensor.mean()
    assert mean.dtype == (dtype if dtype.startswith("float") else "float64")
    assert mean.item() == 0.75


@pytest.mark.parametrize(
    "call", [lambda f: f, lambda f: ndl.jit(f, warmup=0)], ids=["eager", "jit"]
)
def test_the_mean_of_large_integers_does_not_wrap_around(call):
    x = np.array([[2**62, 2**62, 2**62], [-(2**63), -(2**63), 1]])
    for axes in (None, 1):
        mean = call(lambda x, axes=axes: x.mean(axes))(ndl.Tensor(x, requires_grad=False))
        np.testing.assert_allclose(mean.numpy(), np.mean(x, axes), rtol=1e-15)
    var = call(lambda x: x.var(1))(ndl.Tensor(x, requires_grad=False))
    np.testing.assert_allclose(var.numpy(), np.var(x, 1), rtol=1e-15)


HALVES = {
    "ones": np.ones(70_000, "float16"),
    "large": np.random.default_rng(0).uniform(0, 300, (300, 7)).astype("float16"),
    "many rows": np.random.default_rng(1).uniform(0, 1, (70_000, 3)).astype("float16"),
    "few": np.random.default_rng(2).normal(0, 1, (5, 6)).astype("float16"),
}


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize(
    "call", [lambda f: f, lambda f: ndl.jit(f, warmup=0)], ids=["eager", "jit"]
)
def test_float16_is_averaged_in_float32(call, name):
    x = HALVES[name]
    tensor = ndl.Tensor(x)
    for axes in (None, *range(x.ndim)):
        mean = call(lambda x, axes=axes: x.mean(axes))(tensor)
        assert mean.dtype == "float16"
        np.testing.assert_array_equal(mean.numpy(), np.mean(x, axes))
        var = call(lambda x, axes=axes: x.var(axes))(tensor)
        assert var.dtype == "float16"
        expected = np.var(x.astype("float64"), axes)
        np.testing.assert_allclose(var.numpy(), expected, rtol=6e-4, atol=6e-8)
        if name == "few":
            total = call(lambda x, axes=axes: x.sum(axes))(tensor)
            np.testing.assert_array_equal(total.numpy(), np.sum(x, axes))
    gradient = call(ndl.grad(lambda x: (x.mean() - 1) ** 2))(tensor)
    assert gradient.dtype == "float16"


def test_sum_of_float32_keeps_its_digits():
    x = np.full(1_000_000, 0.1, "float32")
    np.testing.assert_allclose(ndl.Tensor(x).sum().item(), 1e6 * float(x[0]), rtol=1e-6)


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share_the_gradient(name):
    x = ndl.Tensor([[2.0, 2.0, 1.0], [2.0, 3.0, 3.0]])
    getattr(x, name)(1).backward()
    expected = {"max": [[0.5, 0.5, 0], [0, 0.5, 0.5]], "min": [[0, 0, 1], [1, 0, 0]]}
    np.testing.assert_array_equal(x.grad.numpy(), expected[name])


def test_nan_is_the_largest_and_the_smallest():
    x = ndl.Tensor([1.0, np.nan])
    assert np.isnan(x.max().item())
    assert np.isnan(x.min().item())


@given(case=reductions(), data=st.data())
def test_argmax(case, data):
    x, _, _ = case
    axis = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1) if x.ndim else st.none())
    result = ndl.argmax(ndl.Tensor(x), axis)
    assert (result.dtype, result.requires_grad) == (np.int64, False)
    np.testing.assert_array_equal(result.numpy(), np.argmax(x, axis))
    kept = ndl.argmax(ndl.Tensor(x), axis, keepdims=True)
    np.testing.assert_array_equal(kept.numpy(), np.argmax(x, axis, keepdims=True), strict=True)


@pytest.mark.parametrize("ddof", [0, 1, 2])
def test_var_with_ddof(ddof):
    x = np.random.randn(5, 3)
    np.testing.assert_allclose(ndl.var(ndl.Tensor(x), 0, ddof=ddof).numpy(), x.var(0, ddof=ddof))


def test_var_keeps_its_digits_far_from_zero():
    x = np.random.randn(1000) + 1e6
    np.testing.assert_allclose(ndl.Tensor(x).var().item(), x.var(), rtol=1e-12)


@pytest.mark.parametrize("name", EXACT)
def test_axes_may_be_an_iterator(name):
    x = ndl.Tensor(np.random.randn(2, 3, 4))
    expected = getattr(x, name)((0, 2)).numpy()
    np.testing.assert_array_equal(getattr(x, name)(iter((0, 2))).numpy(), expected)


REFUSED = {
    "axis out of range": (
        lambda x: x.sum(2),
        ShapeError,
        r"summation: axis 2 is out of range for 2 axes. Use an axis from -2 to 1",
    ),
    "axis of a 0-d tensor": (
        lambda x: ndl.Tensor(1.0).sum(0),
        ShapeError,
        r"summation: axis 0 is out of range for 0 axes. Give the tensor an axis",
    ),
    "logsumexp of a 0-d tensor": (
        lambda x: ndl.Tensor(1.0).logsumexp(-1),
        ShapeError,
        r"logsumexp: axis -1 is out of range for 0 axes",
    ),
    "logsoftmax of a 0-d tensor": (
        lambda x: ndl.Tensor(1.0).logsoftmax(),
        ShapeError,
        r"logsoftmax: axis -1 is out of range for 0 axes",
    ),
    "argmax of a 0-d tensor": (
        lambda x: ndl.Tensor(1.0).argmax(0),
        ShapeError,
        r"argmax: axis 0 is out of range for 0 axes",
    ),
    "axis named twice": (
        lambda x: x.max((0, -2)),
        ShapeError,
        r"max: axes \(0, -2\) name an axis twice. Name each axis once",
    ),
    "axis no integer": (
        lambda x: x.sum(0.5),
        ArgumentError,
        r"summation: axis must be an integer, got 0.5. Write int\(axis\)",
    ),
    "axes no integers": (lambda x: x.mean((0, "1")), ArgumentError, r"mean: axis must be an int"),
    "text for axes": (lambda x: x.sum(""), ArgumentError, r"axis must be an integer, got ''"),
    "argmax along no integer": (
        lambda x: x.argmax(1.0),
        ArgumentError,
        r"argmax: axis must be an integer, got 1.0",
    ),
    "maximum of nothing": (
        lambda x: ndl.zeros(0, 3).max(0),
        ShapeError,
        r"max: shape \(0, 3\) has no elements along axes \(0,\). Reduce axes of size >= 1",
    ),
    "logsumexp of nothing": (
        lambda x: ndl.zeros(2, 0).logsumexp(),
        ShapeError,
        r"logsumexp: shape \(2, 0\) has no elements",
    ),
    "logsoftmax of nothing": (
        lambda x: ndl.zeros(2, 0).logsoftmax(),
        ShapeError,
        r"logsoftmax: axis 1 of shape \(2, 0\) is empty. Use an axis of size >= 1",
    ),
    "softmax of nothing": (
        lambda x: ndl.zeros(2, 0).softmax(),
        ShapeError,
        r"^softmax: axis 1 of shape \(2, 0\) is empty. Use an axis of size >= 1",
    ),
    "softmax along no integer": (
        lambda x: x.softmax(1.0),
        ArgumentError,
        r"^softmax: axis must be an integer, got 1.0. Write int\(axis\)",
    ),
    "softmax along an axis that is not there": (
        lambda x: x.softmax(2),
        ShapeError,
        r"^softmax: axis 2 is out of range for 2 axes. Use an axis from -2 to 1",
    ),
    "argmax of nothing": (
        lambda x: ndl.zeros(0).argmax(),
        ShapeError,
        r"argmax: shape \(0,\) has nothing to choose from",
    ),
    "mean of nothing": (
        lambda x: ndl.zeros(2, 0).mean(1),
        ShapeError,
        r"mean: shape \(2, 0\) has no elements to average over axes 1. Use axes of size >= 1",
    ),
    "var of one": (
        lambda x: ndl.var(ndl.Tensor([1.0]), ddof=1),
        ShapeError,
        r"var: 1 elements and ddof=1 leave nothing to divide by. Use ddof < 1",
    ),
    "var with NaN as ddof": (
        lambda x: ndl.var(x, ddof=float("nan")),
        ShapeError,
        r"var: 4 elements and ddof=nan leave nothing to divide by",
    ),
    "var with text as ddof": (
        lambda x: ndl.var(x, ddof="a"),
        ArgumentError,
        r"var: 'a' is not one real number",
    ),
}

test_refused = refused(REFUSED, [[1.0, 2.0], [3.0, 4.0]])
