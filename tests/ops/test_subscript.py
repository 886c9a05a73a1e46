"""`x[index]` against NumPy's own subscripts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import ArgumentError, IndexRangeError, NeedleError, ShapeError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def assert_same(x, index, ours=None):
    """Values, shape and gradient are NumPy's."""
    tensor = ndl.Tensor(x)
    result = tensor[index if ours is None else ours]
    expected = np.asarray(np.asarray(x)[index])
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(result.numpy(), expected)
    weights = np.random.RandomState(0).uniform(1, 2, expected.shape)
    result.backward(ndl.Tensor(weights))
    gradient = np.zeros(np.shape(x))
    np.add.at(gradient, index, weights)
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-12)


@given(shape=SHAPES, data=st.data())
def test_basic_subscripts(shape, data):
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    assert_same(np.random.randn(*shape), index)


def index_arrays(size, index_shape):
    return hnp.arrays(np.int64, index_shape, elements=st.integers(-size, size - 1))


@given(shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), data=st.data())
def test_index_arrays_on_neighbouring_axes(shape, data):
    """Slices or nothing before, index arrays that broadcast, and slices after."""
    first = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.integers(1, len(shape) - first))
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=2, max_side=3)
    ).input_shapes
    arrays = [data.draw(index_arrays(shape[first + k], s)) for k, s in enumerate(shapes)]
    before = [data.draw(st.slices(shape[k])) for k in range(first)]
    after = [data.draw(st.slices(shape[k])) for k in range(first + count, len(shape))]
    index = (*before, *arrays, *after)
    ours = tuple([data.draw(spellings(i)) if isinstance(i, np.ndarray) else i for i in index])
    assert_same(np.random.randn(*shape), index, ours)


def spellings(array):
    """The ways to write an index array."""
    return st.sampled_from([array, ndl.Tensor(array), ndl.Tensor(array, dtype="float32")])


@given(shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), data=st.data())
def test_masks(shape, data):
    first = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.integers(1, len(shape) - first))
    mask = data.draw(hnp.arrays(np.bool_, shape[first : first + count]))
    index = (*[slice(None)] * first, mask)
    ours = data.draw(st.sampled_from([mask, ndl.Tensor(mask)]))
    assert_same(np.random.randn(*shape), index, (*index[:-1], ours))


X = np.random.RandomState(0).randn(3, 4, 5)
SUBSCRIPTS = [
    0, -1, np.int64(1), np.array(2), (0, 1), (0, 1, 2), (1, ..., 2), ..., (), None, (None, 0, None),
    slice(None, None, -1), slice(5, 1, -2), (slice(1, 1), 0), [0, 2], [2, 2, -1], [[0], [1]], [],
    (0, [1, 2]), ([1, 2], 0), (slice(None), 0, [1, 2]), (slice(None), [1, 2], 0),
    (slice(None), [0, 1], slice(1, 3)), (..., [0, 4]), (None, [0, 1]), ([0, 1], None),
    ([0, 1], [2, 3]), ([0, 1], [2, 3], [4, 0]), ([0, 1], 2, [4, 0]), (slice(2), [0, 1], [2, 3]),
    [True, False, True], (slice(None), [True, False, True, False]), (..., X[0, 0] > 0),
    X > 0, X[:, :, 0] > 0, (slice(None), X[0] > 0), (0, X[0, :, 0] > 0),
    ([0, 2], [True, False, False, True]), range(2), (0, range(3, 0, -1)), (slice(None), (0, 2)),
    ((0, 2), (1, 3)), (slice(None), ()), ((True, False, True), 0),
]  # fmt: skip


@pytest.mark.parametrize("index", SUBSCRIPTS, ids=lambda index: repr(index)[:50])
def test_subscripts(index):
    assert_same(X, index)


def test_subscripts_of_small_unsigned_index_arrays_do_not_overflow():
    x = np.random.randn(300, 300)
    index = np.array([255, 3], "uint8")
    np.testing.assert_array_equal(ndl.Tensor(x)[index, index].numpy(), x[index, index])


def test_tensors_as_bounds_and_ints():
    x = ndl.Tensor(X)
    np.testing.assert_array_equal(x[ndl.Tensor(1) :].numpy(), X[1:])
    np.testing.assert_array_equal(x[ndl.Tensor(1), ndl.Tensor(-1)].numpy(), X[1, -1])


def test_a_full_subscript_is_a_new_value_that_shares_memory():
    x = ndl.Tensor([1.0, 2.0])
    for y in (x[:], x[...], x[()]):
        assert y is not x
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), [1, 1])


def test_second_order():
    ndl.check_gradients(lambda x: x[1:, ::-2] ** 3, X[:, :, 0], order=2)
    ndl.check_gradients(lambda x: x[[0, 0, 2], 1] ** 3, X[:, :2, 0], order=2)


def test_iteration_and_length():
    x = ndl.Tensor(X)
    assert len(x) == 3
    for row, expected in zip(x, X, strict=True):
        np.testing.assert_array_equal(row.numpy(), expected)
    first, *rest = x
    assert (first.shape, len(rest)) == ((4, 5), 2)


REFUSED = {
    "int beyond the end": (
        3,
        IndexRangeError,
        "subscript: index 3 is out of range for axis 0 of size 3. Use an index from -3 to 2",
    ),
    "int before the start": ((0, -5), IndexRangeError, "index -5 is out of range for axis 1"),
    "array beyond the end": (
        [0, 3],
        IndexRangeError,
        r"index 3 at position \(1,\) is out of range",
    ),
    "arrays beyond the end": (
        ([0], [4]),
        IndexRangeError,
        r"subscript: index 4 at position \(0,\)",
    ),
    "too many": (
        (0, 0, 0, 0),
        IndexRangeError,
        r"subscript: 4 indices \(4 of axes\) for shape \(3, 4, 5\). Use at most 3 indices",
    ),
    "two dots": ((..., 0, ...), IndexRangeError, "one '...'"),
    "mask of another size": (
        [True, False],
        ShapeError,
        r"subscript: mask of shape \(2,\) at axis 0 of shape \(3, 4, 5\). A mask has",
    ),
    "mask at another axis": ((0, X[:, 0, 0] > 0), ShapeError, r"mask of shape \(3,\) at axis 1"),
    "mask without axes": (np.array(True), ShapeError, r"mask of shape \(\) at axis 0"),
    "bool": (
        True,
        ArgumentError,
        r"subscript: True is no index. .* or masks, as x\[x.equal\(0\)\]",
    ),
    "NumPy bool": (np.True_, ArgumentError, "is no index"),
    "float": (1.0, ArgumentError, r"subscript: 1.0 is no index"),
    "string": ("a", ArgumentError, "subscript: 'a' is no index"),
    "step 0": (
        slice(None, None, 0),
        ArgumentError,
        r"subscript: slice\(None, None, 0\) is no slice \(slice step cannot be zero\)",
    ),
    "real bounds": (slice(0.5), ArgumentError, r"slice\(None, 0.5, None\) is no slice"),
    "fraction in an array": ([0.5], NeedleError, "index 0.5 is no whole number"),
    "arrays that do not broadcast": (
        ([0, 1], [0, 1, 2]),
        ShapeError,
        r"subscript: index arrays of shapes \(2,\) and \(3,\) do not broadcast",
    ),
    "array, slice, array": (
        ([0], slice(None), [0]),
        ArgumentError,
        "subscript: ints and index arrays are separated by a slice, '...' or None, where NumPy",
    ),
    "int, slice, array": ((0, slice(None), [0]), ArgumentError, "x\\[slices\\]\\[arrays\\]"),
    "array, None, array": (([0], None, [0]), ArgumentError, "separated"),
    "int, empty dots, array": ((slice(2), 0, ..., [[0]]), ArgumentError, "separated"),
    "jagged": ([[0], [0, 1]], ShapeError, "nested lists make no array"),
}


@pytest.mark.parametrize(("index", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(index, error, message):
    with pytest.raises(error, match=message):
        ndl.Tensor(X)[index]


def test_assignment_is_refused():
    x = ndl.Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"a tensor cannot be assigned to in place.* ndl.where"):
        x[0] = 1.0
