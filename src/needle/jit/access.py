"""Where in memory an element of a value lies, as a function of the loops around it.

An `Index` gives, for each axis of a value, the loop it follows: (loop axis, first position, step), or a fixed
position (None, position, 0). Views do not move data; they change the index under which it is read:

before::                               after::

    y[i, j] of y = Transpose x             x[j, i]
    y[i, j] of y = BroadcastTo x, (3,)     x[j]
    y[i, j] of y = Slice x, from 2         x[2 + i, j]
"""

from __future__ import annotations

import math
from typing import Any

from ..graph.node import Node
from ..ops.movement import BroadcastTo, Permute, Reshape, Slice, Transpose
from ..shapes import Shape

Entry = tuple[int | None, int, int]
Index = tuple[Entry, ...]

FIXED: Entry = (None, 0, 0)


def dense(shape: Shape) -> tuple[int, ...]:
    """Strides, in elements, of an array in C order."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def own_index(shape: Shape) -> Index:
    """The index of a value whose own axes, those of size 1 left out, are the loops."""
    loops = iter(range(len(shape)))
    return tuple([FIXED if size == 1 else (next(loops), 0, 1) for size in shape])


def loops_of(shape: Shape) -> Shape:
    """The loops that visit every element: the axes that are not of size 1."""
    return tuple([size for size in shape if size != 1])


def is_view(node: Node) -> bool:
    """Whether a node can be read through another index of its input."""
    if isinstance(node.op, Reshape):
        return loops_of(_shape(node)) == loops_of(_shape(node.inputs[0]))
    return isinstance(node.op, BroadcastTo | Permute | Slice | Transpose)


def through(node: Node, index: Index) -> Index:
    """The index of a view's input that reads the view's element at `index`."""
    op: Any = node.op
    shape = _shape(node.inputs[0])
    if isinstance(op, Transpose):
        entries = list(index)
        i, j = (axis % len(shape) for axis in op.axes)
        entries[i], entries[j] = entries[j], entries[i]
        return tuple(entries)
    if isinstance(op, Permute):
        entries = [FIXED] * len(shape)
        for place, axis in enumerate(op.axes):
            entries[axis % len(shape)] = index[place]
        return tuple(entries)
    if isinstance(op, Slice):
        return tuple([_sliced(entry, bounds) for entry, bounds in zip(index, op.ranges, strict=True)])
    if isinstance(op, BroadcastTo):
        inner = index[len(index) - len(shape) :]
        return tuple([FIXED if size == 1 else entry for size, entry in zip(shape, inner, strict=True)])
    moving = iter([entry for entry, size in zip(index, _shape(node), strict=True) if size != 1])
    return tuple([FIXED if size == 1 else next(moving) for size in shape])


def _sliced(entry: Entry, bounds: tuple[int, int, int]) -> Entry:
    loop, first, step = entry
    start, _, stride = bounds
    return loop, start + first * stride, step * stride


def address(index: Index, shape: Shape, loops: int) -> tuple[int, tuple[int, ...]]:
    """Offset and, for each loop, the stride, in elements, of a dense array read under an index."""
    offset = 0
    strides = [0] * loops
    for (loop, first, step), stride in zip(index, dense(shape), strict=True):
        offset += first * stride
        if loop is not None:
            strides[loop] += step * stride
    return offset, tuple(strides)


def size_of(shape: Shape) -> int:
    """Number of elements."""
    return math.prod(shape)


def _shape(node: Node) -> Shape:
    specs: Any = node.specs()
    return specs.shape
