"""What Python and NumPy do with tensors through their protocols, beyond those of `test_tensor`."""

import copy
from collections import deque, namedtuple

import numpy as np
import pytest

import needle as ndl

X = np.arange(24.0).reshape(2, 3, 4)

NUMPY = {
    "sum": lambda x: np.sum(x),
    "mean of rows": lambda x: np.mean(x, axis=1),
    "max": lambda x: np.max(x, axis=(0, 2), keepdims=True),
    "min": lambda x: np.min(x),
    "var": lambda x: np.var(x, ddof=1),
    "argmax": lambda x: np.argmax(x, axis=-1),
    "transpose": lambda x: np.transpose(x),
    "transpose to an order": lambda x: np.transpose(x, axes=(2, 0, 1)),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "flip": lambda x: np.flip(x),
    "clip": lambda x: np.clip(x, 3, 7),
    "take": lambda x: np.take(x, [1, 0], axis=2),
    "reshape": lambda x: np.reshape(x, (4, 6)),
    "stack": lambda x: np.stack([x, x]),
    "nested": lambda x: np.block([[x, x], [x, x]]),
    "shape": lambda x: np.shape(x),
    "ndim": lambda x: np.ndim(x),
    "size": lambda x: np.size(x, axis=1),
}


def _object_array(items):
    array = np.empty(len(items), object)
    for place, item in enumerate(items):
        array[place] = item
    return array


@pytest.mark.parametrize("function", NUMPY.values(), ids=NUMPY.keys())
@pytest.mark.parametrize("lazy", [False, True])
def test_numpys_functions_see_the_values(function, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    result, expected = function(ndl.Tensor(X) * 1), function(X)
    assert type(result) is type(expected)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "container",
    [deque, namedtuple("Pair", "a b")._make, lambda ts: ndl.make_tuple(*ts), _object_array],
    ids=["deque", "named tuple", "TensorTuple", "array of objects"],
)
def test_numpys_functions_see_tensors_in_any_sequence(container):
    tensors = [ndl.Tensor(X), ndl.Tensor(X + 1)]
    for function in (np.stack, np.concatenate, np.vstack):
        np.testing.assert_array_equal(function(container(tensors)), function([X, X + 1]))


def test_numpy_knows_shapes_in_a_trace():
    def scaled(x):
        return x * (np.ndim(x) + np.shape(x)[1] + np.size(x))

    x = ndl.Tensor(X)
    np.testing.assert_array_equal(ndl.jit(scaled, warmup=0)(x).numpy(), scaled(X))
    with pytest.raises(ndl.TraceError, match="not known while a jitted function is traced"):
        ndl.jit(lambda x: np.sum(x), warmup=0)(x)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_dlpack_shares_memory(dtype, shape):
    t = ndl.Tensor(np.ones(shape), dtype=dtype)
    array = np.from_dlpack(t)
    assert (array.shape, array.dtype) == (t.shape, t.dtype)
    assert np.shares_memory(array, t.cached_data) == (t.size > 0)


def test_in_is_refused():
    """`==` goes by identity: 2.0 would not be found where it is."""
    t = ndl.Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"`in` goes by identity.*t.equal\(value\)"):
        assert 2.0 in t
    assert 2.0 in t.tolist()


def test_a_copy_keeps_attributes():
    t = ndl.nn.Parameter([1.0])
    t.name = "weight"
    assert copy.copy(t).name == copy.deepcopy(t).name == "weight"


def test_copies_of_tuples_are_leaves():
    t = ndl.Tensor([1.0])
    pair = ndl.make_tuple(t * 2, t * 3)
    shallow, deep = copy.copy(pair), copy.deepcopy(pair)
    pair.numpy()[1][0] = 7
    assert (shallow[1].item(), deep[1].item()) == (7, 3)
    for twin in (shallow, deep):
        assert twin.is_leaf()
        assert twin.requires_grad
