"""The loops around the inner kernels, written once for all products of a module.

What differs from product to product is a table of constants: sizes, strides, cuts and kernels. The
loops read it when they run, so a product costs no more to compile than its epilogue, if it has one.
The epilogue runs over a finished chunk, which is still in the cache: so it is compiled once, and
kernels do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import matmul_packing as packing
from .matmul_finish import Epilogue, finish, parts_of, sums_of
from .matmul_kernels import shared, zeros
from .matmul_product import PACKED_WIDTH, Blocking
from .matmul_table import KERNELS, LAST, PACK, REST, Table, write_table
from .transposing import transposing
from .values import I64, VOID, Type, Value, signature
from .vectors import Builder, Source

_SIGNATURE = signature("table a b c scratch", "begin end")


def write_phases(
    source: Source,
    cut: Blocking,
    name: str,
    further: dict[str, Type],
    epilogue: Epilogue | None,
) -> None:
    """The functions of a product: `name`, before it what packs B, after it what finishes C."""
    table = write_table(source, cut, f"{name}.table")
    kind = cut.product.kind
    if cut.pack_chunks:
        loops = shared(source, "pack.panels", kind, _SIGNATURE, _write_pack)
        pack = _Phase(source, cut, f"{name}.pack", further)
        pack.call(loops, table, pack.c, pack.begin, pack.end)
        pack.code.ret()
    loops = shared(source, "chunks", kind, _SIGNATURE, _write_chunks)
    main = _Phase(source, cut, name, further)
    code = main.code
    c = sums_of(code, cut, main.scratch) if cut.last.count else main.c
    if epilogue is None or cut.last.count:
        main.call(loops, table, c, main.begin, main.end)
    else:
        with code.loop(main.begin, main.end) as loop:
            main.call(loops, table, c, loop.index, loop.index + 1)
            edges = Table(code, code.symbol(table)).edges(loop.index)
            finish(code, cut, edges, c, epilogue, main.further)
    code.ret()
    if cut.last.count:
        last = _Phase(source, cut, f"{name}.sum", further)
        with last.code.loop(last.begin, last.end) as loop:
            edges, parts = parts_of(last.code, cut, loop.index, last.scratch)
            finish(last.code, cut, edges, last.c, epilogue, last.further, parts)
        last.code.ret()


class _Phase:
    """The function of a phase while it is written; its factors are B and A if C^T is computed."""

    def __init__(self, source: Source, cut: Blocking, name: str, further: dict[str, Type]) -> None:
        pointers, bounds = signature("a b c scratch"), signature("", "begin end")
        function = source.function(name, pointers | further | bounds)
        self.code = function.body
        a, b, self.c, self.scratch, *self.further, self.begin, self.end = function.arguments
        self.factors = (b, a) if cut.swap else (a, b)

    def call(self, loops: str, table: str, c: Value, begin: Value, end: Value) -> None:
        """Do some chunks by loops that all products share; `c` is where the sums go."""
        place = self.code.symbol(table)
        self.code.call(loops, VOID, place, *self.factors, c, self.scratch, begin, end)


def _write_pack(code: Builder, arguments: Sequence[Value], kind: Type) -> None:
    """Pack panels `begin` ... `end` - 1 of B into the scratch."""
    pointer, _, b, _, scratch, begin, end = arguments
    table = Table(code, pointer)
    pack = table.pointer(PACK)
    with code.loop(begin, end) as panel:
        left, right = (table.start("column", i) for i in (panel.index, panel.index + 1))
        code.call_pointer(
            pack, VOID,
            code.offset(b, kind, left * table["source.column"]),
            code.offset(scratch, kind, left * table["packed.k"]),
            table["k"], right - left, table["ldb"],
            table.units("column", panel.index) * table["column.unit"],
        )  # fmt: skip


def _write_chunks(code: Builder, arguments: Sequence[Value], kind: Type) -> None:
    """Compute chunks `begin` ... `end` - 1 of C."""
    pointer, a, b, c, scratch, begin, end = arguments
    table = Table(code, pointer)
    with code.loop(begin, end) as chunk:
        part, place = code.divmod(chunk.index, table["row.chunks"] * table["column.chunks"])
        rows, columns = table.shares(place)
        blocks = table["parts"] * table["blocks"]
        first = part * table["blocks"]
        with code.loop(first, first + table["blocks"]) as block:
            k, stop = (table.even(i, table["k"], blocks) for i in (block.index, block.index + 1))
            fresh = code.compare("==", block.index, first)
            sums = code.offset(c, kind, part * table["c.part"])
            sweep = _Sweep(table, [a, b, sums, scratch], kind, (k, stop - k), fresh)
            sweep.write(chunk.index, rows, columns)


class _Sweep:
    """The part of the loops inside a block of K, while it is written."""

    def __init__(
        self,
        table: Table,
        operands: Sequence[Value],
        kind: Type,
        block: tuple[Value, Value],
        fresh: Value,
    ) -> None:
        self.table = table
        self.code = table.code
        self.kind = kind
        self.a, self.b, self.c, self.scratch = operands
        self.k, self.size = block
        self.fresh = fresh  # whether C is to be overwritten

    def write(self, chunk: Value, rows: tuple[Value, Value], columns: tuple[Value, Value]) -> None:
        """Call a kernel for each panel and each tile of a chunk."""
        code, table = self.code, self.table
        a, lda, of_row, of_tile = self._left(chunk, rows)
        nothing = code.symbol(zeros(code.source))
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
                    code.offset(a, self.kind, row * of_row + tile.index * of_tile), right, c,
                    code.select(self.fresh, nothing, c), self.size, lda, ldb, table["ldc"], stride,
                    tail,
                )  # fmt: skip

        def write_rest() -> None:
            kernel, (right, ldb) = code.constant(KERNELS + 2 * REST, I64), self._rest(chunk)
            write_tiles(table["column.total"], kernel, right, ldb, table["rest"])

        with code.loop(*columns, carry=[first_unit]) as panel:  # carried: a division takes long
            after = table.first("column", panel.index + 1)
            column, units = panel.values[0] * table["column.unit"], after - panel.values[0]
            kernel = self._kernel(panel.index, units)
            right, ldb, tail = self._right(chunk, column, units)
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
                transposing(code.source, self.kind), VOID,
                b, target, table["rest"], self.size, table["ldb"], table["rest.width"],
            )  # fmt: skip
            return target, table["rest.width"]

        return code.either(table["rest.width"] > 0, pack, lambda: (b, table["ldb"]))

    def _left(self, chunk: Value, rows: tuple[Value, Value]) -> Sequence[Value]:
        """Where a block of A begins, its stride, and those of rows and tiles; packed first."""
        code, table, zero = self.code, self.table, self.code.constant(0, I64)
        start = code.offset(self.a, self.kind, self.k * table["a.k"])

        def pack() -> Sequence[Value]:
            size = self.size * PACKED_WIDTH
            place = chunk * table["packed.a.size"] + table["packed.b.size"]
            target = code.offset(self.scratch, self.kind, place - rows[0] * size)
            copy = packing.copy_tiles(code.source, self.kind.vector(0))
            with code.loop(*rows, packing.TILES) as group:
                places: list[Value] = []
                for i in range(packing.TILES):  # beyond the last tile that one again
                    tile = code.minimum(group.index + i, rows[1] - 1)
                    first, end = (table.start("row", number) for number in (tile, tile + 1))
                    places += [tile, first, end - first]
                code.call(copy, VOID, start, target, self.size, table["lda"], size, *places)
            return target, code.constant(PACKED_WIDTH, I64), zero, size

        packed = table["packed.a.size"] > 0
        return code.either(packed, pack, lambda: (start, table["lda"], table["a.row"], zero))

    def _kernel(self, panel: Value, units: Value) -> Value:
        """Place in the table of the first kernel for a panel."""
        code, table = self.code, self.table
        narrow = table.is_short("column", units)
        last = code.compare("==", panel, table["column.count"] - 1)
        return code.select(last, LAST, narrow) * 2 + KERNELS

    def _right(self, chunk: Value, column: Value, units: Value) -> tuple[Value, Value, Value]:
        """Where a block of B begins in a panel, its stride, and the lanes of its last vector."""
        code, table = self.code, self.table
        lanes, width = self.kind.lanes, units * table["column.unit"]
        columns = code.minimum(table["column.total"] - column, width)

        def as_it_is() -> Sequence[Value]:
            packed = table["packed.b"] > 0
            step = code.select(packed, width, table["source.k"])
            place = column * table["b.column"] + self.k * step
            start = code.offset(code.select(packed, self.scratch, self.b), self.kind, place)
            return start, code.select(packed, width, table["ldb"])

        def pack() -> Sequence[Value]:
            place = table["packed.panel.start"] + chunk * table["packed.panel.size"]
            target = code.offset(self.scratch, self.kind, place)
            from_k = column * table["source.column"] + self.k * table["source.k"]
            code.call_pointer(
                table.pointer(PACK), VOID,
                code.offset(self.b, self.kind, from_k), target,
                self.size, columns, table["ldb"], width,
            )  # fmt: skip
            return target, width

        right, ldb = code.either(table["packed.panel.size"] > 0, pack, as_it_is)
        return right, ldb, columns - width + lanes
