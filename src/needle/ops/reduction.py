"""Reductions along axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.kinds import SAMPLE_SHAPES, Composite, Reduction
from ..graph.op import Sample, TensorOp
from ..shapes import Axes, Spec, as_flag, as_int, frozen_axes, normalize_axes, reduced_shape
from .comparison import where
from .creation import arange
from .operands import as_float, as_number, as_tensor
from .sums import total


class Summation(Reduction):
    """y = Σ a over axes."""

    combine = "add"

    def compute(self, x: Any) -> Any:
        return total(x, self.axes, keepdims=self.keepdims) if x.ndim else super().compute(x)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return self.expand(out_grad, node.inputs[0])


def summation(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """Sum over axes: y = Σ a.

    Args:
        a: Tensor; bools and small integers are summed in 64 bits, as in NumPy.
        axes: None (all, the result has shape ()), an int or a tuple.
        keepdims: Keep reduced axes with size 1.

    Raises:
        ShapeError: an axis is out of range or named twice.

    Example:
        >>> import needle as ndl
        >>> ndl.summation(ndl.Tensor([[1.0, 2.0], [3.0, 4.0]]), axes=1).numpy()
        array([3., 7.])
    """
    return Summation(axes, keepdims)(a)


class Extreme(Reduction, abstract=True):
    """Base of `max` and `min`: elements that share the extreme share the gradient."""

    has_identity = False

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0]
        hit = a.equal(self.expand(node, a)).astype(out_grad.dtype)
        count = hit.sum(self.axes, keepdims=self.keepdims)
        return self.expand(out_grad / count, a) * hit


class Max(Extreme):
    """y = the largest of a along axes."""

    combine = "maximum"


class Min(Extreme):
    """y = the smallest of a along axes."""

    combine = "minimum"


def max(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """Largest element along axes; NaN where there is one. Ties share the gradient.

    Args:
        a: Tensor.
        axes: None (all), an int or a tuple.
        keepdims: Keep reduced axes with size 1.

    Raises:
        ShapeError: an axis is out of range, or there is nothing to choose from.

    Example:
        >>> import needle as ndl
        >>> ndl.max(ndl.Tensor([[1.0, 5.0], [3.0, 4.0]]), axes=0).numpy()
        array([3., 5.])
    """
    return Max(axes, keepdims)(a)


def min(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """Smallest element along axes; NaN where there is one. Ties share the gradient.

    Args:
        a: Tensor.
        axes: None (all), an int or a tuple.
        keepdims: Keep reduced axes with size 1.

    Raises:
        ShapeError: an axis is out of range, or there is nothing to choose from.

    Example:
        >>> import needle as ndl
        >>> ndl.min(ndl.Tensor([[1.0, 5.0], [3.0, 4.0]]), axes=0).numpy()
        array([1., 4.])
    """
    return Min(axes, keepdims)(a)


class ArgMax(Composite, TensorOp):
    """y = position of the first largest element along an axis, or in the flattened tensor."""

    label = "argmax"
    differentiable = False

    def __init__(self, axis: int | None = None, keepdims: bool = False) -> None:
        self.axis = None if axis is None else as_int(axis, self.name, "axis")
        self.keepdims = as_flag(keepdims, self.name, "keepdims")

    def compute(self, a: Any) -> Any:
        if not a.ndim:  # NumPy takes axis 0 of a 0-d array
            normalize_axes(self.axis, 0, self.name)
        return np.argmax(a, axis=self.axis, keepdims=self.keepdims)

    def decompose(self, a: Any) -> Any:
        shape = reduced_shape(a.shape, normalize_axes(self.axis, a.ndim, self.name), self.keepdims)
        if self.axis is None:
            a = a.reshape((a.size,))
        axis = self.axis or 0
        count = a.shape[axis]
        places = [count if k == axis % a.ndim else 1 for k in range(a.ndim)]
        place = arange(0, count, dtype=np.int64).reshape(places).broadcast_to(a.shape)
        hit = a.equal(a.max(axis, keepdims=True).broadcast_to(a.shape))
        if a.dtype.kind == "f":
            hit = where(a.equal(a), hit, True)  # NaN is the largest of all
        return where(hit, place, count).min(axis).reshape(shape)

    def infer(self, a: Any) -> Any:
        listed = normalize_axes(self.axis, len(a.shape), self.name)
        if any(a.shape[axis] == 0 for axis in listed):
            raise ShapeError(
                f"argmax: shape {a.shape} has nothing to choose from. Use axes of size >= 1"
            )
        return Spec(reduced_shape(a.shape, listed, self.keepdims), np.dtype(np.int64))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            if 0 not in shape:
                yield Sample(cls(), (shape,))
                for axis in range(-len(shape), len(shape)):
                    yield Sample(cls(axis, keepdims=axis < 0), (shape,))


def argmax(a: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Position of the first largest element, int64; it has no gradient.

    Args:
        a: Tensor.
        axis: An axis, or None for the position in the flattened tensor.
        keepdims: Keep the reduced axes with size 1.

    Raises:
        ShapeError: the axis is out of range, or there is nothing to choose from.

    Example:
        >>> import needle as ndl
        >>> ndl.argmax(ndl.Tensor([[1.0, 5.0], [7.0, 4.0]]), axis=1).numpy()
        array([1, 0])
    """
    return ArgMax(axis, keepdims)(a)


def _count(a: Any, axes: Axes, operation: str) -> int:
    count = math.prod([a.shape[axis] for axis in normalize_axes(axes, a.ndim, operation)])
    if count == 0:
        raise ShapeError(
            f"{operation}: shape {a.shape} has no elements to average over axes {axes}. "
            "Use axes of size >= 1"
        )
    return count


def mean(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """Arithmetic mean over axes: y = Σ a / n; integers give float64, float16 is summed in float32.

    Args:
        a: Tensor.
        axes: None (all), an int or a tuple.
        keepdims: Keep reduced axes with size 1.

    Raises:
        ShapeError: an axis is out of range, or there is nothing to average.

    Example:
        >>> import needle as ndl
        >>> ndl.mean(ndl.Tensor([1.0, 2.0, 6.0])).item()
        3.0
    """
    a, axes = as_tensor(a, "mean"), frozen_axes(axes, "mean")
    count = _count(a, axes, "mean")
    a = as_float(a)  # the sum of large integers would wrap around
    if a.dtype.char == "e":  # float16, of which a sum soon overflows or stands still
        return mean(a.astype("float32"), axes, keepdims).astype(a.dtype)
    return summation(a, axes, keepdims) / count


def var(a: Any, axes: Axes = None, keepdims: bool = False, *, ddof: float = 0) -> Any:
    """Variance over axes, in two passes: y = Σ (a - mean)² / (n - ddof).

    Args:
        a: Tensor.
        axes: None (all), an int or a tuple.
        keepdims: Keep reduced axes with size 1.
        ddof: 0 for the biased variance (NumPy's default), 1 for the unbiased one (PyTorch's).

    Raises:
        ShapeError: an axis is out of range, or there are not more than `ddof` elements.
        ArgumentError: `ddof` is no number.

    Example:
        >>> import needle as ndl
        >>> ndl.var(ndl.Tensor([1.0, 3.0])).item()
        1.0
    """
    a, axes, ddof = as_tensor(a, "var"), frozen_axes(axes, "var"), as_number(ddof, "var")
    count = _count(a, axes, "var")
    if not count > ddof:
        raise ShapeError(
            f"var: {count} elements and ddof={ddof} leave nothing to divide by. Use ddof < {count}"
        )
    if a.dtype.char == "e":
        return var(a.astype("float32"), axes, keepdims, ddof=ddof).astype(a.dtype)
    centred = a - mean(a, axes, keepdims=True).broadcast_to(a.shape)
    return summation(centred * centred, axes, keepdims) / (count - ddof)
