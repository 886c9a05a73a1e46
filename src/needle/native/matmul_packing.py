"""Panels of B brought into the order in which the inner kernels read them.

A panel is a few vectors wide; packed, its rows (one for each k) follow each other without gaps.
Rows that lie far apart share few places in the caches, and a transposed B cannot be read in vectors
at all. The lanes beyond the last column of B are left as they are: kernels mask them out.
"""

from __future__ import annotations

from collections.abc import Sequence

from .matmul_kernels import Kernels
from .matmul_product import BLOCK
from .vectors import I64, PTR, Builder, Type, Value

SIGNATURE = {
    **dict.fromkeys(("from", "to"), PTR),
    **dict.fromkeys(("k", "columns", "ld", "width"), I64),
}


def copy_panel(kernels: Kernels, kind: Type) -> str:
    """Name of the function that packs `columns` columns of B to rows of `width` elements."""
    return kernels.function("copy", kind, SIGNATURE, _write_copy)


def transpose_panel(kernels: Kernels, kind: Type) -> str:
    """The same for a B that lies transposed; `k` is rounded up to whole vectors."""
    return kernels.function("transpose", kind, SIGNATURE, _write_transpose)


def _write_copy(b: Builder, arguments: Sequence[Value], kind: Type) -> None:
    source, target, k, columns, ld, width = arguments
    with b.loop(0, k) as row:
        begin, to = (
            b.offset(source, kind, row.index * ld),
            b.offset(target, kind, row.index * width),
        )

        def body(j: Value, mask: Value | None) -> tuple[()]:
            b.store(b.load(begin, kind, j, mask=mask), to, j, mask=mask)
            return ()

        b.vector_loop(0, columns, kind.lanes, body)


def _write_transpose(b: Builder, arguments: Sequence[Value], kind: Type) -> None:
    """Square blocks; rows of B beyond the last are read as the last one."""
    source, target, k, columns, ld, width = arguments
    kind = kind.vector(min(kind.lanes, BLOCK))
    with b.loop(0, columns, kind.lanes) as block:
        rows = [
            b.offset(source, kind, b.minimum(block.index + i, columns - 1) * ld)
            for i in range(kind.lanes)
        ]

        def body(at: Value, mask: Value | None) -> tuple[()]:
            vectors = _transposed(b, [b.load(row, kind, at, mask=mask) for row in rows])
            for i, vector in enumerate(vectors):
                b.store(vector, target, (at + i) * width + block.index)
            return ()

        b.vector_loop(0, k, kind.lanes, body)


def _transposed(b: Builder, rows: list[Value]) -> list[Value]:
    """A square block, transposed: inside units of 128 bits first, where moves are cheapest."""
    size, unit = len(rows), 128 // rows[0].type.bits
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
