"""The loops around the inner kernels: the functions of one product, written from its plan.

For each chunk, each block of K, each panel of columns and each tile of rows, a kernel is called.
The epilogue runs over a finished chunk, which is still in the cache: so kernels do not depend on it
and are shared, and it is compiled once for all sizes of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NamedTuple

from . import matmul_packing as packing
from .matmul_blocking import Group, Plan
from .matmul_kernels import SIGNATURE, Dot, Kernels, Tile
from .vectors import I64, PTR, VOID, Builder, Type, Value

Epilogue = Callable[..., Value]
Index = Value | int  # known when the program runs, or already now


class _Block(NamedTuple):
    """A block of K, and where A begins for it: row `top` is at `a`."""

    k: Index
    size: Index
    a: Value
    lda: int
    top: Index


class _Phase:
    """A function of a product while it is written: its builder and arguments."""

    def __init__(self, kernels: Kernels, cut: Plan, name: str, further: dict[str, Type]) -> None:
        pointers = dict.fromkeys(("a", "b", "c", "scratch"), PTR)
        signature = {**pointers, **further, "begin": I64, "end": I64}
        function = kernels.source.function(name, signature)
        self.kernels = kernels
        self.cut = cut
        self.kind = cut.product.kind
        self.code = function.body
        left, right, self.c, self.scratch, *self.further = function.arguments
        self.a, self.b = (right, left) if cut.swap else (left, right)
        self.begin, self.end = self.further.pop(-2), self.further.pop()

    def offset(self, pointer: Value, index: Index) -> Value:
        """Address of an element."""
        return self.code.offset(pointer, self.kind, index)


def write_pack(kernels: Kernels, cut: Plan, name: str, further: dict[str, Type]) -> None:
    """The function `name` that packs panels `begin` ... `end` - 1 of B into the scratch."""
    phase, product = _Phase(kernels, cut, name, further), cut.product
    write = packing.transpose_panel if product.transpose_b else packing.copy_panel
    symbol = write(kernels, product.kind)
    for panels in cut.panels:
        with _pieces(phase.code, panels, (phase.begin, phase.end)) as column:
            kernels.call(
                phase.code, symbol, packing.SIGNATURE,
                phase.offset(phase.b, column * product.ldb if product.transpose_b else column),
                phase.offset(phase.scratch, column * cut.packed_k),
                product.k, panels.size, product.ldb, cut.padded(panels.size),
            )  # fmt: skip
    phase.code.ret()


def write_product(
    kernels: Kernels, cut: Plan, name: str, further: dict[str, Type], finish: str
) -> None:
    """The function `name` that computes chunks of C and calls `finish` on each, if given."""
    phase = _Phase(kernels, cut, name, further)
    code = phase.code
    with code.loop(phase.begin, phase.end) as loop:
        across = code.binary("urem", loop.index, cut.column_chunks)
        down = code.binary("udiv", loop.index, cut.column_chunks)
        columns = _share(code, across, cut.column_chunks, cut.panels)
        rows = _share(code, down, cut.row_chunks, cut.tiles)
        with _blocks(phase, loop.index, rows) as block:
            for panels in cut.panels:
                with _pieces(code, panels, columns) as column:
                    for tiles in cut.tiles:
                        with _pieces(code, tiles, rows) as row:
                            _call_kernel(phase, block, (tiles, panels), (row, column))
        if finish:
            edges = [_position(code, cut.tiles, edge) for edge in rows]
            edges += [_position(code, cut.panels, edge) for edge in columns]
            code.call(finish, VOID, phase.c, *phase.further, *edges)
    code.ret()


def write_epilogue(
    kernels: Kernels, cut: Plan, name: str, further: dict[str, Type], epilogue: Epilogue
) -> None:
    """The function `name` that applies the epilogue to some rows and columns of C."""
    edges = dict.fromkeys(("top", "bottom", "left", "right"), I64)
    function = kernels.source.function(name, {"c": PTR, **further, **edges})
    code, (c, *values, top, bottom, left, right) = function.body, function.arguments
    kind, stride = cut.product.kind, cut.product.ldc
    if cut.swap:  # C is one column, computed as one row
        top, bottom, left, right, stride = left, right, top, bottom, 1
    with code.loop(top, bottom) as loop:
        row = loop.index
        line = code.offset(c, kind, row * stride)

        def body(column: Value, mask: Value | None) -> tuple[()]:
            sums = code.load(line, kind.vector(cut.lanes), column, mask=mask)
            code.store(epilogue(code, sums, row, column, mask, *values), line, column, mask=mask)
            return ()

        code.vector_loop(left, right, cut.lanes, body)
    code.ret()


@contextmanager
def _blocks(phase: _Phase, chunk: Value, rows: tuple[Value, Value]) -> Generator[_Block]:
    """Each block of K for a chunk, after its rows of A are packed if they are to be."""
    k, count = phase.cut.product.k, phase.cut.blocks
    if count == 1:
        yield _left(phase, chunk, rows, 0, k)
        return
    code = phase.code
    with code.loop(0, count) as loop:
        begin, end = (code.binary("udiv", i * k, count) for i in (loop.index, loop.index + 1))
        yield _left(phase, chunk, rows, begin, end - begin)


def _left(phase: _Phase, chunk: Value, rows: tuple[Value, Value], k: Index, size: Index) -> _Block:
    """A as the kernels read it in one block of K."""
    cut, code, lda = phase.cut, phase.code, phase.cut.product.lda
    start = phase.offset(phase.a, k * lda if cut.product.transpose_a else k)
    if not cut.packed_a:
        return _Block(k, size, start, lda, 0)
    top, bottom = (_position(code, cut.tiles, edge) for edge in rows)
    target = phase.offset(phase.scratch, chunk * cut.packed_a_size + cut.packed_b_size)
    phase.kernels.call(
        code, packing.copy_panel(phase.kernels, phase.kind), packing.SIGNATURE,
        phase.offset(start, top), target, size, bottom - top, lda, cut.packed_rows,
    )  # fmt: skip
    return _Block(k, size, target, cut.packed_rows, top)


def _call_kernel(
    phase: _Phase, block: _Block, groups: tuple[Group, Group], place: tuple[Value, Value]
) -> None:
    """Call the kernel for the tile of C at `place`, of a group of tiles and one of panels."""
    cut, product, (tiles, panels), (row, column) = phase.cut, phase.cut.product, groups, place
    tile = phase.offset(phase.c, row * product.ldc + column)
    start, stride = _start(phase, tile, block.k)
    line = row - block.top
    right, ldb = _right(phase, panels, column, block.k)
    ragged = panels.size % cut.lanes
    shape = (
        Dot(tiles.size, panels.size)
        if cut.dot
        else Tile(tiles.size, -(-panels.size // cut.lanes), product.transpose_a, ragged > 0)
    )
    phase.kernels.call(
        phase.code, phase.kernels.tile(shape, phase.kind), SIGNATURE,
        phase.offset(block.a, line if product.transpose_a else line * block.lda), right, tile,
        start, block.size, block.lda, ldb, product.ldc, stride, ragged,
    )  # fmt: skip


def _start(phase: _Phase, tile: Value, k: Index) -> tuple[Value, Index]:
    """What the sums of a tile start from, and its stride: C, or zeros."""
    code, stride = phase.code, phase.cut.product.ldc
    if phase.cut.product.accumulate:
        return tile, stride
    zeros = code.symbol(phase.kernels.zeros())
    if not isinstance(k, Value):
        return zeros, 0
    first = code.compare("==", k, 0)
    return code.select(first, zeros, tile), code.select(first, code.constant(0, I64), stride)


def _right(phase: _Phase, panels: Group, column: Value, k: Index) -> tuple[Value, int]:
    """Where the rows of B from k on begin in a panel, and their stride."""
    cut, ldb = phase.cut, phase.cut.product.ldb
    if cut.packed_b:
        width = cut.padded(panels.size)
        return phase.offset(phase.scratch, column * cut.packed_k + k * width), width
    start = column * ldb + k if cut.product.transpose_b else column + k * ldb
    return phase.offset(phase.b, start), ldb


@contextmanager
def _pieces(code: Builder, group: Group, share: tuple[Value, Value]) -> Generator[Value]:
    """Each piece of the group that lies in the share: its first element."""
    begin, end = share
    first = code.select(begin > group.first, begin, group.first)
    with code.loop(first, code.minimum(end, group.last)) as loop:
        yield (loop.index - group.first) * group.size + group.start


def _share(
    code: Builder, part: Value, parts: int, groups: tuple[Group, ...]
) -> tuple[Value, Value]:
    """The first piece of an even part of all pieces, and the first of the next part."""
    count = groups[-1].last
    return code.binary("udiv", part * count, parts), code.binary("udiv", (part + 1) * count, parts)


def _position(code: Builder, groups: tuple[Group, ...], piece: Value) -> Value:
    """First element of a piece, or the end of all."""
    places = [(piece - group.first) * group.size + group.start for group in groups]
    result = places[-1]
    for group, place in list(zip(groups, places, strict=True))[-2::-1]:
        result = code.select(piece < group.last, place, result)
    return result
