"""What follows the sums: parts of K are added up, C^T is turned over, the epilogue applied.

::

    before: what the tiles left          after: in C, row by row

    s0[i, j], s1[i, j]                   epilogue(s0[i, j] + s1[i, j])
    s0[j, i] of C^T                      epilogue(s0[j, i]), copied transposed first
    C[i, j], of one part                 epilogue(C[i, j]), while it is in the cache
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from .matmul_product import Blocking
from .transposing import transposing
from .vectors import I64, VOID, Builder, Value

Epilogue = Callable[..., Value]
Edges = tuple[list[Value], list[Value]]
"""Rows and columns of a piece of C: of each the first, and the end."""


class Parts(NamedTuple):
    """The sums of the parts of K: where those of C[0, 0] lie, and how far rows and parts do."""

    base: Value
    row: int
    part: int


def sums_of(code: Builder, cut: Blocking, scratch: Value) -> Value:
    """Where in the scratch memory the sums of the parts of K lie, those of one after another."""
    return code.offset(scratch, cut.product.kind, cut.regions["sums"])


def parts_of(code: Builder, cut: Blocking, piece: Value, scratch: Value) -> tuple[Edges, Parts]:
    """Edges of a piece that is added up, and its sums: of C^T, they are turned over first."""
    kind, last, (m, n) = cut.product.kind, cut.last, (cut.asked.m, cut.asked.n)
    zero, sums = code.constant(0, I64), sums_of(code, cut, scratch)
    first, end = (
        code.minimum(i * last.whole / last.count * last.unit, last.total)
        for i in (piece, piece + 1)
    )
    if not cut.turned:
        return ([first, end], [zero, code.constant(n, I64)]), Parts(sums, n, m * n)
    height, width = cut.turned_shape
    rows, ld = code.constant(m, I64), code.constant(width, I64)
    turned = code.offset(sums, kind, piece * (height * width * cut.parts) + cut.sums_size)
    for part in range(cut.parts):
        code.call(
            transposing(code.source, kind), VOID,
            code.offset(sums, kind, (first + part * n) * m),
            code.offset(turned, kind, part * height * width),
            rows, end - first, rows, ld,
        )  # fmt: skip
    return ([zero, rows], [first, end]), Parts(
        code.offset(turned, kind, -first), width, height * width
    )


def finish(
    code: Builder,
    cut: Blocking,
    edges: Edges,
    c: Value,
    epilogue: Epilogue | None,
    values: Sequence[Value],
    parts: Parts | None = None,
) -> None:
    """Apply the epilogue to C between the edges, first adding up the parts if there are any."""
    kind, stride = cut.product.kind, cut.asked.n
    if cut.swap and not cut.turned:  # C is one column, computed as one row
        edges = edges[1], edges[0]
    (top, bottom), (left, right) = edges
    with code.loop(top, bottom) as loop:
        row = loop.index
        line = code.offset(c, kind, row * stride)

        def body(column: Value, mask: Value | None) -> None:
            vector = kind.vector(cut.lanes)
            base, places = line, [column]
            if parts is not None:
                base, first = parts.base, row * parts.row + column
                places = [first + part * parts.part for part in range(cut.parts)]
            loaded = [code.load(base, vector, place, mask=mask) for place in places]
            sums = reduce(lambda x, y: x + y, loaded)
            if epilogue is not None:
                sums = epilogue(code, sums, row, column, mask, *values)
            if sums is not loaded[0] or parts is not None:  # what C does not hold already
                code.store(sums, line, column, mask=mask)

        code.vector_loop(left, right, cut.lanes, body)
