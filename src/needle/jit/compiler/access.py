"""Where in memory an element of a value lies, as a function of the loops around it.

An `Index` gives, for each axis of a value, an affine function of one loop: (loop, first position,
step), or a fixed position (None, position, 0). Views move no data; they change the index under
which their input is read::

    before                                 after

    y[i, j] of y = Transpose x             x[j, i]
    y[i, j] of y = BroadcastTo x, (3,)     x[j]
    y[i, j] of y = Slice x, from 2         x[2 + i, j]

An index of a dense array becomes an address: an offset, and a stride for each loop.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import cast

from ...graph.node import Node
from ...ops.movement import BroadcastTo, Permute, Reshape, Transpose
from ...ops.slicing import Slice
from ...shapes import Shape, Spec

Entry = tuple[int | None, int, int]
Index = tuple[Entry, ...]
Address = tuple[int, tuple[int, ...]]

FIXED: Entry = (None, 0, 0)
_VIEWS = (BroadcastTo, Permute, Slice, Transpose)


def spec(node: Node) -> Spec:
    """Shape and dtype of a node that is one tensor."""
    return cast(Spec, node.specs())


def size_of(shape: Shape) -> int:
    """Number of elements."""
    return math.prod(shape)


def bytes_of(node: Node) -> int:
    """Bytes of a value."""
    shape, dtype = spec(node)
    return size_of(shape) * dtype.itemsize


@lru_cache(4096)
def dense(shape: Shape) -> tuple[int, ...]:
    """Strides, in elements, of an array in C order."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


@lru_cache(4096)
def own_index(shape: Shape) -> Index:
    """The index of a value whose own axes, those of size 1 left out, are the loops."""
    loops = iter(range(len(shape)))
    return tuple([FIXED if size == 1 else (next(loops), 0, 1) for size in shape])


def loops_of(shape: Shape) -> Shape:
    """The loops that visit every element: the axes that are not of size 1."""
    return tuple([size for size in shape if size != 1])


def is_view(node: Node) -> bool:
    """Whether a node can be read through another index of its input."""
    op = node.op
    if isinstance(op, Reshape):
        return loops_of(spec(node).shape) == loops_of(spec(node.inputs[0]).shape)
    return isinstance(op, _VIEWS)


def order(op: Permute | Transpose, ndim: int) -> tuple[int, ...]:
    """The axes of an input in the order in which an operator puts them."""
    axes = list(range(ndim))
    if isinstance(op, Permute):
        return tuple([axes[axis] for axis in op.axes])
    i, j = op.axes
    axes[i], axes[j] = axes[j], axes[i]
    return tuple(axes)


def through(node: Node, index: Index) -> Index:
    """The index of a view's input that reads the view's element at `index`."""
    op = node.op
    shape = spec(node.inputs[0]).shape
    if isinstance(op, Permute | Transpose):
        entries = dict(zip(order(op, len(shape)), index, strict=True))
        return tuple([entries[axis] for axis in range(len(shape))])
    if isinstance(op, Slice):
        return tuple([_sliced(*pair) for pair in zip(index, op.ranges, strict=True)])
    if isinstance(op, BroadcastTo):
        return repeated(index, shape)
    pairs = zip(spec(node).shape, index, strict=True)
    moving = iter([entry for size, entry in pairs if size != 1])
    return tuple([FIXED if size == 1 else next(moving) for size in shape])


def repeated(index: Index, shape: Shape) -> Index:
    """The index of a value of some shape that is repeated to more axes, or along axes of size 1."""
    pairs = zip(shape, index[len(index) - len(shape) :], strict=True)
    return tuple([FIXED if size == 1 else entry for size, entry in pairs])


def is_row(index: Index, row: int | None) -> bool:
    """Whether an index is of a row: the first axis follows the loop step by step, no other does."""
    return bool(index) and index[0] == (row, 0, 1) and all(at[0] != row for at in index[1:])


def _sliced(entry: Entry, bounds: tuple[int, int, int]) -> Entry:
    loop, first, step = entry
    start, _, stride = bounds
    return loop, start + first * stride, step * stride


@lru_cache(4096)
def address(index: Index, shape: Shape, loops: int) -> Address:
    """Offset and, for each loop, the stride, in elements, of a dense array read under an index.

    The empty index stands for the first element.
    """
    offset = 0
    strides = [0] * loops
    if index:
        for (loop, first, step), stride in zip(index, dense(shape), strict=True):
            offset += first * stride
            if loop is not None:
                strides[loop] += step * stride
    return offset, tuple(strides)
