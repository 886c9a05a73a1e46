"""Operators that read or write where an index tensor says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DTypeError, IndexRangeError, ShapeError
from ..graph.kinds import Indexed
from ..graph.op import Sample
from ..shapes import Shape, Spec, as_dtype, as_int, checked_shape, normalize_axis

Array = np.ndarray[Any, Any]


class Take(Indexed):
    """y = a's slices along an axis, in the order that an index tensor gives."""

    def __init__(self, axis: int = 0) -> None:
        self.axis = as_int(axis, "take", "axis")

    def compute(self, a: Any, index: Any) -> Any:
        axis = normalize_axis(self.axis, a.ndim, "take")
        return np.take(a, as_indices(index, a.shape[axis], "take", negative=True), axis=axis)

    def infer(self, a: Any, index: Any) -> Any:
        axis = normalize_axis(self.axis, len(a.shape), "take")
        return Spec((*a.shape[:axis], *index.shape, *a.shape[axis + 1 :]), a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, index = node.inputs
        return out_grad.scatter_add(index, a.shape, self.axis % a.ndim), None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), ((4, 3), np.array([0, 2, 2, -1])))
        yield Sample(cls(-1), ((2, 3), np.array([[2, 0]])))
        yield Sample(cls(), ((4, 2), np.array(1)))
        yield Sample(cls(), ((4,), np.array([], np.int64)))
        yield Sample(cls(1), ((2, 5, 2), np.array([4.0, 0.0], np.float32)))


def take(a: Any, index: Any, axis: int = 0) -> Any:
    """Slices along an axis by index: rows of a table, embeddings.

    Where an index repeats, its gradients are added up.

    Args:
        a: Tensor with at least one axis.
        index: Tensor or array of whole numbers, of any shape and dtype; negative ones count from
            the end.
        axis: The axis that is indexed; it is replaced by the index's axes.

    Raises:
        IndexRangeError: an index is outside the axis.
        DTypeError: an index is no whole number.

    Example:
        >>> import needle as ndl
        >>> ndl.take(ndl.Tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 0, 1]).numpy()
        array([[3., 4.],
               [1., 2.],
               [3., 4.]])
    """
    return Take(axis)(a, index)


class ScatterAdd(Indexed):
    """y = zeros, with slices added where an index tensor says: the gradient of `Take`."""

    def __init__(self, shape: Shape, axis: int) -> None:
        self.shape = shape
        self.axis = normalize_axis(axis, len(shape), "scatter_add")

    def compute(self, a: Any, index: Any) -> Any:
        self.infer(a, index)  # a single value would be added at each place
        size, after = self.shape[self.axis], math.prod(self.shape[self.axis + 1 :])
        index = as_indices(index, size, "scatter_add", negative=True) % size
        # A place for each element: NumPy adds at those several times faster than at slices.
        before = np.arange(math.prod(self.shape[: self.axis])).reshape(-1, 1, 1)
        places = (before * size + index.reshape(-1, 1)) * after + np.arange(after)
        result = np.zeros(self.shape, a.dtype)
        np.add.at(result.reshape(-1), places.reshape(-1), a.reshape(-1))
        return result

    def infer(self, a: Any, index: Any) -> Any:
        expected = (*self.shape[: self.axis], *index.shape, *self.shape[self.axis + 1 :])
        if a.shape != expected:
            raise ShapeError(
                f"scatter_add: values have shape {a.shape}, the index asks for {expected}"
            )
        return Spec(self.shape, a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad.take(node.inputs[1], self.axis), None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((4, 3), 0), ((4, 3), np.array([0, 2, 2, -1])))
        yield Sample(cls((2, 3), 1), ((2, 1, 2), np.array([[2, 0]])))
        yield Sample(cls((4,), 0), ((), np.array(1)))
        yield Sample(cls((2, 3), 1), ((2,), np.array(1)))
        yield Sample(cls((4, 19), 0), ((3, 19), np.array([0, 2, 2])))


class Pick(Indexed):
    """y[…] = a[…, index[…]]: one element of each row."""

    def compute(self, a: Any, index: Any) -> Any:
        if index.shape != a.shape[:-1]:
            self.infer(a, index)
        index = as_indices(index, a.shape[-1], "pick")
        rows = a.reshape((index.size, a.shape[-1]))
        return rows[np.arange(index.size), index.reshape(-1)].reshape(index.shape)

    def infer(self, a: Any, index: Any) -> Any:
        if not a.shape or a.shape[:-1] != index.shape:
            raise ShapeError(
                f"pick: index of shape {index.shape} for values of shape {a.shape}. "
                f"Give one index a row: shape {a.shape[:-1]}"
            )
        return Spec(index.shape, a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, index = node.inputs
        hit = index.one_hot(a.shape[-1], "bool")
        repeated = out_grad.reshape((*out_grad.shape, 1)).broadcast_to(a.shape)
        return repeated.where(hit, 0), None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), ((3, 4), np.array([0, 3, 3])))
        yield Sample(cls(), ((4,), np.array(2)))
        yield Sample(cls(), ((2, 2, 3), np.array([[0.0, 1.0], [2.0, 2.0]])))
        yield Sample(cls(), ((0, 3), np.array([], np.int64)))


def pick(a: Any, index: Any) -> Any:
    """One element of each row, such as the logit of the right class: y[…] = a[…, index[…]].

    Args:
        a: Shape (…, classes).
        index: Tensor or array of shape (…) with whole numbers from 0 to classes - 1, of any dtype.

    Raises:
        IndexRangeError: an index is outside 0 … classes - 1.
        ShapeError: there is not one index a row.

    Example:
        >>> import needle as ndl
        >>> ndl.pick(ndl.Tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 0]).numpy()
        array([2., 3.])
    """
    return Pick()(a, index)


class OneHot(Indexed):
    """y[…, k] = 1 where index[…] = k, else 0."""

    differentiable = False

    def __init__(self, n: int, dtype: Any = "float32") -> None:
        (self.n,) = checked_shape(as_int(n, "one_hot", "n"), "one_hot")
        self.dtype = as_dtype(dtype, "one_hot")

    def compute(self, index: Any) -> Any:
        index = as_indices(index, self.n, "one_hot")
        return (index[..., None] == np.arange(self.n)).astype(self.dtype)

    def infer(self, index: Any) -> Any:
        return Spec((*index.shape, self.n), self.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(4), (np.array([0, 3, 3]),))
        yield Sample(cls(3, "float64"), (np.array([[0.0, 2.0]]),))
        yield Sample(cls(2, "bool"), (np.array(1),))
        yield Sample(cls(2), (np.array([], np.uint8),))


def one_hot(n: int, index: Any, dtype: Any = "float32") -> Any:
    """Rows of the identity matrix: y[…, k] = 1 where index[…] = k, else 0.

    Args:
        n: Number of classes.
        index: Tensor or array of whole numbers from 0 to n - 1, of any shape and dtype.
        dtype: Of the result.

    Returns:
        Shape (…, n).

    Raises:
        IndexRangeError: an index is outside 0 … n - 1.

    Example:
        >>> import needle as ndl
        >>> ndl.one_hot(3, ndl.Tensor([2, 0])).numpy()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    return OneHot(n, dtype)(index)


def as_indices(index: Array, size: int, operation: str, *, negative: bool = False) -> Array:
    """Indices as int64, checked against an axis of `size`; floats must hold whole numbers.

    Bools are the indices 0 and 1, and not a mask, which NumPy takes them for.

    Raises:
        DTypeError: an index is no whole number.
        IndexRangeError: an index is outside the axis.
    """
    if index.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = index.astype(np.int64)
        if not np.array_equal(whole, index):
            bad = index[whole != index].flat[0]
            raise DTypeError(
                f"{operation}: index {bad} is no whole number. Pass integers, or floats such as 3.0"
            )
        index = whole
    if index.size:
        low, high = np.minimum.reduce(index, axis=None), np.maximum.reduce(index, axis=None)
        if high >= size or low < (-size if negative else 0):
            raise _out_of_range(index, size, operation, -size if negative else 0)
    return index.astype(np.int64, copy=False)


def _out_of_range(index: Array, size: int, operation: str, lowest: int) -> IndexRangeError:
    position = tuple([int(i) for i in np.argwhere((index < lowest) | (index >= size))[0]])
    return IndexRangeError(
        f"{operation}: index {index[position]} at position {position} is out of range "
        f"for size {size}. Use indices from {lowest} to {size - 1}"
    )
