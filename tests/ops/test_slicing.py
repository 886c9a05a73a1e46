"""Padding and joining against NumPy; slices are tested with `test_subscript`."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import ShapeError

from .refusals import refused


@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3),
    data=st.data(),
)
def test_concatenate(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    arrays, tensors = [], []
    for size in data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)):
        part = list(shape)
        part[axis] = size
        arrays.append(np.random.randn(*part))
        tensors.append(ndl.Tensor(arrays[-1]))
    result = ndl.concatenate(tensors, axis)
    expected = np.concatenate(arrays, axis)
    np.testing.assert_array_equal(result.numpy(), expected)
    result.backward(ndl.Tensor(2 * expected))
    for array, tensor in zip(arrays, tensors, strict=True):
        np.testing.assert_array_equal(tensor.grad.numpy(), 2 * array)


def test_concatenate_promotes_and_takes_iterables():
    first, second = ndl.Tensor([1.0], dtype="float32"), ndl.Tensor([2])
    result = ndl.concatenate(t for t in (first, second))
    assert result.dtype == np.float64
    result.backward()
    assert first.grad.dtype == np.float32
    joined = ndl.concatenate([np.ones((1, 2)), [[2.0, 3.0]]])
    np.testing.assert_array_equal(joined.numpy(), [[1, 1], [2, 3]])


@given(
    shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    data=st.data(),
)
def test_pad(shape, data):
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape]
    x = np.random.randn(*shape)
    tensor = ndl.Tensor(x)
    result = ndl.pad(tensor, widths)
    expected = np.pad(x, widths) if shape else x
    np.testing.assert_array_equal(result.numpy(), expected)
    result.backward(ndl.Tensor(3 * expected))
    np.testing.assert_array_equal(tensor.grad.numpy(), 3 * x)


X = np.ones((2, 3))
REFUSED = {
    "concatenate nothing": (
        lambda: ndl.concatenate([]),
        ShapeError,
        "concatenate: no tensors given. Pass at least one",
    ),
    "concatenate other sizes": (
        lambda: ndl.concatenate([X, np.ones((2, 4))]),
        ShapeError,
        r"concatenate: shapes \(2, 3\) and \(2, 4\) differ beside axis 0. All other axes must",
    ),
    "concatenate other dimensions": (
        lambda: ndl.concatenate([X, np.ones(3)]),
        ShapeError,
        r"concatenate: shapes \(2, 3\) and \(3,\) differ beside axis 0",
    ),
    "concatenate along an axis too many": (
        lambda: ndl.concatenate([X, X], 2),
        ShapeError,
        "concatenate: axis 2 is out of range for 2 axes",
    ),
    "pad by too few widths": (
        lambda: ndl.pad(X, [(1, 1)]),
        ShapeError,
        r"pad: widths \[\(1, 1\)\] do not fit shape \(2, 3\). Give one \(before, after\) >= 0",
    ),
    "pad by negative widths": (
        lambda: ndl.pad(X, [(0, 0), (-1, 0)]),
        ShapeError,
        r"pad: widths .* do not fit",
    ),
}

test_refused = refused(REFUSED)
