"""A matrix product that is asked for, and its sizes cut into pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .vectors import F32, Type


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


def narrow(columns: int, lanes: int) -> int:
    """Lanes of a shorter vector for so many columns: a power of two; 0 for more than half of it."""
    return 1 << (columns - 1).bit_length() if 0 < columns <= lanes // 2 else 0
