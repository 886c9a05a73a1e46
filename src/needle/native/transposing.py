"""A function that copies an array transposed: blocks of it are turned in registers.

The columns of what lies transposed cannot be read in vectors, and rows that lie far apart share few
places in the caches. Packing of matrix products and tiles of other kernels both copy such arrays::

    before: source, ld apart         after: target, width apart

    0 1 2 3 4                        0 5
    5 6 7 8 9                        1 6
                                     2 7
                                     3 8
                                     4 9
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .values import Type, Value, signature
from .vectors import Builder, Source

BLOCK = 8
"""Side of a block that is transposed in registers: larger ones take long to compile."""

_SIGNATURE = signature("from to", "rows columns ld width")


def transposing(source: Source, kind: Type) -> str:
    """Name of the function that copies an array so that it has `rows` and `columns`.

    Both sizes are rounded up to whole blocks in what is written. Elements beyond the last column
    mean nothing, nor do those beyond the last row.
    """
    kind = kind.vector(min(source.host.lanes_of(max(kind.bits, 32)), BLOCK))
    return source.shared(f"transpose.{kind.mangled}", _SIGNATURE, partial(_write, kind))


def _write(kind: Type, b: Builder, arguments: Sequence[Value]) -> None:
    """Square blocks; columns beyond the last are read as the last one."""
    source, target, rows, columns, ld, width = arguments
    with b.loop(0, columns, kind.lanes) as block:
        lines = [
            b.offset(source, kind, b.minimum(block.index + i, columns - 1) * ld)
            for i in range(kind.lanes)
        ]

        def body(at: Value, mask: Value | None) -> None:
            vectors = _transposed(b, [b.load(line, kind, at, mask=mask) for line in lines])
            for i, vector in enumerate(vectors):
                b.store(vector, target, (at + i) * width + block.index)

        b.vector_loop(0, rows, kind.lanes, body)


def _transposed(b: Builder, rows: list[Value]) -> list[Value]:
    """A square block, transposed: inside units of 128 bits first, where moves are cheapest."""
    size = len(rows)
    unit = min(128 // rows[0].type.bits, size)
    for first in range(0, size, unit):
        rows[first : first + unit] = _interleaved(b, rows[first : first + unit], unit)
    while unit < size:  # swap units between rows that are `unit` apart
        swapped = [
            [size + lane - unit if lane & unit else lane for lane in range(size)],
            [size + lane if lane & unit else lane + unit for lane in range(size)],
        ]
        rows = [
            b.shuffle(rows[i & ~unit], rows[i | unit], swapped[i & unit > 0]) for i in range(size)
        ]
        unit *= 2
    return rows


def _interleaved(b: Builder, rows: list[Value], unit: int) -> list[Value]:
    """Transpose `unit` rows inside each unit of lanes, by log2(unit) perfect shuffles."""
    lanes, half = rows[0].type.lanes, unit // 2
    starts = range(0, lanes, unit)
    low = [start + lane for start in starts for i in range(half) for lane in (i, lanes + i)]
    high = [lane + half for lane in low]
    for _ in range(unit.bit_length() - 1):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [b.shuffle(x, y, order) for x, y in pairs for order in (low, high)]
    return rows
