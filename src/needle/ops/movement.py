"""Operators that move or repeat elements by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.kinds import SAMPLE_SHAPES, Movement
from ..graph.op import Sample
from ..shapes import Shape, Spec, as_shape, checked_shape, normalize_axis, reshaped


class Transpose(Movement):
    """y = a with two axes swapped."""

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        self.axes = (-1, -2) if axes is None else as_shape(axes, "transpose", "axis")
        if len(self.axes) != 2:
            raise ArgumentError(
                f"transpose: axes {self.axes} are not two. It swaps two axes; "
                "use permute for a new order"
            )

    def compute(self, a: Any) -> Any:
        return a.swapaxes(*self.axes)

    def infer(self, a: Any) -> Any:
        i, j = (normalize_axis(axis, len(a.shape), "transpose") for axis in self.axes)
        shape = list(a.shape)
        shape[i], shape[j] = shape[j], shape[i]
        return Spec(tuple(shape), a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad.transpose(self.axes)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            if len(shape) >= 2:
                yield Sample(cls(), (shape,))
                yield Sample(cls((0, -1)), (shape,))


def transpose(a: Any, axes: Sequence[int] | None = None) -> Any:
    """Swap two axes, the last two by default.

    Args:
        a: Tensor.
        axes: The two axes.

    Raises:
        ArgumentError: not two axes are named.
        ShapeError: an axis is out of range.

    Example:
        >>> import needle as ndl
        >>> ndl.transpose(ndl.Tensor([[1.0, 2.0, 3.0]])).shape
        (3, 1)
    """
    return _TRANSPOSE(a) if axes is None else Transpose(axes)(a)


class Permute(Movement):
    """y = a with its axes in a new order."""

    def __init__(self, axes: Sequence[int]) -> None:
        self.axes = as_shape(axes, "permute", "axis")

    def compute(self, a: Any) -> Any:
        return a.transpose(self.axes)

    def infer(self, a: Any) -> Any:
        ndim = len(a.shape)
        order = [normalize_axis(axis, ndim, "permute") for axis in self.axes]
        if sorted(order) != list(range(ndim)):
            raise ShapeError(
                f"permute: axes {self.axes} do not name each of {ndim} axes once. Name each once"
            )
        return Spec(tuple([a.shape[axis] for axis in order]), a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        back = np.argsort([axis % node.ndim for axis in self.axes]) if self.axes else ()
        return out_grad.permute(tuple(back))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            yield Sample(cls(tuple(range(len(shape)))[::-1]), (shape,))
        yield Sample(cls((1, -1, 0)), ((2, 3, 4),))


def permute(a: Any, axes: Sequence[int]) -> Any:
    """Put the axes in a new order: axis k of the result is axis `axes[k]` of `a`.

    Args:
        a: Tensor.
        axes: Every axis once; negative ones count from the end.

    Raises:
        ShapeError: `axes` does not name each axis once.

    Example:
        >>> import needle as ndl
        >>> ndl.permute(ndl.zeros(2, 3, 4), (2, 0, 1)).shape
        (4, 2, 3)
    """
    return Permute(axes)(a)


class Reshape(Movement):
    """y = a's elements, in order, in another shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = as_shape(shape, "reshape")
        if min(self.shape, default=0) < -1:  # NumPy takes it for a -1
            reshaped((), self.shape)

    def compute(self, a: Any) -> Any:
        return a.reshape(self.shape)

    def infer(self, a: Any) -> Any:
        return Spec(reshaped(a.shape, self.shape), a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad.reshape(node.inputs[0].shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            yield Sample(cls((1, *shape[::-1], 1)), (shape,))
        yield Sample(cls((-1, 2)), ((2, 3, 4),))


def reshape(a: Any, shape: Any) -> Any:
    """The same elements, in row-major order, in another shape.

    Args:
        a: Tensor.
        shape: Sizes; one of them may be -1 and follows from the others.

    Raises:
        ShapeError: the number of elements differs.

    Example:
        >>> import needle as ndl
        >>> ndl.reshape(ndl.zeros(2, 3), (3, -1)).shape
        (3, 2)
    """
    return Reshape(shape)(a)


class BroadcastTo(Movement):
    """y = a, repeated to a larger shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = checked_shape(shape, "broadcast_to")

    def compute(self, a: Any) -> Any:
        return _repeated(a, self.shape)

    def infer(self, a: Any) -> Any:
        new = len(self.shape) - len(a.shape)
        if new < 0 or any(n not in (1, m) for n, m in zip(a.shape, self.shape[new:], strict=True)):
            raise ShapeError(
                f"broadcast_to: shape {a.shape} does not fit {self.shape}. Axes are matched from "
                "the last one on; each must be equal or 1: insert an axis with reshape"
            )
        return Spec(self.shape, a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return summed_to(out_grad, node.inputs[0].shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in SAMPLE_SHAPES:
            yield Sample(cls((2, *shape)), (shape,))
            yield Sample(cls(tuple([4 if n == 1 else n for n in shape])), (shape,))
        yield Sample(cls((0, 3)), ((1, 3),))


def summed_to(gradient: Any, shape: Shape) -> Any:
    """The sum over the axes that broadcasting from `shape` added or repeated."""
    larger = gradient.shape
    if larger == shape:
        return gradient
    new = len(larger) - len(shape)
    repeated = [i for i, n in enumerate(shape, new) if n == 1 and larger[i] != 1]
    if not new:
        return gradient.sum(tuple(repeated), keepdims=True)
    reduced = gradient.sum((*range(new), *repeated))
    return reduced.reshape(shape) if repeated else reduced


def _repeated(a: Any, shape: Shape) -> Any:
    """`np.broadcast_to`, in less than half its time where `a` is dense."""
    new = len(shape) - a.ndim
    if new < 0 or not a.size or not a.flags.c_contiguous:
        return np.broadcast_to(a, shape)
    strides = [0] * new
    for n, m, stride in zip(a.shape, shape[new:], a.strides, strict=True):
        if n != m and n != 1:
            return np.broadcast_to(a, shape)  # says what is wrong
        strides.append(stride if n == m else 0)
    result = np.ndarray(shape, a.dtype, a, 0, strides)
    result.setflags(write=False)
    return result


def broadcast_to(a: Any, shape: Any) -> Any:
    """Repeat a tensor to a larger shape by NumPy's rule. The gradient is summed over the repeats.

    Args:
        a: Tensor.
        shape: Matched from the last axis on; each axis of `a` is equal to it or 1.

    Raises:
        ShapeError: the shapes do not fit.

    Example:
        >>> import needle as ndl
        >>> ndl.broadcast_to(ndl.Tensor([[1.0], [2.0]]), (2, 2)).numpy()
        array([[1., 1.],
               [2., 2.]])
    """
    return BroadcastTo(shape)(a)


_TRANSPOSE = Transpose()
