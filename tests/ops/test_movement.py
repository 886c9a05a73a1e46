"""Views and repeats against NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import ArgumentError, ShapeError

from .refusals import refused

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def numbered(shape):
    return np.arange(math.prod(shape), dtype=np.float64).reshape(shape)


def assert_moves(result, x, expected):
    """The values are NumPy's, and the gradient of each element is where it went."""
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(result.numpy(), expected)
    weights = np.random.RandomState(0).randint(1, 9, expected.shape).astype(np.float64)
    result.backward(ndl.Tensor(weights))
    gradient = np.zeros(x.shape)
    np.add.at(gradient.reshape(-1), expected.astype(np.int64), weights)
    np.testing.assert_array_equal(x.grad.numpy(), gradient)


@given(shape=SHAPES, data=st.data())
def test_reshape(shape, data):
    """Sizes regrouped, in any order, some of them as -1."""
    x = numbered(shape)
    target = data.draw(st.permutations(shape))
    target = [*target, *data.draw(st.lists(st.just(1), max_size=2))]
    if target and x.size:
        target[data.draw(st.integers(0, len(target) - 1))] = -1
    tensor = ndl.Tensor(x)
    assert_moves(tensor.reshape(data.draw(st.sampled_from([tuple, list]))(target)), tensor,
                 x.reshape(target))  # fmt: skip


@given(shape=SHAPES, data=st.data())
def test_permute(shape, data):
    x = numbered(shape)
    axes = data.draw(st.permutations(range(len(shape))))
    axes = [axis - data.draw(st.sampled_from([0, len(shape)])) for axis in axes]
    tensor = ndl.Tensor(x)
    assert_moves(tensor.permute(tuple(axes)), tensor, x.transpose(axes))


@given(shape=hnp.array_shapes(min_dims=2, max_dims=4, min_side=0), data=st.data())
def test_transpose_swaps_two_axes(shape, data):
    x, tensor = numbered(shape), ndl.Tensor(numbered(shape))
    axis = st.integers(-len(shape), len(shape) - 1)
    axes = data.draw(st.none() | st.tuples(axis, axis))
    assert_moves(ndl.transpose(tensor, axes), tensor, x.swapaxes(*(axes or (-1, -2))))


def test_spellings_of_methods():
    x = ndl.Tensor(numbered((2, 3, 4)))
    assert x.reshape(6, 4).shape == x.reshape((6, 4)).shape == x.reshape([6, -1]).shape == (6, 4)
    assert x.transpose().shape == x.transpose(axes=None).shape == x.transpose(None).shape
    assert x.transpose((0, 2)).shape == x.transpose(axes=(0, 2)).shape == (4, 3, 2)
    assert x.transpose(0, 2).shape == x.T.shape == x.permute(2, 1, 0).shape == (4, 3, 2)
    assert x.broadcast_to(5, 2, 3, 4).shape == x.broadcast_to((5, 2, 3, 4)).shape == (5, 2, 3, 4)
    assert ndl.Tensor(1.0).T.shape == ()
    assert ndl.reshape(x, shape=np.array([24])).shape == (24,)
    assert x.reshape(shape=(6, 4)).shape == x.reshape((6, 4)).shape
    assert x.broadcast_to(shape=(5, 2, 3, 4)).shape == (5, 2, 3, 4)
    assert x.permute(axes=(2, 0, 1)).shape == (4, 2, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'axis'"):
        x.transpose(axis=(0, 1))


def test_views_share_memory():
    x = ndl.Tensor(numbered((2, 3)))
    for view in (x.reshape((3, 2)), x.T, x.permute((1, 0)), x[:, 1:], x.broadcast_to((4, 2, 3))):
        assert np.shares_memory(view.realize_cached_data(), x.realize_cached_data())


@given(case=hnp.mutually_broadcastable_shapes(num_shapes=1, min_dims=0, max_dims=4, max_side=4))
def test_broadcast_to(case):
    (shape,), target = case
    x, tensor = numbered(shape), ndl.Tensor(numbered(shape))
    assert_moves(ndl.broadcast_to(tensor, target), tensor, np.broadcast_to(x, target))


X = np.ones((2, 3))
REFUSED = {
    "reshape to another size": (
        lambda: ndl.reshape(X, (4, 2)),
        ShapeError,
        r"reshape: \(2, 3\) has 6 elements, \(4, 2\) has 8. Use a shape with 6 elements, or -1",
    ),
    "reshape that does not divide": (
        lambda: ndl.reshape(X, (4, -1)),
        ShapeError,
        r"reshape: \(2, 3\) has 6 elements, which \(4, -1\) cannot hold. .* must divide 6",
    ),
    "reshape by two unknowns": (
        lambda: ndl.reshape(X, (-1, -1)),
        ShapeError,
        r"reshape: shape \(-1, -1\) is not possible. Use sizes >= 0 and at most one -1",
    ),
    "reshape twice": (
        lambda: ndl.Tensor(X).reshape((2, 3), shape=(3, 2)),
        ArgumentError,
        r"reshape: \(\(2, 3\),\) and \(3, 2\) say the same thing twice. Pass one of them",
    ),
    "transpose twice": (
        lambda: ndl.Tensor(X).transpose(0, 1, axes=(0, 1)),
        ArgumentError,
        "transpose: .*twice",
    ),
    "reshape to negative sizes": (lambda: ndl.reshape(X, (-2, -3)), ShapeError, "not possible"),
    "reshape to one negative size": (
        lambda: ndl.reshape(X, (-2, 3)),
        ShapeError,
        r"reshape: shape \(-2, 3\) is not possible. Use sizes >= 0 and at most one -1",
    ),
    "reshape of nothing by -1": (
        lambda: ndl.reshape(np.ones((0, 2)), (0, -1)),
        ShapeError,
        r"which \(0, -1\) cannot hold",
    ),
    "reshape to real sizes": (
        lambda: ndl.reshape(X, (2.0, 3)),
        ArgumentError,
        r"reshape: shape must be an integer, got 2.0. Write int\(shape\)",
    ),
    "transpose of three axes": (
        lambda: ndl.transpose(X, (0, 1, 2)),
        ArgumentError,
        r"transpose: axes \(0, 1, 2\) are not two. It swaps two axes; use permute",
    ),
    "transpose of no integers": (
        lambda: ndl.transpose(X, (0, 1.0)),
        ArgumentError,
        r"transpose: axis must be an integer, got 1.0. Write int\(axis\)",
    ),
    "permute of no integers": (
        lambda: ndl.permute(X, (0, "1")),
        ArgumentError,
        r"permute: axis must be an integer, got '1'",
    ),
    "transpose of an axis too many": (
        lambda: ndl.transpose(X, (0, 2)),
        ShapeError,
        r"transpose: axis 2 is out of range for 2 axes",
    ),
    "transpose of a vector": (
        lambda: ndl.transpose(np.ones(3)),
        ShapeError,
        r"transpose: axis -2 is out of range for 1 axes",
    ),
    "permute an axis twice": (
        lambda: ndl.permute(X, (0, 0)),
        ShapeError,
        r"permute: axes \(0, 0\) do not name each of 2 axes once",
    ),
    "permute too few axes": (
        lambda: ndl.permute(X, (0,)),
        ShapeError,
        r"permute: axes \(0,\) do not name each of 2 axes once",
    ),
    "broadcast that does not fit": (
        lambda: ndl.broadcast_to(X, (3, 2)),
        ShapeError,
        r"broadcast_to: shape \(2, 3\) does not fit \(3, 2\). Axes are matched from the last one",
    ),
    "broadcast to fewer axes": (
        lambda: ndl.broadcast_to(X, (3,)),
        ShapeError,
        r"broadcast_to: shape \(2, 3\) does not fit \(3,\)",
    ),
    "broadcast to a negative size": (
        lambda: ndl.broadcast_to(X, (-1, 3)),
        ShapeError,
        r"broadcast_to: shape \(-1, 3\) has a negative size. Give sizes >= 0",
    ),
    "broadcast to nothing": (
        lambda: ndl.broadcast_to(X, None),
        ArgumentError,
        r"broadcast_to: shape must be an integer, got None",
    ),
}

test_refused = refused(REFUSED)
