"""Tiles: how an elementwise kernel goes through operands that lie transposed.

Where the lanes of a vector lie far apart, they would be read one by one. So the loops are tiled:
cut into squares that fit into the cache, and a tile of each such operand is copied first,
transposed. From there its vectors are read as those of any other operand::

    before                                 after

    for i < 1000, j < 1000:                for rows, columns in tiles of 64 by 64:
        z[i, j] = x[i, j] + y[j, i]            t = y[columns, rows] transposed
                                               for i in rows, j in columns:
                                                   z[i, j] = x[i, j] + t[i, j]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...native.transposing import BLOCK, transposing
from ...native.values import I64, VOID, Value
from ...native.vectors import Builder
from .access import address, spec
from .expression import Read
from .scope import Scope
from .symbols import memory_type

SIDE = 64
"""Rows and columns of a tile: a power of two, so that all vectors of a row lie in one tile."""
MOST_COPIES = 4
"""Operands that are copied: they lie on the stack, 32 KB each at most."""

Bounds = tuple[Value, Value]


class Tiling(NamedTuple):
    """The loops over the rows and columns of tiles, and what is copied."""

    row: int
    column: int
    reads: Sequence[Read]


def tiling(reads: Iterable[Read], sizes: Mapping[int, int], count: int) -> Tiling | None:
    """The tiles of an elementwise kernel; None if it reads nothing that lies transposed.

    Those are operands whose elements follow each other along a loop that is not the last one. Where
    several such loops have operands, that with most of them is chosen; a loop that is shorter than
    a block is none.

    Args:
        reads: What the kernel reads from memory.
        sizes: Turns of each of its loops; the last one runs over lanes.
        count: The loops that indices are written in.
    """
    *outer, column = sizes
    found: list[tuple[int, Read]] = []
    for node, at in reads:
        strides = address(at, spec(node).shape, count)[1]
        if strides[column] not in (0, 1):
            rows = [k for k in outer if strides[k] == 1 and sizes[k] >= BLOCK]
            found += [(k, (node, at)) for k in rows]
    if not found:
        return None
    row = Counter([k for k, _ in found]).most_common(1)[0][0]
    copied = dict.fromkeys([read for k, read in found if k == row])
    return Tiling(row, column, [*copied][:MOST_COPIES])


class Tiles:
    """The copies of tiles: memory that a function has while it runs.

    Args:
        b: Builder of the function, before its loops.
        cut: The tiles.
    """

    def __init__(self, b: Builder, cut: Tiling) -> None:
        self._b = b
        self._cut = cut
        kinds = [memory_type(spec(node).dtype) for node, _ in cut.reads]
        self._copies = [b.array(kind, SIDE * SIDE) for kind in kinds]

    def fill(self, scope: Scope, rows: Bounds, columns: Bounds) -> None:
        """Copy one tile of each operand."""
        b, (row, column, reads) = self._b, self._cut
        corner = scope.inside(row, rows[0]).inside(column, columns[0])
        sizes = rows[1] - rows[0], columns[1] - columns[0]
        for (node, at), copy in zip(reads, self._copies, strict=True):
            shape, dtype = spec(node)
            kind, strides = memory_type(dtype), address(at, shape, len(scope.loops))[1]
            first = b.offset(scope.memory.pointer(node), kind, corner.element(node, at)[0])
            apart = [b.constant(number, I64) for number in (strides[column], SIDE)]
            b.call(transposing(b.source, kind), VOID, first, copy, *sizes, *apart)

    def read(self, inside: Scope) -> None:
        """Read the vectors of the copies that belong into a scope."""
        row, column = (inside.loops[loop] for loop in self._cut[:2])
        assert row is not None
        assert column is not None
        place = (row & (SIDE - 1)) * SIDE + (column & (SIDE - 1))
        for read, copy in zip(self._cut.reads, self._copies, strict=True):
            inside.known[read] = inside.elements.load(copy, spec(read[0]).dtype, place, 1)
