"""take, pick, one_hot and scatter_add against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError

INDEX_DTYPES = ["int8", "uint8", "int64", "uint64", "float32", "float64", "float16"]


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
def test_indices_of_any_dtype(dtype):
    index = np.array([[2, 0], [1, 2]], dtype)
    x = np.random.randn(3, 2)
    tensor = ndl.Tensor(x)
    for given_index in (index, ndl.Tensor(index), index.tolist()):
        result = ndl.take(tensor, given_index)
        np.testing.assert_array_equal(result.numpy(), x[index.astype("int64")])
        result.backward()
        np.testing.assert_array_equal(tensor.grad.numpy(), [[1, 1], [1, 1], [2, 2]])
    np.testing.assert_array_equal(
        ndl.one_hot(3, ndl.Tensor(index)).numpy(), np.eye(3)[index.astype("int64")]
    )
    np.testing.assert_array_equal(
        ndl.pick(ndl.Tensor(x.T), ndl.Tensor(index[0])).numpy(), [x[2, 0], x[0, 1]]
    )


@pytest.mark.parametrize("how", [lambda f: f, lambda f: ndl.jit(f, warmup=0)], ids=["eager", "jit"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("index", [True, [True, False, True], []])
def test_bools_are_the_indices_0_and_1(how, index, axis):
    x, index = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]]), np.array(index, bool)
    places = index.astype("int64")
    result, grad = how(ndl.value_and_grad(lambda x, i: ndl.take(x, i, axis).sum()))(x, index)
    assert result.item() == np.take(x.numpy(), places, axis).sum()
    counts = np.bincount(places.reshape(-1), minlength=2).astype(float)
    wanted = np.repeat(np.expand_dims(counts, 1 - axis), 2, 1 - axis)
    np.testing.assert_array_equal(grad.numpy(), wanted)


@given(
    shape=hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
    index_shape=hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    data=st.data(),
)
def test_take(shape, index_shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    indices = st.integers(-shape[axis], shape[axis] - 1)
    index = data.draw(hnp.arrays(np.int64, index_shape, elements=indices))
    x = np.random.randn(*shape)
    tensor = ndl.Tensor(x)
    result = ndl.take(tensor, index, axis)
    expected = np.take(x, index, axis)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.numpy(), expected)
    weights = np.random.randn(*expected.shape)
    result.backward(ndl.Tensor(weights))
    gradient = np.zeros(shape)
    np.add.at(np.moveaxis(gradient, axis, 0), index,
              np.moveaxis(weights, range(axis % len(shape), axis % len(shape) + index.ndim),
                          range(index.ndim)))  # fmt: skip
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-12, atol=1e-12)


def test_gradients_of_take_and_pick_to_second_order():
    index = ndl.Tensor([1, 0, 1])
    ndl.check_gradients(lambda x: ndl.take(x, index) ** 2, np.random.randn(3, 2), order=2)
    ndl.check_gradients(lambda x: ndl.pick(x, index) ** 3, np.random.randn(3, 2), order=2)


def test_an_index_has_no_gradient():
    x, index = ndl.Tensor([[1.0, 2.0]]), ndl.Tensor([1.0])
    for compute in (ndl.pick, ndl.take):
        index.data = ndl.Tensor([0.0])
        compute(x, index).backward()
        assert index.grad is None


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_one_hot_dtypes(dtype):
    result = ndl.one_hot(3, ndl.Tensor([[0, 2]]), dtype)
    assert (result.shape, result.dtype, result.requires_grad) == ((1, 2, 3), dtype, False)
    np.testing.assert_array_equal(result.numpy(), np.eye(3)[[[0, 2]]])
    np.testing.assert_array_equal(ndl.Tensor([0, 2]).one_hot(3, dtype).numpy(), np.eye(3)[[0, 2]])


@given(hnp.array_shapes(max_dims=3, min_side=0, max_side=4), st.data())
def test_scatter_add_is_that_of_numpy_to_the_bit(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    size = shape[axis]
    places = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)
    index = data.draw(hnp.arrays(np.int64, places, elements=st.integers(-size, max(size - 1, 0))))
    if not size:
        index = np.zeros((0,), np.int64)
    values = (*shape[:axis], *index.shape, *shape[axis + 1 :])
    a = data.draw(hnp.arrays(np.float32, values, elements=st.floats(-99, 99, width=32)))
    expected = np.zeros(shape, np.float32)
    np.add.at(expected, (*[slice(None)] * axis, index), a)
    result = ndl.ScatterAdd(shape, axis)(ndl.Tensor(a), index).numpy()
    assert result.tobytes() == expected.tobytes()


def test_scatter_add_counts_axes_from_the_end():
    x, index = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]]), ndl.Tensor([2, 0], requires_grad=False)
    np.testing.assert_array_equal(
        x.scatter_add(index, (2, 3), -1).numpy(), [[2.0, 0.0, 1.0], [4.0, 0.0, 3.0]]
    )


def test_scatter_add_adds_where_indices_repeat():
    result = ndl.ScatterAdd((3,), 0)(ndl.Tensor([1.0, 2.0, 4.0]), np.array([0, 2, 0]))
    np.testing.assert_array_equal(result.numpy(), [5, 0, 2])


X = np.ones((2, 3))
REFUSED = {
    "take beyond the end": (
        lambda: ndl.take(X, [0, 2]),
        IndexRangeError,
        r"take: index 2 at position \(1,\) is out of range for size 2. Use indices from -2 to 1",
    ),
    "take before the start": (lambda: ndl.take(X, [-3]), IndexRangeError, "take: index -3 at"),
    "take of a fraction": (
        lambda: ndl.take(X, [0.5]),
        DTypeError,
        "take: index 0.5 is no whole number. Pass integers, or floats such as 3.0",
    ),
    "take of NaN": (lambda: ndl.take(X, [np.nan]), DTypeError, "take: index nan is no whole"),
    "take of infinity": (lambda: ndl.take(X, [np.inf]), DTypeError, "take: index inf is no whole"),
    "take along no axis": (
        lambda: ndl.take(X, [0], axis=2),
        ShapeError,
        "take: axis 2 is out of range for 2 axes",
    ),
    "take along a real axis": (
        lambda: ndl.take(X, [0], axis=0.0),
        ArgumentError,
        "take: axis must be an integer, got 0.0",
    ),
    "take from a number": (lambda: ndl.take(1.0, [0]), ShapeError, "take: axis 0 is out of range"),
    "take from nothing": (lambda: ndl.take(np.ones((0, 2)), [0]), IndexRangeError, "take: index 0"),
    "pick beyond the end": (
        lambda: ndl.pick(X, [0, 3]),
        IndexRangeError,
        r"pick: index 3 at position \(1,\) is out of range for size 3. Use indices from 0 to 2",
    ),
    "pick before the start": (lambda: ndl.pick(X, [0, -1]), IndexRangeError, "pick: index -1 at"),
    "pick one index for two rows": (
        lambda: ndl.pick(X, [1]),
        ShapeError,
        r"pick: index of shape \(1,\) for values of shape \(2, 3\). .* a row: shape \(2,\)",
    ),
    "pick by a column": (
        lambda: ndl.pick(X, [[0], [1]]),
        ShapeError,
        r"pick: index of shape \(2, 1\) for values of shape \(2, 3\)",
    ),
    "pick from a number": (lambda: ndl.pick(1.0, 0), ShapeError, r"for values of shape \(\)"),
    "one_hot beyond the end": (
        lambda: ndl.one_hot(3, [1, 3]),
        IndexRangeError,
        r"one_hot: index 3 at position \(1,\) is out of range for size 3",
    ),
    "one_hot of a fraction": (lambda: ndl.one_hot(3, [0.1]), DTypeError, "one_hot: index 0.1 is"),
    "one_hot of real classes": (
        lambda: ndl.one_hot(3.0, [1]),
        ArgumentError,
        "one_hot: n must be an integer, got 3.0",
    ),
    "one_hot of PyTorch's order": (
        lambda: ndl.one_hot(ndl.Tensor([1, 2]), 3),
        ArgumentError,
        r"one_hot: n must be an integer, got needle.Tensor\(\[1, 2\]",
    ),
    "one_hot of no dtype": (
        lambda: ndl.one_hot(3, [1], "complex64"),
        DTypeError,
        "one_hot: dtype complex64 holds no real numbers",
    ),
    "scatter_add of other values": (
        lambda: ndl.ScatterAdd((3,), 0)(np.ones(2), np.array([0, 1, 2])),
        ShapeError,
        r"scatter_add: values have shape \(2,\), the index asks for \(3,\)",
    ),
    "scatter_add into a number": (
        lambda: ndl.ScatterAdd((), 0)(np.array(1.0), np.array(0)),
        ShapeError,
        "scatter_add: axis 0 is out of range for 0 axes",
    ),
    "scatter_add of one value": (
        lambda: ndl.ScatterAdd((4,), 0)(np.ones(1), np.array([0, 1, 2])),
        ShapeError,
        r"scatter_add: values have shape \(1,\), the index asks for \(3,\)",
    ),
    "scatter_add of transposed values": (
        lambda: ndl.ScatterAdd((4, 3), 0)(np.ones((3, 2)), np.array([0, 1])),
        ShapeError,
        r"scatter_add: values have shape \(3, 2\), the index asks for \(2, 3\)",
    ),
}


@pytest.mark.parametrize(("compute", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(compute, error, message):
    with pytest.raises(error, match=message):
        compute()


@pytest.mark.parametrize("name", ["pick beyond the end", "take of a fraction"])
def test_lazily_indices_are_read_when_the_value_is(name, monkeypatch):
    compute, error, message = REFUSED[name]
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    value = compute()
    with pytest.raises(error, match=message):
        value.numpy()
