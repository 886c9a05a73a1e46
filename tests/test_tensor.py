"""Tensors as handles: how they are made, what they hold, and how they behave in Python."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.errors import BackendError, DTypeError, NeedleError, ShapeError

MADE_FROM = {
    "float": (1.5, np.float64),
    "int": (3, np.int64),
    "bool": (True, np.bool_),
    "list of floats": ([1.0, 2.0], np.float64),
    "list of ints": ([[1, 2], [3, 4]], np.int64),
    "mixed list": ([1, 2.5], np.float64),
    "tuple": ((1, 2), np.int64),
    "range": (range(3), np.int64),
    "empty list": ([], np.float64),
    "0-d array": (np.array(2.0, "float32"), np.float32),
    "NumPy float32": (np.float32(2), np.float32),
    "NumPy int8": (np.int8(2), np.int8),
    "NumPy bool": (np.True_, np.bool_),
    "float32 array": (np.ones((2, 3), "float32"), np.float32),
    "uint8 array": (np.ones(3, "uint8"), np.uint8),
    "big-endian array": (np.array([1, 2], ">i4"), np.int32),
    "big-endian floats": (np.array([1.5, 2], ">f8"), np.float64),
    "transposed array": (np.arange(6.0).reshape(2, 3).T, np.float64),
    "reversed array": (np.arange(6)[::-1], np.int64),
    "sliced array": (np.arange(12.0, dtype="f4").reshape(3, 4)[::2, 1:3], np.float32),
    "broadcast array": (np.broadcast_to(np.array([1.0]), (2, 3)), np.float64),
    "empty array": (np.zeros((0, 3), "float32"), np.float32),
    "tensor": (ndl.Tensor([1, 2], dtype="int16"), np.int16),
    "list of NumPy numbers": ([np.float32(1), np.float32(2)], np.float32),
    "list of tensors": ([ndl.Tensor(1.0), ndl.Tensor(2.0)], np.float64),
}


@pytest.mark.parametrize(("given_", "dtype"), MADE_FROM.values(), ids=MADE_FROM.keys())
def test_made_from(given_, dtype):
    tensor = ndl.Tensor(given_)
    expected = np.array(given_)
    assert tensor.dtype == dtype
    assert tensor.dtype.isnative
    assert tensor.shape == expected.shape
    assert tensor.requires_grad
    assert tensor.is_leaf()
    assert tensor.device == ndl.cpu()
    assert (tensor.op, tensor.inputs, tensor.grad) == (None, (), None)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert tensor.numpy().flags.c_contiguous
    assert tensor.numpy().flags.writeable


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), "f4", ">f4"])
@pytest.mark.parametrize("given_", [[1.5], 1, np.ones(2, "int8"), ndl.Tensor([1.0])])
def test_dtype_argument(given_, dtype):
    assert ndl.Tensor(given_, dtype=dtype).dtype == np.float32


@pytest.mark.parametrize(("python", "numpy"), [(float, "float64"), (int, "int64"), (bool, "bool")])
def test_pythons_types_are_dtypes(python, numpy):
    assert ndl.Tensor([1.0], dtype=python).dtype == numpy


@pytest.mark.parametrize("make", [lambda x: x, ndl.Tensor], ids=["array", "tensor"])
def test_data_are_copied(make):
    array = np.array([1.0, 2.0])
    source = make(array)
    tensor = ndl.Tensor(source)
    array[0] = 9
    if isinstance(source, ndl.Tensor):
        source.realize_cached_data()[1] = 9
    np.testing.assert_array_equal(tensor.numpy(), [1, 2])


def test_a_tensor_made_from_a_result_is_a_leaf():
    x = ndl.Tensor([1.0])
    copied = ndl.Tensor(x * 2)
    assert copied.is_leaf()
    copied.backward()
    assert x.grad is None


def test_wrap_does_not_copy():
    array = np.array([1.0, 2.0])
    tensor = ndl.Tensor.wrap(array)
    array[0] = 9
    assert tensor[0].item() == 9
    assert not tensor.requires_grad
    assert ndl.Tensor.wrap(array, requires_grad=True).requires_grad


def test_wrap_takes_what_is_an_array_of_numbers():
    """Compiled code reads where the array lies: a NumPy scalar has no such place."""
    step = ndl.jit(lambda a: a * 2, warmup=0)
    assert step(ndl.Tensor.wrap(np.float32(1.5))).item() == 3
    with pytest.raises(ndl.DTypeError, match=r"^Tensor\.wrap: ndarray of dtype object holds no"):
        ndl.Tensor.wrap(np.array([None]))


def test_arguments_by_keyword():
    tensor = ndl.Tensor([1.0], device=ndl.cpu(), dtype="float32", requires_grad=False)
    assert (tensor.dtype, tensor.requires_grad) == (np.float32, False)
    with pytest.raises(TypeError):
        ndl.Tensor([1.0], ndl.cpu())


NOT_TENSORS = {
    "string": ("a", DTypeError, "Tensor: str of dtype <U1 holds no real numbers. Use floats"),
    "None": (None, DTypeError, "Tensor: NoneType of dtype object holds no real numbers"),
    "complex": ([1j], DTypeError, "list of dtype complex128 holds no real numbers"),
    "object": (object(), DTypeError, "dtype object"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), DTypeError, "datetime64"),
    "jagged": ([1, [2, 3]], ShapeError, "Tensor: the nested lists make no array .* equal lengths"),
    "tensor tuple": (
        ndl.make_tuple(ndl.Tensor(1.0)),
        NeedleError,
        "Tensor: a TensorTuple is not one array. Pass one of its elements",
    ),
}


@pytest.mark.parametrize(("value", "dtype"), [(-5, "uint8"), ([1, 300], "uint8"), (2**63, "int64")])
def test_a_dtype_must_hold_pythons_integers(value, dtype):
    with pytest.raises(OverflowError):
        np.array(value, dtype)
    with pytest.raises(
        DTypeError, match=f"Tensor: {dtype} cannot hold (-5|300|9223372036854775808)"
    ):
        ndl.Tensor(value, dtype=dtype)
    as_array = np.array([1, 300])
    np.testing.assert_array_equal(
        ndl.Tensor(as_array, dtype="uint8").numpy(), as_array.astype("uint8")
    )


@pytest.mark.parametrize(
    ("given_", "error", "message"), NOT_TENSORS.values(), ids=NOT_TENSORS.keys()
)
def test_no_tensor_is_made_from(given_, error, message):
    with pytest.raises(error, match=message):
        ndl.Tensor(given_)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [("float31", "dtype 'float31' is not known"), ("complex64", "holds no real numbers")],
)
def test_dtypes_that_are_refused(dtype, message):
    with pytest.raises(DTypeError, match=f"Tensor: .*{message}"):
        ndl.Tensor([1.0], dtype=dtype)


@pytest.mark.parametrize("device", [ndl.cuda(), "cpu", 0])
def test_devices_that_are_not_there(device):
    with pytest.raises(BackendError, match=r"Tensor: device .* is not available. Use ndl.cpu\(\)"):
        ndl.Tensor([1.0], device=device)


def test_requires_grad_can_be_set():
    x = ndl.Tensor([1.0])
    x.requires_grad = False
    assert not (x * 2).requires_grad
    x.requires_grad = True
    assert (x * 2).requires_grad


# identity and truth


def test_equality_hash_and_truth_go_by_identity():
    x, y = ndl.Tensor([0.0]), ndl.Tensor([0.0])
    assert (x == x, x == y, x != y, x == 0) == (True, False, True, False)
    assert {x: 1, y: 2}[y] == 2
    assert x in [y, x]
    assert ndl.Tensor([0.0]) not in [x, y]
    assert bool(x)
    assert bool(ndl.Tensor([]))
    assert ndl.Tensor(False)


def test_there_is_no_order():
    x, y = ndl.Tensor([0.0]), ndl.Tensor([1.0])
    for compare in (
        lambda: x < y, lambda: x <= 1, lambda: x > y, lambda: x >= 1, lambda: sorted([x, y]),
    ):  # fmt: skip
        with pytest.raises(
            TypeError, match=r"a tensor has no order of its own. .* with less.* float\(t\) > 1"
        ):
            compare()


# storage


def test_cached_data_is_live():
    t = ndl.Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert type(t.cached_data) is np.ndarray
    assert t.cached_data is t.realize_cached_data()
    t.realize_cached_data().flat[3] += 0.5
    t.cached_data[0, 0] = 7
    np.testing.assert_array_equal(t.numpy(), [[7, 2], [3, 4.5]])
    np.testing.assert_array_equal((t * 1).numpy(), [[7, 2], [3, 4.5]])


def test_cached_data_can_be_assigned():
    t = ndl.Tensor([1.0, 2.0])
    t.cached_data = np.zeros((3, 1), "float32")
    assert (t.shape, t.dtype, t.requires_grad) == ((3, 1), np.float32, True)


def test_cached_data_shares_an_arrays_memory_but_not_its_byte_order():
    t, array = ndl.Tensor([1.0, 2.0]), np.array([3.0, 4.0])
    t.cached_data = array
    assert t.cached_data is array
    t.cached_data = array.astype(">f8")
    assert t.dtype.isnative
    assert t.tolist() == [3, 4]


@pytest.mark.parametrize("data", [None, "a", [1j], {1: 2}, [[1], [1, 2]]], ids=str)
def test_cached_data_is_real_numbers(data):
    t = ndl.Tensor([1.0, 2.0])
    with pytest.raises(ndl.NeedleError, match=r"cached_data: (.* of dtype|the nested lists)"):
        t.cached_data = data
    assert t.tolist() == [1, 2]


def test_finite_differences_by_live_storage():
    """As the course's tests do it: step, evaluate, step back."""
    x = ndl.Tensor(np.random.randn(2, 3))

    def f():
        return ndl.exp(x).sum().numpy()

    x_grad = ndl.Tensor(np.zeros((2, 3)))
    for i in range(x.size):
        x.realize_cached_data().flat[i] += 1e-5
        high = f()
        x.realize_cached_data().flat[i] -= 2e-5
        low = f()
        x.realize_cached_data().flat[i] += 1e-5
        x_grad.realize_cached_data().flat[i] = (high - low) / 2e-5
    ndl.exp(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), x_grad.numpy(), rtol=1e-8)


def test_data_is_a_detached_view():
    t = ndl.Tensor([1.0, 2.0])
    view = t.data
    assert type(view) is ndl.Tensor
    assert not view.requires_grad
    assert view.is_leaf()
    view.cached_data[0] = 5
    assert t.numpy()[0] == 5
    assert (t.detach() * t).inputs[0].requires_grad is False


def test_assigning_data_rebinds():
    t = ndl.Tensor([1.0, 2.0])
    before = t.numpy()
    t.data = ndl.Tensor([3.0, 4.0, 5.0])
    assert (t.shape, t.requires_grad) == ((3,), True)
    np.testing.assert_array_equal(before, [1, 2])
    t.data = t.data - 1
    t.data -= 1
    np.testing.assert_array_equal(t.numpy(), [1, 2, 3])
    assert t.is_leaf()


def test_assigning_data_that_need_a_gradient_keeps_no_graph():
    t, other = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    t.data = other * 3
    assert t.is_leaf()
    t.backward()
    assert other.grad is None


def test_assigned_data_have_the_same_dtype():
    t = ndl.Tensor([1.0], dtype="float32")
    with pytest.raises(
        DTypeError, match=r'data: a tensor of float32 was .* value.astype\("float32"\)'
    ):
        t.data = ndl.Tensor([1.0])
    t.data = np.array([2.0], "float32")
    assert t.item() == 2


def test_numpy_of_a_broadcast_can_be_written():
    array = ndl.Tensor([1.0]).broadcast_to((2, 2)).numpy()
    array[0, 0] = 5
    np.testing.assert_array_equal(array, [[5, 1], [1, 1]])


# Python's protocols


@given(hnp.array_shapes(min_dims=0, min_side=0))
def test_shape_ndim_size_len(shape):
    t, x = ndl.Tensor(np.zeros(shape)), np.zeros(shape)
    assert (t.shape, t.ndim, t.size) == (x.shape, x.ndim, x.size)
    if shape:
        assert len(t) == len(x)
    np.testing.assert_array_equal(t.T.numpy(), x.T)


def test_a_0d_tensor_has_no_length():
    t = ndl.Tensor(1.0)
    with pytest.raises(TypeError, match="len\\(\\) of a 0-d tensor"):
        len(t)
    with pytest.raises(TypeError, match="0-d tensor"):
        iter(t)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_is_a_number(shape):
    t = ndl.Tensor(np.full(shape, 2.5, "float32"))
    assert (float(t), int(t), t.item()) == (2.5, 2, 2.5)
    assert (type(float(t)), type(int(t)), type(t.item())) == (float, int, float)
    assert math.sqrt(ndl.Tensor(np.full(shape, 4.0))) == 2
    assert f"{t:.2f}|{t:8.3f}|{t:e}" == "2.50|   2.500|2.500000e+00"
    assert f"{ndl.Tensor(np.full(shape, 7)):03d}" == "007"


def test_more_elements_are_no_number():
    t = ndl.Tensor([1.0, 2.0])
    for read in (t.item, lambda: float(t), lambda: int(t)):
        with pytest.raises(
            ShapeError, match=r"item: shape \(2,\) has 2 elements, not one. Use num"
        ):
            read()


def test_integers_are_indices():
    values = [10, 20, 30]
    assert values[ndl.Tensor(1)] == 20
    assert list(range(ndl.Tensor(3, dtype="uint8"))) == [0, 1, 2]
    with pytest.raises(TypeError, match=r"a tensor of float64, \(\), is no index. Write int\(t\)"):
        values[ndl.Tensor(1.0)]
    with pytest.raises(TypeError, match=r"a tensor of int64, \(2,\), is no index"):
        values[ndl.Tensor([0, 1])]


def test_tolist():
    assert ndl.Tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert ndl.Tensor(1.5).tolist() == 1.5


def test_repr_str_and_format():
    t = ndl.Tensor([[1.0, 2.5]], dtype="float32")
    assert repr(t) == "needle.Tensor([[1. , 2.5]], dtype=float32)"
    assert repr(ndl.Tensor(3)) == "needle.Tensor(3, dtype=int64)"
    assert repr(ndl.Tensor([])) == "needle.Tensor([], dtype=float64)"
    assert str(t) == f"{t}" == str(t.numpy())
    assert f"{t:>20}" == f"{t.numpy()!s:>20}"
    assert "..." in repr(ndl.zeros(10_000))
    assert f"{ndl.Tensor([1.25]):.1f}" == "1.2"
    with pytest.raises(ndl.ArgumentError, match=r"format: '.1f' is for one number, not .*\(1, 2\)"):
        f"{t:.1f}"


def test_repr_is_the_call_that_makes_it():
    t = ndl.Tensor(np.random.randn(2, 3), dtype="float32")
    twin = eval(repr(t), {"needle": ndl, "float32": "float32"})
    np.testing.assert_allclose(twin.numpy(), t.numpy(), rtol=1e-6)


def test_numpy_reads_tensors():
    t = ndl.Tensor([1.0, 2.0], dtype="float32")
    assert np.asarray(t).dtype == np.float32
    assert np.shares_memory(np.asarray(t), t.cached_data)
    assert not np.shares_memory(np.array(t), t.cached_data)
    assert np.asarray(t, dtype="float64").dtype == np.float64
    np.testing.assert_array_equal(np.stack([t, t]), [[1, 2], [1, 2]])
    np.testing.assert_array_equal(np.concatenate([t, np.ones(1)]), [1, 2, 1])
    np.testing.assert_allclose(t, [1, 2])
    array = np.zeros(2)
    array[:] = t
    np.testing.assert_array_equal(array, [1, 2])


def test_an_array_of_results_is_an_array_of_numbers():
    error, loss = ndl.Tensor([1.0, 2.0]).sum(), ndl.Tensor(0.5) * 1
    pair = np.array([error, loss])
    assert pair.dtype == np.float64
    np.testing.assert_array_equal(pair, [3, 0.5])
    assert np.mean([ndl.Tensor(1.0), ndl.Tensor(2.0)]) == 1.5
    np.testing.assert_array_equal(
        np.array([ndl.Tensor([1, 2]), ndl.Tensor([3, 4])]), [[1, 2], [3, 4]]
    )


def test_augmented_assignment_makes_a_new_value():
    x = ndl.Tensor([1.0])
    y = x
    y += 1
    y *= x
    assert y is not x
    assert (x.item(), y.item()) == (1, 2)
    array = np.ones(1)
    array = array + x
    assert type(array) is ndl.Tensor


def test_attributes_can_be_set():
    t = ndl.Tensor([1.0])
    t.name = "weight"
    assert t.name == "weight"


# copies


def test_copy_shares_and_deepcopy_copies():
    t = ndl.Tensor([1.0, 2.0], requires_grad=False)
    t.name = "weight"
    shallow, deep = copy.copy(t), copy.deepcopy(t)
    t.cached_data[0] = 9
    assert (shallow.numpy()[0], deep.numpy()[0]) == (9, 1)
    assert (shallow.requires_grad, deep.requires_grad) == (False, False)
    assert deep.name == "weight"
    assert copy.deepcopy(ndl.nn.Parameter([1.0])).__class__ is ndl.nn.Parameter


def test_deepcopy_copies_gradients():
    tensors = [ndl.Tensor([float(k)]) for k in range(50)]
    for t in tensors:
        (t * t).backward()
    twins = copy.deepcopy({"list": tensors, "again": tensors})
    assert twins["list"] is twins["again"]
    for t, twin in zip(tensors, twins["list"], strict=True):
        assert twin is not t
        assert twin.is_leaf()
        np.testing.assert_array_equal(twin.grad.numpy(), t.grad.numpy())
        twin.grad.cached_data[0] = -1
        assert t.grad.item() != -1


def test_deepcopy_of_a_result_is_a_leaf():
    x = ndl.Tensor([2.0])
    twin = copy.deepcopy(x * x)
    assert twin.is_leaf()
    assert twin.requires_grad
    np.testing.assert_array_equal(twin.numpy(), [4])


def test_deepcopy_of_one_tensor_twice_is_one_tensor():
    x = ndl.Tensor([2.0])
    first, second = copy.deepcopy([x, x])
    assert first is second


@pytest.mark.parametrize("dump", [pickle.dumps, lambda t: pickle.dumps(t, 5)])
def test_pickling_is_refused(dump):
    for value in (ndl.Tensor([1.0]), ndl.nn.Parameter([1.0]), [ndl.Tensor(1)]):
        with pytest.raises(
            TypeError, match=r"tensors are not pickled. Save them with ndl.save\(path"
        ):
            dump(value)


METHODS = {
    "sum": lambda t: t.sum(axes=(0,)),
    "max": lambda t: t.max(axes=1, keepdims=True),
    "mean": lambda t: t.mean(0),
    "take": lambda t: t.take([1, 0]),
    "pick": lambda t: t.pick(ndl.Tensor([0, 2])),
    "slice": lambda t: t.slice(((1, 1, 1), (0, 2, 2))),
    "unslice": lambda t: t.unslice((4, 3), ((1, 2, 1), (0, 3, 1))),
    "scatter_add": lambda t: t.scatter_add(ndl.Tensor([1, 1]), (3, 3), 0),
    "matmul": lambda t: t.matmul(t.T),
    "abs": abs,
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_methods_are_differentiable(method):
    ndl.check_gradients(method, np.random.randn(2, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(data=st.data())
def test_results_are_plain_tensors(dtype, data):
    """Whatever the inputs' classes, and of the inputs' dtype."""
    p = ndl.nn.Parameter(np.ones(2), dtype=dtype)
    apply = data.draw(st.sampled_from([lambda t: t * 2, ndl.tanh, lambda t: t + t, lambda t: t[0]]))
    result = apply(p)
    assert type(result) is ndl.Tensor
    assert result.dtype == dtype
