"""The table of constants by which one product differs from another, and how loops read it.

The loops are compiled once. For C[100, 64] with K = 784, in tiles of six rows or five::

    before: a blocking                 after: what `write_table` appends to the module

    k 784, parts 2, row chunks 8 ...   @product.table = private constant { i64, ..., ptr, ... }
    tiles 17, panels 1                     { i64 784, ..., ptr @matmul.tile.6x4nm.f32,
                                             ptr @matmul.tile.5x4nm.f32, ptr null, ptr null }

A `Table` is that as the code of a loop sees it: `table["k"]` is a register.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter

from . import matmul_packing as packing
from .matmul_finish import Edges
from .matmul_kernels import Dot, Tile, kernel
from .matmul_product import Blocking, Cut, narrow
from .transposing import transposing
from .vectors import I64, PTR, Builder, Source, Value

_NUMBERS: dict[str, Callable[[Blocking], int]] = {
    "k": lambda cut: cut.product.k,
    "blocks": lambda cut: cut.blocks,
    "parts": lambda cut: cut.parts,
    "row.chunks": lambda cut: cut.row_chunks,
    "column.chunks": lambda cut: cut.column_chunks,
    "c.part": lambda cut: cut.product.m * cut.product.n,
    "lda": lambda cut: cut.product.lda,
    "a.row": lambda cut: 1 if cut.product.transpose_a else cut.product.lda,
    "a.k": lambda cut: cut.product.lda if cut.product.transpose_a else 1,
    "ldb": lambda cut: cut.product.ldb,
    "b.column": lambda cut: (
        cut.packed_k if cut.packed_b_size else cut.product.ldb if cut.dot else 1
    ),
    "ldc": lambda cut: cut.product.n,
    "source.column": lambda cut: cut.product.ldb if cut.product.transpose_b else 1,
    "packed.b": lambda cut: cut.packed_b_size > 0,
    "packed.k": lambda cut: cut.packed_k,
    "packed.a.size": lambda cut: cut.packed_a_size,
    "packed.b.size": lambda cut: cut.packed_b_size,
    "rest": lambda cut: cut.rest,
    "rest.width": lambda cut: cut.rest_shape[1],
    "rest.size": lambda cut: math.prod(cut.rest_shape),
    "packed.panel.size": lambda cut: cut.packed_panel_size,
    "packed.panel.start": lambda cut: cut.regions["packed.panel"],
    "rest.start": lambda cut: cut.regions["rest"],
    "source.k": lambda cut: 1 if cut.product.transpose_b else cut.product.ldb,
    **{
        f"{axis}.{field}": attrgetter(f"{pieces}.{field}")
        for axis, pieces in (("row", "tiles"), ("column", "panels"))
        for field in ("total", "unit", "count", "whole", "size")
    },
}
PACK, KERNELS = len(_NUMBERS), len(_NUMBERS) + 1  # places of pointers
_WIDE, _NARROW, LAST, REST = range(4)  # kinds of panels; each has a kernel for either height


class Table:
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

    def even(self, piece: Value, total: Value, count: Value) -> Value:
        """Where a piece begins of a total that is cut into so many even ones."""
        return self.code.binary("udiv", piece * total, count)

    def first(self, axis: str, piece: Value) -> Value:
        """See `Cut.first`."""
        return self.even(piece, self[f"{axis}.whole"], self[f"{axis}.count"])

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
        down, across = self.code.divmod(chunk, self["column.chunks"])
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
        return self.even(part, count, parts), self.even(part + 1, count, parts)


def write_table(source: Source, cut: Blocking, name: str) -> str:
    """Write the table of a product; returns its name."""
    kind = cut.product.kind
    pointers = ["null"]
    if cut.packed_b and cut.product.transpose_b:
        pointers = [f"@{transposing(source, kind)}"]
    elif cut.packed_b:
        pointers = [f"@{packing.copy_panel(source, kind)}"]
    for panel in (_WIDE, _NARROW, LAST, REST):
        for tile in (0, 1):
            shape = _shape(cut, panel, tile)
            pointers.append(f"@{kernel(source, shape, kind)}" if shape else "null")
    numbers = [f"i64 {int(number(cut))}" for number in _NUMBERS.values()]
    items = [*numbers, *(f"ptr {p}" for p in pointers)]
    kinds = ", ".join(item.split()[0] for item in items)
    source.add(f"@{name} = private constant {{ {kinds} }} {{ {', '.join(items)} }}")
    return name


def _shape(cut: Blocking, panel: int, tile: int) -> Tile | Dot | None:
    """Shape of the kernel for a kind of panels and of tiles; None if there are none of them."""
    rows = _size(cut.tiles, cut.tiles.count, tile)
    if panel == REST:
        return Dot(rows, cut.rest) if rows and cut.rest else None
    before = cut.panels.count - 1
    columns = cut.panels.longest if panel == LAST else _size(cut.panels, before, panel)
    if not rows or not columns:
        return None
    if cut.dot:
        return Dot(rows, columns)
    tail = cut.panels.total % cut.lanes if panel == LAST else 0
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
