"""Factors of a product brought into the order in which the inner kernels read them.

A panel of B is a few vectors wide; packed, its rows (one for each k) follow each other without
gaps. Rows that lie far apart share few places in the caches. The lanes beyond the last column of B
are left as they are: kernels mask them out. A B that lies transposed is packed by `transposing`::

    before: a panel of B                 after: the panel, packed

    0  1 [2  3] 4                        2 3 7 8
    5  6 [7  8] 9

The rows of a tile of an A that lies transposed are such a panel, but with rows of `PACKED_WIDTH`.
A few tiles are packed at a time, so that what a cache line holds is read while it is near.
"""

from __future__ import annotations

from collections.abc import Sequence

from .matmul_kernels import shared
from .matmul_product import PACKED_WIDTH
from .values import I64, Type, Value, signature
from .vectors import Builder, Source

TILES = 8
"""Tiles of A that are packed at a time."""
AHEAD = 32
"""So many rows before it is read a row of B is fetched: no processor sees that coming."""

_PANEL = signature("from to", "k columns ld width")
_TILES = signature("from to", "k ld size") | {
    f"{what}.{i}": I64 for i in range(TILES) for what in ("tile", "first", "rows")
}


def copy_panel(source: Source, kind: Type) -> str:
    """Name of the function that packs `columns` columns of B to rows of `width` elements."""
    return shared(source, "copy.panel", kind, _PANEL, _write_panel)


def _write_panel(b: Builder, arguments: Sequence[Value], kind: Type) -> None:
    source, target, k, columns, ld, width = arguments
    with b.loop(0, k) as row:
        begin = b.offset(source, kind, row.index * ld)
        to = b.offset(target, kind, row.index * width)
        b.prefetch(b.offset(begin, kind, ld * AHEAD))

        def body(j: Value, mask: Value | None) -> None:
            b.store(b.load(begin, kind, j, mask=mask), to, j, mask=mask)

        b.vector_loop(0, columns, kind.lanes, body)


def copy_tiles(source: Source, kind: Type) -> str:
    """Name of the function that packs `TILES` tiles of A.

    Each is given as its number, first row and number of rows; packed, it has `size` elements.
    """
    return shared(source, "copy.tiles", kind, _TILES, _write_tiles)


def _write_tiles(b: Builder, arguments: Sequence[Value], kind: Type) -> None:
    source, target, k, ld, size, *places = arguments
    kind = kind.vector(PACKED_WIDTH)
    tiles = [
        (first, number * size, b.first_lanes(rows, PACKED_WIDTH))
        for number, first, rows in zip(places[::3], places[1::3], places[2::3], strict=True)
    ]
    with b.loop(0, k) as step:
        begin = b.offset(source, kind, step.index * ld)
        to = b.offset(target, kind, step.index * PACKED_WIDTH)
        for first, place, mask in tiles:
            b.store(b.load(begin, kind, first, mask=mask), to, place)
