"""Sums along long axes keep their digits, whichever way an array lies in memory."""

import numpy as np
import pytest

import needle as ndl
from needle.ops.sums import BLOCK, total

RNG = np.random.default_rng(0)
LAYOUTS = {
    "columns": ((300_007, 3), 0),
    "columns, negative axis": ((70_000, 2, 2), -3),
    "a middle axis": ((2, 100_001, 3), 1),
    "two axes": ((3, 60_011, 4), (0, 1)),
    "two long axes": ((5_000, 5_001, 2), (0, 1)),
    "two axes that are long together": ((2_000, 2_001, 2), (0, 1)),
    "all": ((100_003, 3), None),
}


def _array(shape):
    """Numbers near 1000, of which NumPy's own sum of a million in a row keeps three digits."""
    return (1000 + RNG.uniform(-1, 1, shape)).astype("float32")


@pytest.mark.parametrize(("shape", "axes"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("reversed_memory", [False, True])
def test_a_long_sum_keeps_its_digits(shape, axes, keepdims, reversed_memory):
    x = _array(shape[::-1]).T if reversed_memory else _array(shape)
    expected = x.sum(axes, dtype="float64", keepdims=keepdims)
    result = ndl.Tensor(x).sum(axes, keepdims).numpy()
    assert result.dtype == np.float32
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=3e-5)  # BLOCK roundings


def test_mean_variance_and_standardised_values_do_too():
    x = _array((300_007, 3))
    mean, var = x.mean(0, dtype="float64"), x.var(0, dtype="float64")
    t = ndl.Tensor(x)
    np.testing.assert_allclose(t.mean(0).numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(t.var(0).numpy(), var, rtol=1e-4)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(ndl.standardize(t, 0).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_exponentials_do_too():
    """With 0.7 for all but one, each addition to a large sum is off in the same direction."""
    x = np.full((300_007, 3), np.log(0.7), "float32")
    x[0] = 0
    expected = np.log(np.exp(x.astype("float64")).sum(0))
    t = ndl.Tensor(x)
    np.testing.assert_allclose(ndl.logsumexp(t, 0).numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(ndl.softmax(t, 0).numpy().sum(0, dtype="float64"), 1, rtol=1e-4)
    np.testing.assert_allclose(ndl.logsoftmax(t, 0).numpy()[0], -expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 5_000), (5_000, 0), (BLOCK, 2), (BLOCK + 1, 1), (7,)])
def test_short_and_empty_sums_are_numpys(shape):
    x = _array(shape)
    for axes in (None, *range(len(shape))):
        assert (total(x, axes) == np.sum(x, axes)).all()


def test_a_repeated_axis_is_summed():
    x = np.broadcast_to(_array((3,)), (300_000, 3))
    expected = x.sum(0, dtype="float64")
    np.testing.assert_allclose(ndl.Tensor(x).sum(0).numpy(), expected, rtol=3e-5)
