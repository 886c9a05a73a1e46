"""Panels of B brought into the order in which the inner kernels read them.

A panel is a few vectors wide; packed, its rows (one for each k) follow each other without gaps.
Rows that lie far apart share few places in the caches. The lanes beyond the last column of B are
left as they are: kernels mask them out. A B that lies transposed is packed by `transposing`::

    before: a panel of B                 after: the panel, packed

    0  1 [2  3] 4                        2 3 7 8
    5  6 [7  8] 9
"""

from __future__ import annotations

from collections.abc import Sequence

from .matmul_kernels import shared
from .vectors import I64, PTR, Builder, Source, Type, Value

SIGNATURE = {
    **dict.fromkeys(("from", "to"), PTR),
    **dict.fromkeys(("k", "columns", "ld", "width"), I64),
}


def copy_panel(source: Source, kind: Type) -> str:
    """Name of the function that packs `columns` columns of B to rows of `width` elements."""
    return shared(source, "copy", kind, SIGNATURE, _write_copy)


def _write_copy(b: Builder, arguments: Sequence[Value], kind: Type) -> None:
    source, target, k, columns, ld, width = arguments
    with b.loop(0, k) as row:
        begin, to = (
            b.offset(source, kind, row.index * ld),
            b.offset(target, kind, row.index * width),
        )

        def body(j: Value, mask: Value | None) -> None:
            b.store(b.load(begin, kind, j, mask=mask), to, j, mask=mask)

        b.vector_loop(0, columns, kind.lanes, body)
