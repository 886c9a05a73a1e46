"""The loops around the inner kernels, written once for all products of a module.

What differs from product to product is a table of constants: sizes, strides, cuts and kernels. The
loops read it when they run, so a product costs no more to compile than its epilogue, if it has one.
The epilogue runs over a finished chunk, which is still in the cache: so it is compiled once, and
kernels do not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from . import matmul_packing as packing
from .matmul_blocking import Plan
from .matmul_finish import Edges, Epilogue, finish, parts_of, sums_of
from .matmul_kernels import Dot, Kernels, Tile
from .matmul_product import Cut, narrow
from .transposing import transposing
from .vectors import I64, PTR, VOID, Builder, Type, Value

_SIGNATURE = {**dict.fromkeys(("table", "a", "b", "c", "scratch"), PTR), "begin": I64, "end": I64}
_CUT = ("total", "unit", "count", "whole", "size")
_NUMBERS = (
    "k", "blocks", "parts", "row.chunks", "column.chunks", "accumulate", "c.part",
    "lda", "a.row", "a.k", "ldb", "b.column", "ldc", "source.column",
    "packed.b", "packed.k", "packed.rows", "packed.a.size", "packed.b.size",
    "rest", "rest.width", "rest.size", "rest.start", "source.k",
    *(f"{axis}.{name}" for axis in ("row", "column") for name in _CUT),
)  # fmt: skip
_PACK, _KERNELS = len(_NUMBERS), len(_NUMBERS) + 1  # places of pointers
_WIDE, _NARROW, _LAST, _REST = range(4)  # kinds of panels; each has a kernel for either height


def write_phases(
    kernels: Kernels,
    cut: Plan,
    name: str,
    further: dict[str, Type],
    epilogue: Epilogue | None,
) -> None:
    """The functions of a product: `name`, before it what packs B, after it what finishes C."""
    table = _constants(kernels, cut, f"{name}.table")
    kind = cut.product.kind
    if cut.pack_chunks:
        loops = kernels.function("pack.panels", kind, _SIGNATURE, _write_pack)
        code, operands, _, (begin, end) = _begin(kernels, cut, f"{name}.pack", further)
        code.call(loops, VOID, code.symbol(table), *operands, begin, end)
        code.ret()
    loops = kernels.function("chunks", kind, _SIGNATURE, _write_chunks(kernels))
    code, operands, values, (begin, end) = _begin(kernels, cut, name, further)
    if cut.last.count:
        operands[2] = sums_of(code, cut, operands[3])
    if epilogue is None or cut.last.count:
        code.call(loops, VOID, code.symbol(table), *operands, begin, end)
    else:
        with code.loop(begin, end) as loop:
            chunk = loop.index
            code.call(loops, VOID, code.symbol(table), *operands, chunk, chunk + 1)
            edges = _Table(code, code.symbol(table)).edges(chunk)
            finish(code, cut, edges, operands[2], epilogue, values)
    code.ret()
    if cut.last.count:
        code, operands, values, (begin, end) = _begin(kernels, cut, f"{name}.sum", further)
        with code.loop(begin, end) as loop:
            edges, parts = parts_of(kernels, code, cut, loop.index, operands[3])
            finish(code, cut, edges, operands[2], epilogue, values, parts)
        code.ret()


def _begin(
    kernels: Kernels, cut: Plan, name: str, further: dict[str, Type]
) -> tuple[Builder, list[Value], list[Value], list[Value]]:
    """Start the function of a phase: code, A B C scratch, further arguments, begin and end."""
    pointers = dict.fromkeys(("a", "b", "c", "scratch"), PTR)
    function = kernels.source.function(name, {**pointers, **further, "begin": I64, "end": I64})
    a, b, c, scratch, *values = function.arguments
    operands = [b, a, c, scratch] if cut.swap else [a, b, c, scratch]
    return function.body, operands, values[:-2], values[-2:]


class _Table:
    """The table of a product as the loops see it: its numbers, loaded."""

    def __init__(self, code: Builder, pointer: Value) -> None:
        self.code = code
        self.base = pointer
        self.numbers = {name: code.load(pointer, I64, i) for i, name in enumerate(_NUMBERS)}

    def __getitem__(self, name: str) -> Value:
        return self.numbers[name]

    def pointer(self, place: Value | int) -> Value:
        """The pointer at a place of the table."""
        return self.code.load(self.base, PTR, place)

    def first(self, axis: str, piece: Value) -> Value:
        """See `Cut.first`."""
        return self.code.binary("udiv", piece * self[f"{axis}.whole"], self[f"{axis}.count"])

    def start(self, axis: str, piece: Value) -> Value:
        """See `Cut.start`."""
        first = self.first(axis, piece) * self[f"{axis}.unit"]
        return self.code.minimum(self[f"{axis}.total"], first)

    def units(self, axis: str, piece: Value) -> Value:
        """Units of a piece."""
        return self.first(axis, piece + 1) - self.first(axis, piece)

    def is_short(self, axis: str, units: Value) -> Value:
        """1 for a piece with the fewest units, 0 for one with one more."""
        return self.code.cast(units <= self[f"{axis}.size"], I64)

    def shares(self, chunk: Value) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
        """Tiles and panels of a chunk: of each the first, and the first of the next part."""
        parts = self["column.chunks"]
        down, across = (self.code.binary(op, chunk, parts) for op in ("udiv", "urem"))
        return self._share("row", down), self._share("column", across)

    def edges(self, chunk: Value) -> Edges:
        """Rows and columns of a chunk: of each the first, and the end."""
        rows, columns = self.shares(chunk)
        left, right = (self.start("column", i) for i in columns)
        is_last = self.code.compare("==", right, self["column.total"])
        right = self.code.select(is_last, right + self["rest"], right)
        return [self.start("row", i) for i in rows], [left, right]

    def _share(self, axis: str, part: Value) -> tuple[Value, Value]:
        count, parts = self[f"{axis}.count"], self[f"{axis}.chunks"]
        return (
            self.code.binary("udiv", part * count, parts),
            self.code.binary("udiv", (part + 1) * count, parts),
        )


def _constants(kernels: Kernels, cut: Plan, name: str) -> str:
    """Write the table of a product; returns its name."""
    product, packed = cut.product, cut.packed_b
    parted = cut.last.count > 0  # then C is where the sums of the parts lie, without gaps
    numbers = {
        "k": product.k, "blocks": cut.blocks, "parts": cut.parts,
        "accumulate": product.accumulate and not parted,
        "row.chunks": cut.row_chunks, "column.chunks": cut.column_chunks,
        "lda": product.lda, "ldc": product.n if parted else product.ldc,
        "c.part": product.m * product.n if parted else 0,
        "a.row": 1 if product.transpose_a else product.lda,
        "a.k": product.lda if product.transpose_a else 1,
        "ldb": product.ldb, "b.column": cut.packed_k if packed else product.ldb if cut.dot else 1,
        "source.column": product.ldb if product.transpose_b else 1,
        "packed.b": packed, "packed.k": cut.packed_k, "packed.rows": cut.packed_rows,
        "packed.a.size": cut.packed_a_size, "packed.b.size": cut.packed_b_size,
        **{f"row.{field}": getattr(cut.tiles, field) for field in _CUT},
        **{f"column.{field}": getattr(cut.panels, field) for field in _CUT},
        "rest": cut.rest, "rest.width": cut.rest_shape[1], "rest.size": math.prod(cut.rest_shape),
        "rest.start": cut.packed_b_size + cut.chunks * cut.packed_a_size,
        "source.k": 1 if product.transpose_b else product.ldb,
    }  # fmt: skip
    pointers = ["null"]
    if packed and product.transpose_b:
        pointers = [f"@{transposing(kernels.source, product.kind)}"]
    elif packed:
        pointers = [f"@{packing.copy_panel(kernels, product.kind)}"]
    for panel in (_WIDE, _NARROW, _LAST, _REST):
        for tile in (0, 1):
            shape = _shape(cut, panel, tile)
            pointers.append(f"@{kernels.tile(shape, product.kind)}" if shape else "null")
    items = [*(f"i64 {int(numbers[name])}" for name in _NUMBERS), *(f"ptr {p}" for p in pointers)]
    kinds = ", ".join(item.split()[0] for item in items)
    kernels.source.add(f"@{name} = private constant {{ {kinds} }} {{ {', '.join(items)} }}")
    return name


def _shape(cut: Plan, panel: int, tile: int) -> Tile | Dot | None:
    """Shape of the kernel for a kind of panels and of tiles; None if there are none of them."""
    rows = _size(cut.tiles, cut.tiles.count, tile)
    if panel == _REST:
        return Dot(rows, cut.rest) if rows and cut.rest else None
    before = cut.panels.count - 1
    columns = cut.panels.longest if panel == _LAST else _size(cut.panels, before, panel)
    if not rows or not columns:
        return None
    if cut.dot:
        return Dot(rows, columns)
    tail = cut.panels.total % cut.lanes if panel == _LAST else 0
    last = narrow(tail, cut.lanes) if cut.free_masks else 0
    moved = tail > 0 and columns > 1 and not cut.free_masks
    masked = last != tail if last else (tail > 0 and not moved) or cut.free_masks
    across, block = cut.product.transpose_a, cut.blocks > 1
    return Tile(rows, columns, across, masked, last, block, moved)


def _size(cut: Cut, last: int, kind: int) -> int:
    """Units of the longer pieces (kind 0) or the others (1) before `last`; 0 if there are none."""
    longer = cut.first(last) - last * cut.size
    there = longer if kind == 0 else last - longer
    return cut.size + (kind == 0) if there else 0


def _write_pack(code: Builder, arguments: Sequence[Value], kind: Type) -> None:
    """Pack panels `begin` ... `end` - 1 of B into the scratch."""
    pointer, _, b, _, scratch, begin, end = arguments
    table = _Table(code, pointer)
    pack = table.pointer(_PACK)
    with code.loop(begin, end) as panel:
        left, right = (table.start("column", i) for i in (panel.index, panel.index + 1))
        code.call_pointer(
            pack, VOID,
            code.offset(b, kind, left * table["source.column"]),
            code.offset(scratch, kind, left * table["packed.k"]),
            table["k"], right - left, table["ldb"],
            table.units("column", panel.index) * table["column.unit"],
        )  # fmt: skip


def _write_chunks(kernels: Kernels) -> Callable[[Builder, Sequence[Value], Type], None]:
    def write(code: Builder, arguments: Sequence[Value], kind: Type) -> None:
        """Compute chunks `begin` ... `end` - 1 of C."""
        pointer, *operands, begin, end = arguments
        table = _Table(code, pointer)
        with code.loop(begin, end) as chunk:
            per_part = table["row.chunks"] * table["column.chunks"]
            part, place = (code.binary(op, chunk.index, per_part) for op in ("udiv", "urem"))
            rows, columns = table.shares(place)
            blocks = table["parts"] * table["blocks"]
            first = part * table["blocks"]
            with code.loop(first, first + table["blocks"]) as block:
                k, stop = (
                    code.binary("udiv", i * table["k"], blocks)
                    for i in (block.index, block.index + 1)
                )
                fresh = code.compare("==", block.index - first + table["accumulate"], 0)
                a, b, c, scratch = operands
                c = code.offset(c, kind, part * table["c.part"])
                _Sweep(kernels, table, [a, b, c, scratch], kind, (k, stop - k), fresh).write(
                    chunk.index, rows, columns
                )

    return write


class _Sweep:
    """The part of the loops inside a block of K, while it is written."""

    def __init__(
        self,
        kernels: Kernels,
        table: _Table,
        operands: Sequence[Value],
        kind: Type,
        block: tuple[Value, Value],
        fresh: Value,
    ) -> None:
        self.kernels = kernels
        self.table = table
        self.code = table.code
        self.kind = kind
        self.a, self.b, self.c, self.scratch = operands
        self.k, self.size = block
        self.fresh = fresh  # whether C is to be overwritten

    def write(self, chunk: Value, rows: tuple[Value, Value], columns: tuple[Value, Value]) -> None:
        """Call a kernel for each panel and each tile of a chunk."""
        code, table = self.code, self.table
        a, lda, top = self._left(chunk, rows)
        zeros = code.symbol(self.kernels.zeros())
        stride = code.select(self.fresh, 0, table["ldc"])
        first_row, first_unit = table.first("row", rows[0]), table.first("column", columns[0])

        def write_tiles(
            column: Value, kernel: Value, right: Value, ldb: Value, tail: Value
        ) -> None:
            with code.loop(*rows, carry=[first_row]) as tile:
                row, after = tile.values[0], table.first("row", tile.index + 1)
                tile.update(after)
                other = table.is_short("row", after - row)
                c = code.offset(self.c, self.kind, row * table["ldc"] + column)
                code.call_pointer(
                    table.pointer(kernel + other), VOID,
                    code.offset(a, self.kind, (row - top) * table["a.row"]), right, c,
                    code.select(self.fresh, zeros, c), self.size, lda, ldb, table["ldc"], stride,
                    tail,
                )  # fmt: skip

        def write_rest() -> None:
            kernel, (right, ldb) = code.constant(_KERNELS + 2 * _REST, I64), self._rest(chunk)
            write_tiles(table["column.total"], kernel, right, ldb, table["rest"])

        with code.loop(*columns, carry=[first_unit]) as panel:  # carried: a division takes long
            after = table.first("column", panel.index + 1)
            column, units = panel.values[0] * table["column.unit"], after - panel.values[0]
            kernel = self._kernel(panel.index, units)
            right, ldb, tail = self._right(column, units)
            panel.update(after)
            write_tiles(column, kernel, right, ldb, tail)
        last = code.compare("==", columns[1], table["column.count"])
        code.when(last & (table["rest"] > 0), write_rest)

    def _rest(self, chunk: Value) -> Sequence[Value]:
        """The columns beyond the panels, whose sums run along K: a panel of B, and its stride."""
        code, table = self.code, self.table
        column = table["column.total"]
        b = code.offset(
            self.b, self.kind, column * table["source.column"] + self.k * table["source.k"]
        )

        def pack() -> Sequence[Value]:
            place = table["rest.start"] + chunk * table["rest.size"]
            target = code.offset(self.scratch, self.kind, place)
            code.call(
                transposing(self.kernels.source, self.kind), VOID,
                b, target, table["rest"], self.size, table["ldb"], table["rest.width"],
            )  # fmt: skip
            return target, table["rest.width"]

        return code.either(table["rest.width"] > 0, pack, lambda: (b, table["ldb"]))

    def _left(self, chunk: Value, rows: tuple[Value, Value]) -> Sequence[Value]:
        """Where a block of A begins, its stride, and its first row; packed first if it is to be."""
        code, table, zero = self.code, self.table, self.code.constant(0, I64)
        start = code.offset(self.a, self.kind, self.k * table["a.k"])
        place = chunk * table["packed.a.size"] + table["packed.b.size"]

        def pack() -> Sequence[Value]:
            top, bottom = (table.start("row", i) for i in rows)
            target = code.offset(self.scratch, self.kind, place)
            scalar = self.kind.vector(0)
            code.call(
                packing.copy_panel(self.kernels, scalar), VOID,
                code.offset(start, self.kind, top), target, self.size, bottom - top,
                table["lda"], table["packed.rows"],
            )  # fmt: skip
            return target, table["packed.rows"], top

        packed = table["packed.a.size"] > 0
        return code.either(packed, pack, lambda: (start, table["lda"], zero))

    def _kernel(self, panel: Value, units: Value) -> Value:
        """Place in the table of the first kernel for a panel."""
        code, table = self.code, self.table
        narrow = table.is_short("column", units)
        last = code.compare("==", panel, table["column.count"] - 1)
        return code.select(last, _LAST, narrow) * 2 + _KERNELS

    def _right(self, column: Value, units: Value) -> tuple[Value, Value, Value]:
        """Where a block of B begins in a panel, its stride, and the lanes of its last vector."""
        code, table = self.code, self.table
        packed = table["packed.b"] > 0
        width = units * table["column.unit"]
        ldb = code.select(packed, width, table["ldb"])
        step = code.select(packed, width, table["source.k"])
        start = code.offset(
            code.select(packed, self.scratch, self.b),
            self.kind,
            column * table["b.column"] + self.k * step,
        )
        lanes = self.kind.lanes
        return start, ldb, code.minimum(table["column.total"] - column - width + lanes, lanes)
