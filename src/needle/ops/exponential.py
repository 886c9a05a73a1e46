"""ln Σ exp and what is made of it: the maximum is subtracted first, so that no `exp` overflows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.kinds import SAMPLE_SHAPES, Composite, Reduction
from ..graph.op import Sample, TensorOp
from ..shapes import Axes, Spec, as_int, normalize_axes, normalize_axis, reduced_shape
from . import sums
from .operands import as_float, float_dtype


class LogSumExp(Composite, Reduction):
    """y = ln Σ exp(a) over axes, the maximum subtracted first."""

    label = "logsumexp"
    has_identity = False

    def decompose(self, a: Any) -> Any:
        shifted, top = lowered_by_maximum(a, self.axes)
        total = shifted.exp().sum(self.axes, keepdims=True)
        axes = normalize_axes(self.axes, a.ndim, self.name)
        return (total.log() + top).reshape(reduced_shape(a.shape, axes, self.keepdims))

    def compute(self, a: Any) -> Any:
        if not a.ndim:  # NumPy takes axis 0 of a 0-d array
            normalize_axes(self.axes, 0, self.name)
        shifted, top = shifted_by_maximum(a, self.axes)
        with np.errstate(divide="ignore"):
            result = np.log(summed(np.exp(shifted), self.axes)) + top
        result = result.astype(shifted.dtype, copy=False)
        return result if self.keepdims else result.squeeze(self.axes)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        # Not exp(a - y): of that, rounding y leaves no digit where a float32 is 1e8.
        a = node.inputs[0]
        exponential = lowered_by_maximum(a, self.axes)[0].exp()
        return self.expand(out_grad, a) * (exponential / repeated_total(exponential, self.axes))


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


def shifted_by_maximum(a: Any, axes: Axes) -> tuple[Any, Any]:
    """Floating-point `a` minus its maximum over axes, and that maximum: `exp` then cannot overflow.

    An infinite maximum is not subtracted: inf - inf is NaN where the result is the infinity itself.
    """
    a = as_float(a)
    top = np.maximum.reduce(a, axis=axes, keepdims=True)
    finite = np.isfinite(top)
    if not np.logical_and.reduce(finite, axis=None):
        top = np.where(finite, top, np.zeros_like(top))
    return a - top, top


def summed(a: Any, axes: Axes) -> Any:
    """Sum of an array over axes, which are kept; of float16 in float32.

    In float16 it is infinite beyond 65,504, and adding up rows stands still at 2,048.
    """
    return sums.total(a.astype(np.float32) if a.dtype.char == "e" else a, axes, keepdims=True)


def lowered_by_maximum(a: Any, axes: Axes) -> tuple[Any, Any]:
    """`shifted_by_maximum` in tensor operators; the maximum passes no gradient."""
    a = as_float(a)
    top = a.max(axes, keepdims=True).detach()
    top = top.where((top - top).equal(0), 0)
    return a - top.broadcast_to(a.shape), top


def repeated_total(a: Any, axes: Axes) -> Any:
    """Sum of a tensor over axes, repeated to its shape; of float16 in float32, as `summed`."""
    a = a.astype("float32") if a.dtype.char == "e" else a
    return a.sum(axes, keepdims=True).broadcast_to(a.shape)


class AlongAxis(Composite, TensorOp, abstract=True):
    """Base of softmax and its logarithm, along one axis."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = as_int(axis, self.name, "axis")

    def shifted(self, a: Any) -> Any:
        """An array minus its maximum: all of it is NaN where that is infinite."""
        if not a.ndim:  # NumPy takes axis 0 of a 0-d array
            self.infer(a)
        a = as_float(a)
        return a - np.maximum.reduce(a, axis=self.axis, keepdims=True)

    def lowered(self, a: Any) -> Any:
        """The same in tensor operators; the maximum passes no gradient."""
        a = as_float(a)
        return a - a.max(self.axis, keepdims=True).detach().broadcast_to(a.shape)

    def infer(self, a: Any) -> Any:
        axis = normalize_axis(self.axis, len(a.shape), self.name)
        if not a.shape[axis]:
            raise ShapeError(
                f"{self.name}: axis {axis} of shape {a.shape} is empty. Use an axis of size >= 1"
            )
        return Spec(a.shape, float_dtype(a.dtype))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            for axis in range(-len(shape), len(shape)):
                if shape[axis]:
                    yield Sample(cls(axis), (shape,))


class LogSoftmax(AlongAxis):
    """y = (a - max a) - ln Σ exp(a - max a) along an axis: exact for large values too."""

    label = "logsoftmax"

    def decompose(self, a: Any) -> Any:
        shifted = self.lowered(a)
        total = shifted.exp().sum(self.axis, keepdims=True)
        return shifted - total.log().broadcast_to(a.shape)

    def compute(self, a: Any) -> Any:
        shifted = self.shifted(a)
        result = shifted - np.log(summed(np.exp(shifted), self.axis))
        return result.astype(shifted.dtype, copy=False)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad - node.exp() * repeated_total(out_grad, self.axis)


class Softmax(AlongAxis):
    """y = exp(a - max a) / Σ exp(a - max a) along an axis."""

    def decompose(self, a: Any) -> Any:
        exponential = self.lowered(a).exp()
        return exponential / exponential.sum(self.axis, keepdims=True).broadcast_to(a.shape)

    def compute(self, a: Any) -> Any:
        exponential = np.exp(self.shifted(a))
        exponential /= summed(exponential, self.axis)
        return exponential

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return node * (out_grad - repeated_total(out_grad * node, self.axis))


def logsoftmax(a: Any, axis: int = -1) -> Any:
    """Logarithm of the softmax, by default over the last axis: y = a - ln Σ exp(a).

    The maximum is subtracted first, so that it is exact for inputs of 1e5 and more.

    Args:
        a: Tensor with at least one axis; integers give float64.
        axis: The axis along which exp(y) sums to one.

    Raises:
        ShapeError: there is no such axis, or it is empty.

    Example:
        >>> import needle as ndl
        >>> ndl.logsoftmax(ndl.Tensor([[1e5, 1e5]])).exp().numpy()
        array([[0.5, 0.5]])
    """
    return LogSoftmax(axis)(a)


def softmax(a: Any, axis: int = -1) -> Any:
    """Softmax: y = exp(a) / Σ exp(a) along an axis, the maximum subtracted first.

    Args:
        a: Tensor; integers give float64.
        axis: The axis that sums to one.

    Raises:
        ShapeError: there is no such axis, or it is empty.

    Example:
        >>> import needle as ndl
        >>> ndl.softmax(ndl.Tensor([[2.0, 2.0]])).numpy()
        array([[0.5, 0.5]])
    """
    return Softmax(axis)(a)
