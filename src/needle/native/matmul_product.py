"""A matrix product that is asked for, and its sizes cut into pieces."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import ArgumentError
from .vectors import F32, Type


@dataclass(frozen=True)
class Product:
    """C[m, n] = op(A)[m, k] op(B)[k, n], or C += ... with `accumulate`.

    op transposes where `transpose_a` or `transpose_b` is set: A then lies as [k, m], B as [n, k].
    Rows are contiguous and `lda`, `ldb`, `ldc` elements apart; 0 stands for dense. A dense column
    that is transposed lies as the row that it is read as, and A counts as that.
    """

    m: int
    n: int
    k: int
    transpose_a: bool = False
    transpose_b: bool = False
    kind: Type = F32
    lda: int = 0
    ldb: int = 0
    ldc: int = 0
    accumulate: bool = False

    def __post_init__(self) -> None:
        widths = {
            "lda": self.m if self.transpose_a else self.k,
            "ldb": self.k if self.transpose_b else self.n,
            "ldc": self.n,
        }
        for name, width in widths.items():
            stride = getattr(self, name) or max(width, 1)
            if stride < width:
                raise ArgumentError(
                    f"Product: {name}={stride} is shorter than a row of {width} elements."
                    f" Give the distance between rows, at least {width}"
                )
            object.__setattr__(self, name, stride)
        if self.transpose_a and self.m == self.lda == 1:
            object.__setattr__(self, "transpose_a", False)
            object.__setattr__(self, "lda", max(self.k, 1))
        if min(self.m, self.n, self.k) < 0:
            raise ArgumentError(
                f"Product: size {self.m}x{self.k} @ {self.k}x{self.n} is negative. Use sizes >= 0"
            )

    @property
    def flop(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.n * self.k

    def swapped(self) -> Product:
        """The same sums as C^T = op(B)^T op(A)^T, dense."""
        return replace(
            self, m=self.n, n=self.m, lda=self.ldb, ldb=self.lda, ldc=max(self.m, 1),
            transpose_a=not self.transpose_b, transpose_b=not self.transpose_a,
        )  # fmt: skip


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
