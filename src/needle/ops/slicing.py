"""Operators that pick, place and join ranges of positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.kinds import Movement
from ..graph.node import Value
from ..graph.op import Sample
from ..shapes import Shape, Spec, as_int, as_shape, checked_shape, holds_several, normalize_axis
from .operands import as_tensor

Range = tuple[int, int, int]
"""First position, number of elements and step (not 0) of a slice along one axis."""


def _slices(ranges: tuple[Range, ...]) -> tuple[slice, ...]:
    result = []
    for start, count, step in ranges:
        stop = start + count * step
        result.append(slice(start, stop if stop >= 0 else None, step) if count else slice(0, 0))
    return tuple(result)


class Slice(Movement):
    """y = a[start : start + count · step : step] along every axis."""

    def __init__(self, ranges: tuple[Range, ...]) -> None:
        self.ranges = ranges

    def compute(self, a: Any) -> Any:
        return a[_slices(self.ranges)]

    def infer(self, a: Any) -> Any:
        return Spec(tuple([count for _, count, _ in self.ranges]), a.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad.unslice(node.inputs[0].shape, self.ranges)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(((1, 2, 1), (3, 2, -2))), ((4, 4),))
        yield Sample(cls(((0, 0, 1),)), ((3,),))
        yield Sample(cls(()), ((),))
        yield Sample(cls(((4, 5, -1), (0, 1, 1))), ((5, 1),))


class Unslice(Movement):
    """y = zeros with a written into a slice: what `Slice` is the gradient of, and the reverse.

    Further inputs are added, each in a slice of its own: the compiler writes sums of such values
    so.
    """

    def __init__(
        self,
        shape: Shape,
        ranges: tuple[Range, ...],
        others: tuple[tuple[Range, ...], ...] = (),
    ) -> None:
        self.shape = shape
        self.ranges = ranges
        self.others = others

    @property
    def slices(self) -> tuple[tuple[Range, ...], ...]:
        """The slice of each input."""
        return self.ranges, *self.others

    def compute(self, first: Any, *others: Any) -> Any:
        result = np.zeros(self.shape, first.dtype)
        result[_slices(self.ranges)] = first
        for ranges, other in zip(self.others, others, strict=True):
            result[_slices(ranges)] += other
        return result

    def infer(self, first: Any, *_: Any) -> Any:
        return Spec(self.shape, first.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return tuple([out_grad.slice(ranges) for ranges in self.slices])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((4, 4), ((1, 2, 1), (3, 2, -2))), ((2, 2),))
        yield Sample(cls((3,), ((0, 0, 1),)), ((0,),))
        yield Sample(cls((), ()), ((),))
        yield Sample(cls((5,), ((0, 3, 1),), (((4, 2, -2),),)), ((3,), (2,)))


def pad(a: Any, widths: Sequence[tuple[int, int]]) -> Any:
    """Put zeros around a tensor.

    Args:
        a: Tensor.
        widths: For each axis how many zeros come before and after, as in `np.pad`.

    Raises:
        ShapeError: not one pair an axis, or a negative width.

    Example:
        >>> import needle as ndl
        >>> ndl.pad(ndl.Tensor([1.0, 2.0]), [(1, 2)]).numpy()
        array([0., 1., 2., 0., 0.])
    """
    a = as_tensor(a)
    pairs = [as_shape(pair, "pad") for pair in (widths if holds_several(widths) else [widths])]
    if len(pairs) != a.ndim or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ShapeError(
            f"pad: widths {pairs} do not fit shape {a.shape}. Give one (before, after) >= 0 an axis"
        )
    sizes = [before + n + after for n, (before, after) in zip(a.shape, pairs, strict=True)]
    shape = checked_shape(sizes, "pad")
    ranges = tuple([(before, n, 1) for n, (before, _) in zip(a.shape, pairs, strict=True)])
    return Unslice(shape, ranges)(a)


class Concatenate(Movement):
    """y = tensors, one after the other along an axis."""

    def __init__(self, axis: int = 0) -> None:
        self.axis = as_int(axis, "concatenate", "axis")

    def compute(self, *arrays: Any) -> Any:
        return np.concatenate(arrays, axis=self.axis)

    def infer(self, *specs: Any) -> Any:
        first = specs[0].shape
        axis = normalize_axis(self.axis, len(first), "concatenate")
        for spec in specs:
            if len(spec.shape) != len(first) or any(
                n != m for i, (n, m) in enumerate(zip(spec.shape, first, strict=True)) if i != axis
            ):
                raise ShapeError(
                    f"concatenate: shapes {first} and {spec.shape} differ beside axis {axis}. "
                    "All other axes must be equal"
                )
        total = sum(spec.shape[axis] for spec in specs)
        dtype = np.result_type(*[spec.dtype for spec in specs])
        return Spec((*first[:axis], total, *first[axis + 1 :]), dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        axis = self.axis % node.ndim
        parts, start = [], 0
        for value in node.inputs:
            count = value.shape[axis]
            ranges = [(0, n, 1) for n in value.shape]
            ranges[axis] = (start, count, 1)
            parts.append(out_grad.slice(tuple(ranges)) if value.requires_grad else None)
            start += count
        return tuple(parts)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), ((2, 3), (1, 3), (0, 3)))
        yield Sample(cls(-1), ((2, 3), (2, 1)))
        yield Sample(cls(), ((4,),))


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Any:
    """Join tensors along an axis that they have.

    Args:
        tensors: At least one; shapes are equal beside `axis`.
        axis: The axis along which they are joined.

    Raises:
        ShapeError: the shapes differ beside the axis, or there is no tensor.
        ArgumentError: `tensors` is no list, or holds a TensorTuple.

    Example:
        >>> import needle as ndl
        >>> ndl.concatenate([ndl.Tensor([1.0]), ndl.Tensor([2.0, 3.0])]).numpy()
        array([1., 2., 3.])
    """
    if not holds_several(tensors):
        raise ArgumentError(
            f"concatenate: a {type(tensors).__name__} is no list of tensors. Pass one: [a, b]"
        )
    tensors = list(tensors)
    if not tensors:
        raise ShapeError("concatenate: no tensors given. Pass at least one")
    if any(isinstance(tensor, Value.tuple_class) for tensor in tensors):
        raise ArgumentError("concatenate: the list holds a TensorTuple. Pass its elements: [*t]")
    return Concatenate(axis)(*tensors)
