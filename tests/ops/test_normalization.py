"""Standardisation and moments against NumPy; what they refuse; gradients inside no_grad."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import DTypeError, ShapeError

OPERATORS = {
    "moments": lambda x, axes: ndl.moments(x, axes),
    "standardize": lambda x, axes: ndl.standardize(x, axes),
    "standardize_gradient": lambda x, axes: ndl.StandardizeGradient(axes, 1e-5)(x, x),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


@given(hnp.array_shapes(max_dims=3, max_side=4), st.data())
def test_numpys_mean_and_variance(shape, data):
    x = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(-8, 8, width=32)))
    axis = st.integers(-len(shape), len(shape) - 1)
    several = st.lists(axis, unique_by=lambda a: a % len(shape), max_size=len(shape)).map(tuple)
    axes = data.draw(st.none() | axis | several)
    mean, var = ndl.moments(ndl.Tensor(x), axes)
    np.testing.assert_allclose(mean.numpy(), x.mean(axes), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(var.numpy(), x.var(axes), rtol=1e-12, atol=1e-12)
    y = ndl.standardize(ndl.Tensor(x), axes, eps=0.5).numpy()
    root = np.sqrt(x.var(axes, keepdims=True) + 0.5)
    expected = (x - x.mean(axes, keepdims=True)) / root
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_moments_pass_no_gradient():
    mean, var = ndl.moments(ndl.Tensor([1.0, 3.0]), 0)
    assert not mean.requires_grad
    assert not var.requires_grad


@every_operator
@pytest.mark.parametrize("lazy", [False, True])
def test_integers_are_refused(name, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    with pytest.raises(DTypeError, match=f"^{name}: not defined for dtype int64. Convert with ast"):
        OPERATORS[name](ndl.Tensor([1, 2]), 0)


@every_operator
@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((0, 3), 0, r"shape \(0, 3\) has nothing to average over axes \(0,\). Use axes of size"),
        ((0,), None, r"shape \(0,\) has nothing to average over axes \(0,\)"),
        ((2, 3), 2, "axis 2 is out of range for 2 axes. Use an axis from -2 to 1"),
        ((), 0, "axis 0 is out of range for 0 axes. Give the tensor an axis"),
    ],
)
def test_nothing_to_average(name, shape, axes, message):
    with pytest.raises(ShapeError, match=f"^{name}: {message}"):
        OPERATORS[name](ndl.zeros(*shape), axes)


def test_gradients_inside_no_grad():
    """The derived gradient runs the decomposition again, which has to be recorded."""
    g, x = np.random.randn(2, 4, 3)
    operator = ndl.StandardizeGradient(0, 1e-3)
    gradients = ndl.grad(lambda *operands: operator(*operands) ** 2, (0, 1))
    recorded = gradients(ndl.Tensor(g), ndl.Tensor(x))
    with ndl.no_grad():
        silent = gradients(ndl.Tensor(g), ndl.Tensor(x))
    for ours, theirs in zip(silent, recorded, strict=True):
        assert not ours.requires_grad
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        assert np.abs(ours.numpy()).max() > 0.01


def test_gradient_of_one_tensor_as_both_operands():
    x = np.random.randn(4, 3)
    operator = ndl.StandardizeGradient(0, 1e-3)
    ndl.check_gradients(lambda t: operator(t, t), x, order=2)
