"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.kinds import SAMPLE_SHAPES, Reduction
from ..graph.op import Sample, TensorOp
from ..shapes import Axes, Spec, normalize_axes, normalize_axis, reduced_shape


class Summation(Reduction):
    """y = Σ a over axes."""

    label = "summation"
    combine = "add"

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return self.expand(out_grad, node.inputs[0])


def summation(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """Sum over axes: y = Σ a.

    Args:
        a: Tensor; bools and small integers are summed in int64, as in NumPy.
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


class Extreme(Reduction):
    """Base of `max` and `min`: elements that share the extreme share the gradient."""

    has_identity = False

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0]
        hit = a.equal(self.expand(node, a)).astype(out_grad.dtype)
        count = hit.sum(self.axes, keepdims=self.keepdims)
        return self.expand(out_grad / count, a) * hit


class Max(Extreme):
    """y = the largest of a along axes."""

    label = "max"
    combine = "maximum"


class Min(Extreme):
    """y = the smallest of a along axes."""

    label = "min"
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


class ArgMax(TensorOp):
    """y = position of the first largest element along an axis, or in the flattened tensor."""

    label = "argmax"
    differentiable = False

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis

    def compute(self, a: Any) -> Any:
        return np.argmax(a, axis=self.axis)

    def infer(self, a: Any) -> Any:
        axes = None if self.axis is None else normalize_axis(self.axis, len(a.shape), self.name)
        listed = normalize_axes(axes, len(a.shape), self.name)
        if any(a.shape[axis] == 0 for axis in listed):
            raise ShapeError(
                f"argmax: shape {a.shape} has nothing to choose from. Use axes of size >= 1"
            )
        return Spec(reduced_shape(a.shape, listed, False), np.dtype(np.int64))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            if 0 not in shape:
                yield Sample(cls(), (shape,))
                for axis in range(-len(shape), len(shape)):
                    yield Sample(cls(axis), (shape,))


def argmax(a: Any, axis: int | None = None) -> Any:
    """Position of the first largest element, int64; it has no gradient.

    Args:
        a: Tensor.
        axis: An axis, or None for the position in the flattened tensor.

    Raises:
        ShapeError: the axis is out of range, or there is nothing to choose from.

    Example:
        >>> import needle as ndl
        >>> ndl.argmax(ndl.Tensor([[1.0, 5.0], [3.0, 4.0]]), axis=1).numpy()
        array([1, 0])
    """
    return ArgMax(axis)(a)


class LogSumExp(Reduction):
    """y = ln Σ exp(a) over axes, the maximum subtracted first."""

    label = "logsumexp"
    has_identity = False

    def decompose(self, a: Any) -> Any:
        """The same in terms of other operators, for the compiler."""
        top = a.max(self.axes, keepdims=True).detach()
        finite = top.where((top - top).equal(0), 0)
        total = (a - finite.broadcast_to(a.shape)).exp().sum(self.axes, keepdims=True)
        result = total.log() + finite
        return result.reshape(
            reduced_shape(a.shape, normalize_axes(self.axes, a.ndim, self.name), self.keepdims)
        )

    def compute(self, a: Any) -> Any:
        if a.dtype.kind != "f":
            a = a.astype(np.float64)
        top = np.maximum.reduce(a, axis=self.axes, keepdims=True)
        # An infinite maximum cannot be subtracted: inf - inf is NaN where the result is the infinity itself.
        top = np.where(np.isfinite(top), top, np.zeros_like(top))
        with np.errstate(divide="ignore"):
            result = np.log(np.add.reduce(np.exp(a - top), axis=self.axes, keepdims=True)) + top
        return result if self.keepdims else result.squeeze(self.axes)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0]
        return self.expand(out_grad, a) * (a - self.expand(node, a)).exp()


def logsumexp(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """ln Σ exp(a) over axes; stable, since the maximum is subtracted first.

    Args:
        a: Tensor; integers give float64.
        axes: None (all, the result has shape ()), an int or a tuple.
        keepdims: Keep reduced axes with size 1.

    Raises:
        ShapeError: an axis is out of range, or there is nothing to sum.

    Example:
        >>> import needle as ndl
        >>> ndl.logsumexp(ndl.Tensor([1000.0, 1000.0])).numpy().round(3)
        np.float64(1000.693)
    """
    return LogSumExp(axes, keepdims)(a)


class LogSoftmax(TensorOp):
    """y = a - ln Σ exp(a) over the last axis."""

    label = "logsoftmax"

    def decompose(self, a: Any) -> Any:
        """The same in terms of other operators, for the compiler."""
        return a - a.logsumexp(-1, keepdims=True).broadcast_to(a.shape)

    def compute(self, a: Any) -> Any:
        return a - LogSumExp(-1, keepdims=True).compute(a)

    def infer(self, a: Any) -> Any:
        if not a.shape:
            raise ShapeError("logsoftmax: shape () has no axis to normalise. Use at least one axis")
        dtype = a.dtype if a.dtype.kind == "f" else np.dtype(np.float64)
        return Spec(a.shape, LogSumExp(-1, keepdims=True).infer(a) and dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        total = out_grad.sum(-1, keepdims=True).broadcast_to(node.shape)
        return out_grad - node.exp() * total

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            if shape and shape[-1]:
                yield Sample(cls(), (shape,))


def logsoftmax(a: Any) -> Any:
    """Logarithm of the softmax over the last axis (axis 1 of a matrix): y = a - ln Σ exp(a).

    Args:
        a: Tensor with at least one axis.

    Raises:
        ShapeError: `a` has no axis, or its last one is empty.

    Example:
        >>> import needle as ndl
        >>> ndl.logsoftmax(ndl.Tensor([[1e5, 1e5]])).exp().numpy()
        array([[0.5, 0.5]])
    """
    return LogSoftmax()(a)


def softmax(a: Any, axis: int = -1) -> Any:
    """Softmax: y = exp(a) / Σ exp(a) along an axis, the maximum subtracted first.

    Args:
        a: Tensor; integers give float64.
        axis: The axis that sums to one.

    Example:
        >>> import needle as ndl
        >>> ndl.softmax(ndl.Tensor([[2.0, 2.0]])).numpy()
        array([[0.5, 0.5]])
    """
    return (a - logsumexp(a, axis, keepdims=True).broadcast_to(a.shape)).exp()


def _count(a: Any, axes: Axes, operation: str) -> int:
    count = 1
    for axis in normalize_axes(axes, a.ndim, operation):
        count *= a.shape[axis]
    if count == 0:
        raise ShapeError(
            f"{operation}: shape {a.shape} has no elements to average over axes {axes}"
        )
    return count


def mean(a: Any, axes: Axes = None, keepdims: bool = False) -> Any:
    """Arithmetic mean over axes: y = Σ a / n; integers give float64.

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
    return summation(a, axes, keepdims) / _count(a, axes, "mean")


def var(a: Any, axes: Axes = None, keepdims: bool = False, *, ddof: int = 0) -> Any:
    """Variance over axes, in two passes: y = Σ (a - mean)² / (n - ddof).

    Args:
        a: Tensor.
        axes: None (all), an int or a tuple.
        keepdims: Keep reduced axes with size 1.
        ddof: 0 for the biased variance (NumPy's default), 1 for the unbiased one (PyTorch's default).

    Raises:
        ShapeError: an axis is out of range, or there are not more than `ddof` elements.

    Example:
        >>> import needle as ndl
        >>> ndl.var(ndl.Tensor([1.0, 3.0])).item()
        1.0
    """
    count = _count(a, axes, "var")
    if count <= ddof:
        raise ShapeError(
            f"var: {count} elements and ddof={ddof} leave nothing to divide by. Use ddof < {count}"
        )
    centred = a - mean(a, axes, keepdims=True).broadcast_to(a.shape)
    return summation(centred * centred, axes, keepdims) / (count - ddof)
