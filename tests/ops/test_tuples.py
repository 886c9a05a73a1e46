"""Tuples of tensors as values of the graph."""

import copy

import numpy as np
import pytest

import needle as ndl
from needle.errors import ArgumentError, IndexRangeError


def test_a_tuple_is_a_sequence():
    a, b = ndl.Tensor([1.0, 2.0]), ndl.Tensor(3)
    pair = ndl.make_tuple(a, b)
    assert type(pair) is ndl.TensorTuple
    assert isinstance(pair, ndl.Value)
    assert len(pair) == 2
    np.testing.assert_array_equal(pair[0].numpy(), [1, 2])
    np.testing.assert_array_equal(pair[-1].numpy(), 3)
    assert pair[np.int64(1)].dtype == np.int64
    assert [t.shape for t in pair] == [(2,), ()]
    assert [t.shape for t in pair.tuple()] == [(2,), ()]
    assert type(pair.tuple()) is tuple
    first, _ = pair.numpy()
    np.testing.assert_array_equal(first, [1, 2])
    assert repr(pair) == (
        "needle.TensorTuple(needle.Tensor([1., 2.], dtype=float64), needle.Tensor(3, dtype=int64))"
    )
    assert ndl.tuple_get_item(value=pair, index=1).item() == 3


def test_an_index_outside_the_tuple():
    pair = ndl.make_tuple(ndl.Tensor(1.0), ndl.Tensor(2.0))
    message = "tuple_get_item: index 2 is out of range for 2 elements. Use an index from -2 to 1"
    with pytest.raises(IndexRangeError, match=message):
        pair[2]
    with pytest.raises(ArgumentError, match="tuple_get_item: index must be an integer, got 'a'"):
        pair["a"]


def test_sums():
    pair = ndl.make_tuple(ndl.Tensor(1.0), ndl.Tensor([2.0]))
    total = pair + pair
    assert [t.numpy().tolist() for t in total] == [2.0, [4.0]]
    with pytest.raises(ArgumentError, match="add: a TensorTuple of 2 takes another of the same"):
        pair + ndl.make_tuple(ndl.Tensor(1.0))
    with pytest.raises(ArgumentError, match="add: a TensorTuple of 2"):
        pair + 1


def test_detached():
    x = ndl.Tensor(2.0)
    pair = ndl.make_tuple(x, x * 2).detach()
    assert [t.requires_grad for t in pair] == [False, False]


def test_gradients_pass_through_tuples():
    a, b = np.random.randn(2, 2), np.random.randn(3)

    def f(x, y):
        pair = ndl.make_tuple(x * 2, y)
        nested = ndl.make_tuple(pair[1] ** 2, pair[0], pair[1])
        return nested[0].sum() * nested[1].sum() * nested[2].sum()

    ndl.check_gradients(f, a, b, order=2)


def test_an_element_that_is_not_used_gets_zeros():
    x, y = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0])
    (ndl.make_tuple(x, y)[0] * 3).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    np.testing.assert_array_equal(y.grad.numpy(), [0])


def test_fused_add_scalars():
    x = ndl.Tensor([1.0, 2.0], dtype="float32")
    pair = ndl.fused_add_scalars(x, c0=1, c1=-2.5)
    assert [(t.dtype, t.numpy().tolist()) for t in pair] == [
        (np.float32, [2, 3]),
        (np.float32, [-1.5, -0.5]),
    ]
    (pair[0] * pair[1]).backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy() - 1.5)
    ndl.check_gradients(lambda t: ndl.fused_add_scalars(t, 1, 2)[1] ** 2, [0.5, 1.0], order=2)


def test_gradient_as_tuple_of_tuple_operators():
    x = ndl.Tensor([1.0, 2.0])
    pair = ndl.make_tuple(x, x)
    gradients = pair.op.gradient_as_tuple(ndl.make_tuple(x * 2, x * 3), pair)
    assert [g.numpy().tolist() for g in gradients] == [[2, 4], [3, 6]]
    fused = ndl.fused_add_scalars(x, 1, 2)
    (gradient,) = fused.op.gradient_as_tuple(ndl.make_tuple(x, x), fused)
    np.testing.assert_array_equal(gradient.numpy(), [2, 4])
    item = pair[1]
    (gradient,) = item.op.gradient_as_tuple(ndl.Tensor([5.0, 6.0]), item)
    assert [g.numpy().tolist() for g in gradient] == [[0, 0], [5, 6]]


def test_held_tuples_get_their_gradient():
    x = ndl.Tensor([1.0])
    pair = ndl.make_tuple(x, x * 2)
    (pair[0] * 3 + pair[1]).backward()
    assert [g.item() for g in pair.grad] == [3, 1]


def test_deepcopy_is_a_leaf():
    x = ndl.Tensor([1.0, 2.0])
    pair = ndl.make_tuple(x, x * 2)
    twins = copy.deepcopy([pair, pair])
    twin = twins[0]
    assert twins[1] is twin
    assert type(twin) is ndl.TensorTuple
    assert (twin.is_leaf(), twin.requires_grad) == (True, True)
    x.cached_data[0] = 9
    assert [t.numpy().tolist() for t in twin] == [[1, 2], [2, 4]]
    assert not copy.deepcopy(pair.detach()).requires_grad


def test_tuples_are_not_pickled():
    import pickle

    with pytest.raises(TypeError, match="tensors are not pickled"):
        pickle.dumps(ndl.make_tuple(ndl.Tensor(1.0)))
