"""The shape of a kernel's code: its loops, those that can be one merged, cut into chunks.

The cut follows from the shapes alone, so that threads share out the same chunks however many they
are. For x of shape (400, 500), y of shape (500, 400) and vectors of 8 lanes::

                      x * 2               x.sum(1)            x.sum(0)             x + y.T
    loops             ij < 200000         i < 400, j < 500    i < 400, j < 500     i < 400, j < 500
    outer; inner      ; ij                i; j                j; i                 i, j;
    lanes run along   ij                  j                   j: `by_column`       j
    an item is        an element          a row               8 columns            a tile, 64 by 64
    items             200000              400                 63                   7 · 8
    chunks            28 of 7168 items    31 of about 13      16 parts of the      28 of 2
                      (`flat`)                                rows, for all items

Which loops are merged is said by `merging.py`, and how tiles are gone through by `tiles.py`. In
which order the steps are done at an outer position is said by `phases.py`, and how the sums of
parts become one by `reductions.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...graph.kinds import Reduction
from ...graph.node import Node
from ...native.llvm import Host
from ...native.values import Value
from ...native.vectors import Builder
from .access import spec
from .expression import Stored
from .kernels import Kernel
from .merging import Accesses
from .phases import Pass, in_parts, phases_of
from .tiles import SIDE, tiling

CHUNK_WORK = 3_000
"""Elements times steps of a chunk, at least: below, sharing costs more than it gains."""
MOST_CHUNKS = 32
"""Chunks of a kernel, unless it is flat or has parts."""
PART_WORK = 15_000
"""Elements times steps of a part of the rows, at least: about a microsecond."""
PART_ROWS = 16
"""Rows of a part, at least: each part computes the tails again."""
MOST_PARTS = 16
FLAT_CHUNK = 8_192
"""Elements of a chunk of a flat kernel, at most."""
FLAT_UNIT = 64
"""Its chunks are cut at multiples of so many elements: in whole cache lines."""
FLAT_PARTS = 4
"""Chunks of a short flat kernel that has work for so many. As other kernels are cut evenly too, a
thread finds in its cache what it made of the values, and what it left there a step ago."""


class Nest:
    """The loops of a kernel after neighbouring ones are merged, and its cut into chunks.

    Args:
        kernel: The kernel.
        stored: The nodes in memory.
        host: For the width of vectors.
        parted: Whether there may be parts.
        pieces: Chunks of the rows, if there are rows; as many as are worth it unless given.

    Attributes:
        steps: What the kernel computes.
        reads: What its steps read from memory, in order.
        positional: Whether its steps depend on where the loops are, beside through memory.
        loops: The loops that are left, by the number of the last one that went into each.
        sizes: Turns of each of them.
        outer: Those whose positions are independent, and shared out; the others are `inner`.
        vector: The loop that runs over the lanes of vectors: the last one.
        lanes: Elements of a vector.
        by_column: Whether that loop is an outer one: each lane is another outer position.
        tiling: The tiles of two outer loops, if something is read transposed.
        spans: Positions of each outer loop that one item takes in: 1, a vector, or a tile.
        items: Pieces of the outer loops, the smallest that can be shared out.
        flat: Whether all is one loop, and items are its elements: its code fits any size.
        piece: Items of a chunk, if it is flat.
        parts: Of the first inner loop, which are shared out instead of items; 0 for none.
        pieces: Chunks, of the items or that loop.
        row: The loop that the chunks cut evenly, None if they cut something else.
        rows: Its size; 0 for none.
        passes: The steps of one outer position, in one pass unless there are parts.
    """

    def __init__(
        self,
        kernel: Kernel,
        stored: Stored,
        host: Host,
        *,
        parted: bool = True,
        pieces: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.stored = stored
        self.steps = list(kernel.steps.values())
        self.reads = stored.read_by(self.steps)
        self.lanes = _lanes(kernel.steps, host)
        accesses = Accesses(kernel.loops, self.steps, stored)
        self.positional = accesses.positional
        groups = accesses.merged(kernel.outer, self.lanes)
        self.loops = [group[-1] for group in groups]
        self.sizes = {group[-1]: math.prod(kernel.loops[k] for k in group) for group in groups}
        self.vector = self.loops[-1] if self.loops else None
        self.flat = kernel.outer is None and len(self.loops) == 1
        self.tiling = None
        outer = kernel.outer
        if outer is None:
            if len(self.loops) > 1:
                self.tiling = tiling(self.reads, self.sizes, len(kernel.loops))
            outer = self.loops if self.tiling else self.loops[:-1]
        self.outer = [k for k in self.loops if k in outer]
        self.inner = [k for k in self.loops if k not in outer]
        self.by_column = self.vector in self.outer
        self.reductions = [node for node in kernel.steps if isinstance(node.op, Reduction)]
        self.spans = {loop: self._span(loop) for loop in self.outer}
        self.piece = self._flat_piece() if self.flat else 0
        self.items, self.pieces = self._cut()
        few = self.by_column or self.pieces == 1
        self.parts = self._count_parts(pieces) if parted and few else 0
        self.row = self._row([group[0] for group in groups])
        self.rows = 0 if self.row is None else self.sizes[self.row]
        if self.parts:
            self.pieces = self.parts
        elif pieces is not None and self.rows:
            self.pieces = min(pieces, self.rows)
        whole = self.flat or not self.inner
        phases = [("loop", self.steps)] if whole else phases_of(kernel, stored)
        one = [Pass(phases, [], [], self.pieces)]
        self.passes = in_parts(phases, self.parts) if self.parts else one

    @property
    def sums_size(self) -> int:
        """Bytes of the sums of all parts."""
        return self.sums_place(len(self.reductions)) * 8 if self.parts else 0

    def sums_place(self, reduction: int) -> int:
        """Where the sums of a reduction begin: for each part, and each item, a vector or number."""
        return reduction * self.parts * self.items * (self.lanes if self.by_column else 1)

    def _span(self, loop: int) -> int:
        """Positions of an outer loop that one item takes in."""
        if self.tiling and loop in (self.tiling.row, self.tiling.column):
            return max(1, min(SIDE, self.sizes[loop]))
        return self.lanes if loop == self.vector else 1

    def count(self, loop: int) -> int:
        """Into how many spans an outer loop is cut."""
        return -(-self.sizes[loop] // self.spans[loop])

    def _cut(self) -> tuple[int, int]:
        """Items to be shared out, and how many make a chunk."""
        inner = math.prod(self.sizes[k] for k in self.inner)
        if self.flat:
            return inner, -(-inner // self.piece)
        items = math.prod(self.count(k) for k in self.outer)
        work = inner * math.prod(self.spans.values())
        least = CHUNK_WORK // max(work * len(self.steps), 1)
        return items, -(-items // max(1, least, -(-items // MOST_CHUNKS)))

    def _flat_piece(self) -> int:
        """Elements of a chunk: a multiple of `FLAT_PARTS` chunks, or one, as even as may be."""
        items = math.prod(self.sizes.values())
        few = min(items * len(self.steps) // CHUNK_WORK, FLAT_PARTS)
        pieces = max(few, -(-items // FLAT_CHUNK))
        pieces = -(-pieces // FLAT_PARTS) * FLAT_PARTS if pieces > 1 else 1
        return max(1, -(-items // (pieces * FLAT_UNIT))) * FLAT_UNIT

    def _count_parts(self, pieces: int | None) -> int:
        """Parts of the first inner loop: where the items are columns, or too few to share out."""
        if self.flat or not (self.inner and self.reductions and self.items):
            return 0
        rows = self.sizes[self.inner[0]] // PART_ROWS
        if pieces is not None:
            return pieces if 1 < pieces <= min(rows, MOST_PARTS) else 0
        work = math.prod(self.sizes.values()) * len(self.steps)
        parts = min(rows, work // PART_WORK, MOST_PARTS)
        return 1 << (parts.bit_length() - 1) if parts > 1 else 0  # even for 2, 4, ... threads

    def _row(self, firsts: list[int]) -> int | None:
        """The loop that the chunks cut, if it is the only one, and none was merged into it."""
        if self.flat or not (self.parts or (len(self.outer) == 1 and not self.by_column)):
            return None
        loop = self.inner[0] if self.parts else self.outer[0]
        return loop if loop in firsts else None

    def bound(self, b: Builder, chunk: Value, items: Value, piece: Value) -> Value:
        """The first item of a chunk, or its first part."""
        if self.parts:
            return chunk
        if self.flat:
            return b.minimum(chunk * piece, items)
        return b.binary("udiv", chunk * items, self.pieces)


def _lanes(steps: Iterable[Node], host: Host) -> int:
    """As many lanes as a register has of the kernel's main dtype."""
    narrow = any(spec(node).dtype.itemsize <= 4 for node in steps)
    return host.lanes if narrow else max(2, host.lanes // 2)
