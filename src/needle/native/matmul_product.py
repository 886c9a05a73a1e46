"""A matrix product that is asked for, its sizes cut into pieces, and the memory that these need."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate

from .transposing import BLOCK
from .vectors import F32, Type

TURNED_VECTORS = 8  # of columns that are turned over at a time
PACKED_WIDTH = 8  # elements of a packed tile's row: as many as the tile has rows, or more


@dataclass(frozen=True)
class Product:
    """C[m, n] = op(A)[m, k] op(B)[k, n], all of them dense.

    op transposes where `transpose_a` or `transpose_b` is set: A then lies as [k, m], B as [n, k].
    A column that is transposed lies as the row that it is read as, and A counts as that.
    """

    m: int
    n: int
    k: int
    transpose_a: bool = False
    transpose_b: bool = False
    kind: Type = F32

    def __post_init__(self) -> None:
        if self.m == 1:
            object.__setattr__(self, "transpose_a", False)

    @property
    def lda(self) -> int:
        """Elements from one row of A, as it lies, to the next."""
        return self.m if self.transpose_a else self.k

    @property
    def ldb(self) -> int:
        """Elements from one row of B, as it lies, to the next."""
        return self.k if self.transpose_b else self.n

    @property
    def a_bytes(self) -> int:
        """Size of A."""
        return self.m * self.k * self.kind.bytes

    @property
    def b_bytes(self) -> int:
        """Size of B."""
        return self.k * self.n * self.kind.bytes

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.n * self.k

    def swapped(self) -> Product:
        """The same sums as C^T = op(B)^T op(A)^T."""
        transposed = {"transpose_a": not self.transpose_b, "transpose_b": not self.transpose_a}
        return replace(self, m=self.n, n=self.m, **transposed)


@dataclass(frozen=True)
class Cut:
    """`total` elements in `count` even pieces of whole units; the last unit may be ragged."""

    total: int
    unit: int
    count: int

    @property
    def whole(self) -> int:
        """Units in all."""
        return -(-self.total // self.unit)

    @property
    def size(self) -> int:
        """Units of a piece; some have one more."""
        return self.whole // max(self.count, 1)

    @property
    def longest(self) -> int:
        """Units of the longest piece."""
        return -(-self.whole // max(self.count, 1))

    def first(self, piece: int) -> int:
        """First unit of a piece; for `count`, the end."""
        return piece * self.whole // max(self.count, 1)

    def start(self, piece: int) -> int:
        """First element of a piece; for `count`, the end."""
        return min(self.total, self.first(piece) * self.unit)


def cut(total: int, largest: int, unit: int = 1) -> Cut:
    """Cut `total` elements into the fewest pieces of at most `largest` units, even ones."""
    return Cut(total, unit, -(-total // (largest * unit)))


@dataclass(frozen=True)
class Blocking:
    """Where the cuts are: `tiles` of rows, `panels` of columns (in vectors; in columns if `dot`).

    `rest` are columns that no panel has. `product` is the one that is computed: C^T, where that is
    easier than the one `asked` for. With `free_masks` (AVX-512) whole panels go through the masked
    kernel too, and save compiling another one.
    """

    asked: Product
    product: Product
    dot: bool
    packed_a: bool
    packed_b: bool
    free_masks: bool
    lanes: int
    tiles: Cut
    panels: Cut
    rest: int
    blocks: int
    parts: int
    row_chunks: int
    column_chunks: int

    @property
    def swap(self) -> bool:
        """Whether C^T is computed."""
        return self.product is not self.asked

    @property
    def turned(self) -> bool:
        """Whether C^T has to be turned over at the end; one row lies as its column."""
        return self.swap and self.asked.n > 1

    def padded(self, count: int) -> int:
        """Elements of the whole vectors that cover `count`."""
        return -(-count // self.lanes) * self.lanes

    @property
    def steps(self) -> int:
        """Of K in a block, at most."""
        return -(-self.product.k // (self.parts * self.blocks))

    @property
    def packs_panels(self) -> bool:
        """Whether a panel of B is packed when it is read: one chunk has all rows."""
        return self.packed_b and self.row_chunks == 1

    @property
    def packed_k(self) -> int:
        """Rows of a packed panel of B: a transposed B is packed in whole vectors."""
        k = self.product.k
        return self.padded(k) if self.product.transpose_b else k

    @property
    def packed_a_size(self) -> int:
        """Elements of A that a chunk packs at a time, tile after tile."""
        tiles = -(-self.tiles.count // max(self.row_chunks, 1))
        return tiles * self.steps * PACKED_WIDTH if self.packed_a else 0

    @property
    def packed_panel_size(self) -> int:
        """Elements of a panel of B that a chunk packs at a time."""
        size = self.padded(self.steps) * self.panels.longest * self.lanes
        return size if self.packs_panels else 0

    @property
    def rest_shape(self) -> tuple[int, int]:
        """Rows, and elements of each, in which a chunk lays the rest of B's columns along K."""
        if not self.rest or self.product.transpose_b:
            return 0, 0
        return min(self.lanes, BLOCK), self.padded(self.steps)

    @property
    def packed_b_size(self) -> int:
        """Elements of the whole B, packed beforehand."""
        whole = self.packed_b and not self.packs_panels
        return self.padded(self.product.n) * self.packed_k if whole else 0

    @property
    def sums_size(self) -> int:
        """Elements of the sums of all parts of K, if C is not where they belong."""
        return self.product.m * self.product.n * self.parts if self.last.count else 0

    @property
    def turned_shape(self) -> tuple[int, int]:
        """Rows and columns, in whole vectors, of a piece of C that is turned over."""
        return self.padded(self.asked.m), self.last.longest * self.lanes

    @property
    def regions(self) -> dict[str, int]:
        """Where each part of the scratch memory begins, and where the last one ends."""
        sums = math.prod(self.turned_shape) * self.parts * self.last.count
        sizes = {
            "packed.b": self.packed_b_size,
            "packed.a": self.chunks * self.packed_a_size,
            "packed.panel": self.chunks * self.packed_panel_size,
            "rest": self.chunks * math.prod(self.rest_shape),
            "sums": self.sums_size,
            "turned": sums if self.turned else 0,
        }
        return dict(zip([*sizes, "end"], accumulate(sizes.values(), initial=0), strict=True))

    @property
    def scratch(self) -> int:
        """Elements of scratch memory."""
        return self.regions["end"]

    @property
    def chunks(self) -> int:
        """Pieces of work of the product itself."""
        return self.parts * self.row_chunks * self.column_chunks

    @property
    def even_rows(self) -> bool:
        """Whether chunk c is the rows c * m // chunks ... of C, with all columns."""
        whole = self.chunks == self.row_chunks > 0 and not self.swap
        return whole and self.tiles.count % self.row_chunks == 0

    @property
    def last(self) -> Cut:
        """Pieces of work of adding up the parts: rows of C, or columns where it is turned over."""
        if self.turned:
            return cut(self.asked.n, TURNED_VECTORS, self.lanes)
        return Cut(self.product.m, 1, min(self.row_chunks, self.parts) if self.parts > 1 else 0)

    @property
    def pack_chunks(self) -> int:
        """Pieces of work of the packing before it."""
        return self.panels.count if self.packed_b_size else 0


def narrow(columns: int, lanes: int) -> int:
    """Lanes of a shorter vector for so many columns: a power of two; 0 for more than half of it."""
    return 1 << (columns - 1).bit_length() if 0 < columns <= lanes // 2 else 0
