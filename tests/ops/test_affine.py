"""Affine maps in one operator: like their parts, and what they refuse."""

import numpy as np
import pytest

import needle as ndl
from needle.errors import ShapeError


@pytest.mark.parametrize("leading", [(4,), (2, 3), (0,)])
@pytest.mark.parametrize("bias", [(2,), (1, 2)])
def test_affine_is_numpys(leading, bias):
    x, w, b = np.random.randn(*leading, 3), np.random.randn(3, 2), np.random.randn(*bias)
    before = b.copy()
    y = ndl.affine(ndl.Tensor(x), ndl.Tensor(w), ndl.Tensor(b))
    np.testing.assert_allclose(y.numpy(), x @ w + b, rtol=1e-14)
    np.testing.assert_array_equal(b, before)


def test_dtypes_promote():
    x, w = ndl.ones(2, 3), ndl.ones(3, 2)
    assert ndl.affine(x, w, ndl.ones(2, dtype="float64")).dtype == np.float64
    assert ndl.scale_shift(x, ndl.ones(3), ndl.ones(3, dtype="float64")).dtype == np.float64


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (3, 2), (2,)), r"affine: x of shape \(3,\) and weight of shape \(3, 2\). Pass \(…"),
        (((4, 3), (2, 3), (2,)), r"affine: x of shape \(4, 3\) and weight of shape \(2, 3\)"),
        (((4, 3), (2, 3, 2), (2,)), r"weight of shape \(2, 3, 2\). Pass \(…, inputs\) and \(inp"),
        (
            ((4, 3), (3, 2), (3,)),
            r"affine: bias of shape \(3,\) for 2 outputs. Pass \(2,\) or",
        ),
        (((4, 3), (3, 2), (4, 2)), r"affine: bias of shape \(4, 2\) for 2 outputs"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_affine_refuses(shapes, message, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    with pytest.raises(ShapeError, match=message):
        ndl.affine(*[ndl.zeros(*shape) for shape in shapes])


@pytest.mark.parametrize(
    "shapes", [((), (1,), (1,)), ((4, 3), (2,), (2,)), ((4, 3), (3,), (1,)), ((3,), (1, 3), (1, 3))]
)
@pytest.mark.parametrize("lazy", [False, True])
def test_scale_shift_refuses(shapes, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    message = r"scale_shift: weight of shape .* and bias of shape .* for x of shape .*. Pass \("
    with pytest.raises(ShapeError, match=message):
        ndl.scale_shift(*[ndl.zeros(*shape) for shape in shapes])


@pytest.mark.parametrize("operator", [ndl.Scale(), ndl.FeatureDot()])
@pytest.mark.parametrize("shapes", [((), (1,)), ((4, 3), (2,)), ((4, 3), (4, 1))])
@pytest.mark.parametrize("lazy", [False, True])
def test_gradients_of_scale_shift_refuse(operator, shapes, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    message = (
        r"scale: weight of shape .* for x of shape .*. Pass \(|feature_dot: shapes .* and .*. "
    )
    with pytest.raises(ShapeError, match=message):
        operator(*[ndl.zeros(*shape) for shape in shapes])


def test_derivatives_of_scale_shift_of_order_two():
    def f(x, w, b):
        return (ndl.scale_shift(x, w, b) ** 3).sum()

    x, w, b = np.random.randn(4, 3), np.random.randn(3), np.random.randn(3)
    ndl.check_gradients(f, x, w, b, order=2)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [(ndl.scale_shift, [(3,), (3,), (3,)]), (ndl.affine, [(2, 3), (3, 4), (4,)])],
)
def test_dtypes_promote_in_the_order_of_the_formula(function, shapes, monkeypatch):
    # uint8 and int8 give int16, and that and float16 float32: of all three at once, float16.
    monkeypatch.setenv("NEEDLE_JIT", "numpy")  # what is computed is compared with the shape rule
    dtypes = ("uint8", "int8", "float16")
    args = [ndl.ones(*shape, dtype=d) for shape, d in zip(shapes, dtypes, strict=True)]
    assert function(*args).dtype == np.float32
    assert ndl.jit(function, warmup=0)(*args).dtype == np.float32
