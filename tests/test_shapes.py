"""Rules for shapes, axes and dtypes against NumPy's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from needle import shapes
from needle.errors import ArgumentError, DTypeError, ShapeError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(SHAPES, st.data())
def test_normalize_axes(shape, data):
    ndim = len(shape)
    axis = st.integers(-ndim - 2, ndim + 1)
    axes = data.draw(st.none() | axis | st.lists(axis, max_size=4).map(tuple))
    try:
        expected = np.sum(np.zeros(shape), axis=axes, keepdims=True).shape
        if not ndim and axes not in (None, ()):
            raise ShapeError  # NumPy takes axis 0 of a 0-d array
    except (ValueError, ShapeError):  # AxisError is a ValueError
        with pytest.raises(ShapeError, match=r"sum: ax(is|es)"):
            shapes.normalize_axes(axes, ndim, "sum")
        return
    normal = shapes.normalize_axes(axes, ndim, "sum")
    assert normal == tuple(sorted(set(normal)))
    assert all(0 <= a < ndim for a in normal)
    assert shapes.reduced_shape(shape, normal, True) == expected
    assert shapes.reduced_shape(shape, normal, False) == np.sum(np.zeros(shape), axes).shape


@given(SHAPES, st.lists(st.integers(-1, 5), max_size=4).map(tuple))
def test_reshaped(shape, target):
    try:
        expected = np.zeros(shape).reshape(target).shape
    except ValueError:
        with pytest.raises(ShapeError, match="reshape: "):
            shapes.reshaped(shape, target)
        return
    assert shapes.reshaped(shape, target) == expected
    assert math.prod(expected) == math.prod(shape)


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_broadcast_shapes(several):
    try:
        expected = np.broadcast_shapes(*several)
    except ValueError:
        expected = None
    assert shapes.broadcast_shapes(*several) == expected


@pytest.mark.parametrize(
    ("given_", "expected"),
    [(3, (3,)), ((), ()), ([2, 3], (2, 3)), (np.array([2, 3]), (2, 3)), (np.int8(4), (4,))],
)
def test_as_shape(given_, expected):
    result = shapes.as_shape(given_, "zeros")
    assert result == expected
    assert all(type(size) is int for size in result)
    assert shapes.checked_shape(given_, "zeros") == expected


@pytest.mark.parametrize("bad", [2.0, "ab", None, (1, 2.5), [None]])
def test_no_shape(bad):
    with pytest.raises(ArgumentError, match="zeros: shape must be an integer, got"):
        shapes.as_shape(bad, "zeros")


def test_negative_sizes():
    with pytest.raises(ShapeError, match=r"zeros: shape \(2, -1\) has a negative size"):
        shapes.checked_shape((2, -1), "zeros")


@pytest.mark.parametrize(
    ("axes", "frozen"),
    [(None, None), (1, 1), ([0, 1], (0, 1)), (np.int64(2), 2), (range(2), (0, 1))],
)
def test_frozen_axes(axes, frozen):
    assert shapes.frozen_axes(axes, "sum") == frozen
    hash(shapes.frozen_axes(axes, "sum"))


@pytest.mark.parametrize("bad", [0.5, "0", (0, 1.5)])
def test_axes_are_integers(bad):
    with pytest.raises(
        ArgumentError, match=r"sum: axis must be an integer, got .*Write int\(axis\)"
    ):
        shapes.frozen_axes(bad, "sum")


@pytest.mark.parametrize("dtype", ["float32", np.float16, np.dtype("i8"), bool, ">f4", "uint8"])
def test_as_dtype(dtype):
    result = shapes.as_dtype(dtype, "cast")
    assert result.isnative
    assert result == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("bad", ["float31", [1, 2], 7])
def test_unknown_dtypes(bad):
    with pytest.raises(DTypeError, match=r"cast: dtype .* is not known. Use a NumPy dtype such as"):
        shapes.as_dtype(bad, "cast")


@pytest.mark.parametrize("bad", ["complex64", "U3", "O", "M8[s]", "V4", [("a", "f4")]])
def test_dtypes_of_no_real_numbers(bad):
    with pytest.raises(DTypeError, match=r"cast: dtype .* holds no real numbers. Use a float"):
        shapes.as_dtype(bad, "cast")
