"""Inner kernels of matrix products: small tiles of C kept in vector registers.

All kernels share one signature, so that one driver can call any of them::

    void kernel(ptr a, ptr b, ptr c, ptr start, i64 k, i64 lda, i64 ldb, i64 ldc, i64 lds, i64 tail)

They compute a tile C = START + op(A) op(B). `start` is C itself (to accumulate) or a row of zeros
with the stride `lds` = 0. Strides count elements; `k` may be 0. Only the size of the tile is part
of a kernel, everything else is an argument: so products of many shapes share a few kernels.
In which order an element of C is summed over k follows from the kernel, never from the caller.
With AVX-512, where the last columns fill at most half a vector, that one is half as wide; where
they are fewer still, several rows share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .values import Type, Value, signature
from .vectors import Builder, Source

DOT_SUMS = 0.75
"""Part of the registers that the sums of a kernel along K fill at a time, at most."""

SIGNATURE = signature("a b c start", "k lda ldb ldc lds tail")


@dataclass(frozen=True)
class Tile:
    """A kernel for `rows` by `vectors` of C.

    `across`: A lies transposed, so that for one k its rows are next to each other, and `lda` is
    the stride of k. `masked`: only the first `tail` lanes of the last vector are there. `last`: the
    lanes of that vector, if they are half of a whole one or less: then rows share a vector of half
    the lanes, which many processors multiply in half the time. Rows 0 and 1 of four columns::

        c[0, 96]  c[0, 97]  c[0, 98]  c[0, 99]  c[1, 96]  c[1, 97]  c[1, 98]  c[1, 99]

    `moved`: the same lanes are there, and the last vector lies so much further left that all are,
    over the end of the one before: masks take a register, and AMD's AVX2 long to store under one.
    `block`: the product is of a block of a longer k. START is then added at the end, so that the
    rounding error grows with the block and the number of blocks, not with all of k.
    """

    rows: int
    vectors: int
    across: bool
    masked: bool
    last: int = 0
    block: bool = False
    moved: bool = False

    @property
    def name(self) -> str:
        """Name of the shape."""
        order = "t" if self.across else "n"
        masked = "m" if self.masked else "v" if self.moved else ""
        block = ".block" if self.block else ""
        return f"tile.{self.rows}x{self.vectors}{order}{masked}{self.last or ''}{block}"

    def write(self, b: Builder, arguments: Sequence[Value], kind: Type) -> None:
        """Append the code."""
        a, right, c, start, k, lda, ldb, ldc, lds, tail = arguments
        last = kind.vector(self.last or kind.lanes)
        kinds = [*[kind] * (self.vectors - 1), last]
        masks: list[Value | None] = [None] * self.vectors
        if self.masked:
            masks[-1] = b.first_lanes(tail, last.lanes)
        columns: list[Value | int] = [j * kind.lanes for j in range(self.vectors)]
        if self.moved:
            columns[-1] = tail + (self.vectors - 2) * kind.lanes
        places = self._places(kind.lanes)
        steps = [i if self.across else lda * i for i in range(self.rows)]

        def loaded(rows: Sequence[int], j: int, sharing: int) -> Value:
            parts = [b.load(start, kinds[j], lds * i + columns[j], mask=masks[j]) for i in rows]
            return _joined(b, parts, sharing)

        def zero(rows: Sequence[int], j: int, sharing: int) -> Value:
            return b.constant(0.0, kind.vector(kinds[j].lanes * sharing))

        sums = [(zero if self.block else loaded)(*place) for place in places]
        with b.loop(0, k, carry=[a, right, *sums]) as loop:
            a, right, *sums = loop.values
            vectors = [
                b.load(right, kinds[j], columns[j], mask=masks[j]) for j in range(self.vectors)
            ]
            scalars = [b.load(a, kind.vector(0), step) for step in steps]
            sums = [
                b.fma(
                    _joined(b, [b.splat(scalars[i], kinds[j].lanes) for i in rows], sharing),
                    _joined(b, [vectors[j]], sharing),
                    total,
                )
                for (rows, j, sharing), total in zip(places, sums, strict=True)
            ]
            step = lda if self.across else 1
            loop.update(b.offset(a, kind, step), b.offset(right, kind, ldb), *sums)
        totals = loop.values[2:]
        if self.block:  # all before the first is stored: the last vector may lie over another
            totals = [loaded(*place) + total for place, total in zip(places, totals, strict=True)]
        for (rows, j, _), total in zip(places, totals, strict=True):
            for number, i in enumerate(rows):
                lanes = range(number * kinds[j].lanes, (number + 1) * kinds[j].lanes)
                part = b.shuffle(total, None, lanes) if total.type != kinds[j] else total
                b.store(part, c, ldc * i + columns[j], mask=masks[j])

    def _places(self, lanes: int) -> list[tuple[Sequence[int], int, int]]:
        """What lies in each register: rows, number of the vector, and rows that could lie there.

        The last vector goes first: after the others, LLVM overwrites a factor with it, and spills.
        """
        sharing = max(1, lanes // 2 // self.last) if self.last else 1
        places: list[tuple[Sequence[int], int, int]] = []
        for rows in [range(self.rows)[i : i + sharing] for i in range(0, self.rows, sharing)]:
            places.append((rows, self.vectors - 1, sharing))
            places += [(range(i, i + 1), j, 1) for i in rows for j in range(self.vectors - 1)]
        return places


def _joined(b: Builder, parts: Sequence[Value], count: int) -> Value:
    """One vector of `count` parts, a power of two; the last one again where there are fewer."""
    parts = [*parts, *[parts[-1]] * (count - len(parts))]
    while len(parts) > 1:
        lanes = range(2 * parts[0].type.lanes)
        parts = [b.shuffle(x, y, lanes) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@dataclass(frozen=True)
class Dot:
    """A kernel for `rows` by `columns` of C where in both A and B, k are next to each other.

    For A B^T with few rows, where to transpose B would take longer than the product, and for a few
    columns beyond a vector. The lanes of a vector are sums over every `lanes`-th k, added up at the
    end.
    """

    rows: int
    columns: int

    @property
    def name(self) -> str:
        """Name of the shape."""
        return f"dot.{self.rows}x{self.columns}"

    def write(self, b: Builder, arguments: Sequence[Value], kind: Type) -> None:
        """Append the code."""
        most = max(1, int(DOT_SUMS * b.host.registers) // self.columns)
        count = -(-self.rows // most)
        for group in range(count):
            first, end = (part * self.rows // count for part in (group, group + 1))
            self._write_rows(b, arguments, kind, range(first, end))

    def _write_rows(
        self, b: Builder, arguments: Sequence[Value], kind: Type, numbers: range
    ) -> None:
        """Some rows, whose sums fit in the registers."""
        a, right, c, start, k, lda, ldb, ldc, lds, _ = arguments
        rows = [b.offset(a, kind, lda * i) for i in numbers]
        columns = [b.offset(right, kind, ldb * j) for j in range(self.columns)]
        zero = b.constant(0.0, kind)

        def body(at: Value, mask: Value | None, *sums: Value) -> list[Value]:
            """The fewer vectors stay in registers, the others come one by one."""
            few, many = sorted((rows, columns), key=len)
            kept = [b.load(pointer, kind, at, mask=mask) for pointer in few]
            new = list(sums)
            for place, pointer in enumerate(many):
                x = b.load(pointer, kind, at, mask=mask)
                for other, y in enumerate(kept):
                    i, j = (other, place) if few is rows else (place, other)
                    number = i * self.columns + j
                    new[number] = b.fma(x, y, sums[number])
            return new

        sums = b.vector_loop(0, k, kind.lanes, body, [zero] * (len(rows) * self.columns))
        totals = _lane_sums(b, sums)
        for number, i in enumerate(numbers):
            for first in range(0, self.columns, kind.lanes):
                lanes = range(min(kind.lanes, self.columns - first))
                total = _picked(b, totals, number * self.columns + first, lanes)
                total = b.load(b.offset(start, kind, lds * i + first), total.type) + total
                b.store(total, b.offset(c, kind, ldc * i + first))


def _picked(b: Builder, vectors: Sequence[Value], first: int, lanes: range) -> Value:
    """Some lanes of vectors that follow each other, from the one with a number."""
    size = vectors[0].type.lanes
    place, shift = divmod(first, size)
    following = vectors[place + 1] if shift + len(lanes) > size else None
    return b.shuffle(vectors[place], following, [shift + lane for lane in lanes])


def _lane_sums(b: Builder, vectors: Sequence[Value]) -> Sequence[Value]:
    """The sums of the lanes of each vector, as the lanes of vectors.

    One shuffle takes the even lanes of two vectors, one the odd lanes; after log2(lanes) additions
    of these every lane has a sum of its own. Inside units of 128 bits first, then of such units.
    """
    lanes, unit = vectors[0].type.lanes, 128 // vectors[0].type.bits
    for size, block in (1, unit), (unit, lanes):
        even = [
            which + place + lane
            for begin in range(0, lanes, block)
            for which in (0, lanes)
            for place in range(begin, begin + block, 2 * size)
            for lane in range(size)
        ]
        odd = [lane + size for lane in even]
        for _ in range((block // size).bit_length() - 1):
            pairs = zip(vectors[::2], [*vectors[1::2], vectors[-1]], strict=False)
            vectors = [b.shuffle(x, y, even) + b.shuffle(x, y, odd) for x, y in pairs]
    return vectors


def kernel(source: Source, shape: Tile | Dot, kind: Type) -> str:
    """Name of the kernel of this shape for the scalar type `kind`."""
    return shared(source, shape.name, kind, SIGNATURE, shape.write)


def zeros(source: Source) -> str:
    """Name of a row of zeros as long as the widest tile."""
    source.add("@matmul.zeros = private constant [64 x i64] zeroinitializer, align 64")
    return "matmul.zeros"


def shared(
    source: Source,
    name: str,
    kind: Type,
    signature: dict[str, Type],
    write: Callable[[Builder, Sequence[Value], Type], None],
) -> str:
    """Name of a function of all products, which `write(builder, arguments, vector type)` fills."""
    vector = kind.vector(source.host.lanes_of(kind.bits))
    return source.shared(
        f"matmul.{name}.{kind.mangled}", signature, lambda b, given: write(b, given, vector)
    )
