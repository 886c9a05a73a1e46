"""How a matrix product is cut: into tiles, panels, blocks of K and chunks, by its shape alone.

C is covered by panels of columns, a few vectors wide, and each panel by tiles of rows, as high as
the registers allow. B is read through the caches as it lies where it is small, and packed first
where it is large or transposed: panel by panel by the chunk that reads it, if that is only one, or
else beforehand. Where C is small against K, K is cut into parts, each with sums of its own, which
are added up at the end: so a thread has rows of B to itself, and few others share them. The rest of
the columns beyond a first vector, where they are few, are sums along K instead.
Nothing depends on the number of threads, so neither do the bits of the result::

    before: a product                    after: its blocking, for vectors of 16 floats

    A[100, 100] B[784, 100]^T            17 tiles of rows: 15 of 6, and 2 of 5
                                         13 panels of columns: 10 of 4 vectors, and 3 of 3
                                         B is packed first, panel by panel
                                         16 chunks: some rows, and all columns
"""

from __future__ import annotations

import math

from .llvm import Host
from .matmul_product import Blocking, Cut, Product, cut, narrow

# Measured on cores with 1 MB of L2, AVX-512 and, with 16 registers, AVX2.
TILE_ROWS = 6
ROWS_OF_ONE_VECTOR = 10  # C little wider than a vector: more rows keep the multipliers busy
DOT_TILE_ROWS = 4
DOT_ROWS = 128  # with more, A would have to come from far away for each panel
DOT_END = 1.5  # multiplications that take as long as to add up the lanes of a sum
DOT_SUMS = 12  # at a time, at least: fewer leave multipliers idle
DOT_TERM = 1.15  # multiplications that take as long as one along K, with 16 registers
DOT_PANEL_BYTES = 2**14  # rows of B that may make a panel wider than others: not too many streams
PANEL_VECTORS = 8  # widest panel
LARGE_BYTES = 2**21  # an operand that does not stay in L2; it is packed ...
PACKED_B_USES = 384  # ... if so many rows of C make use of B,
PACKED_A_USES = 64  # ... or so many columns of a transposed A,
PACKED_A_BYTES = 2**10  # the rows of which may as well lie so far apart, if panels are narrow
NARROW_PANEL = 64  # bytes of a row of B in a panel that is no wider than a cache line or two: its
NARROW_BYTES = 2**17  # rows come from L2 one by one, so that a B of this size is packed ...
NARROW_USES = 128  # ... if so many rows of C make use of it,
PANEL_USES = 32  # ... or so many of a panel that is packed when it is read
PACK_COST = 0.4  # multiplications that take as long as to transpose an element of B,
TURN_COST = 0.6  # ... and to turn over one of C
LEAST_ROW = 0.6  # ... and to take in a row's factor, for however few columns,
LEAST_LOADS = 1.7  # ... and to load a row's factor and a whole vector and a part of B
PACKED_A_ROWS = 384  # rows that two chunks pack
BLOCK_K = 512  # of K at a time, where an operand is large
WHOLE_K = 1024  # ... and with neighbours near each other; more would cost digits
CHUNK_FLOP = 500_000  # about 2 to 4 microseconds, and an even number of chunks for small layers
LEAST_FLOP = 100_000  # ... of which two threads share even one
CHUNK_ROWS = 256  # rows that share a panel while it is near
REST_K = 32  # of terms, at least, for which columns beyond a vector are sums along K,
REST_ROWS = 16  # ... and of rows, which share columns that are laid out for it
REST_COST = 0.2  # multiplications that take as long, for a row and a term, beside its own
SHORT_K = 96  # to write a C that does not stay in L2 takes longer: row by row is best
CACHED_BYTES = 2**19  # a smaller B stays near all the time
MANY_CHUNKS = 16
MORE_TILES = 1.2  # times the fewest, if all chunks then have as many rows
PART_K = 256  # of K in a part, at least, and so many times the rows or columns of C, the larger:
PART_RATIO = 3
MOST_PARTS = 8


def blocking(product: Product, host: Host) -> Blocking:
    """Decide how to compute `product` on `host`."""
    asked, column = product, product.n == 1 and product.m > 1
    lanes = host.lanes_of(product.kind.bits)
    if column or _is_turned(asked, lanes):
        product = asked.swapped()
    dot = _is_dot(product, host, lanes)
    packed_a = product.transpose_a and _is_worth_packing_a(product, host)
    parts = 1 if dot or column else _parts(product)
    useful = max(_useful_chunks(product) // parts, 1)
    few_columns = 2 * product.n <= 3 * lanes and not packed_a
    rows = DOT_TILE_ROWS if dot else ROWS_OF_ONE_VECTOR if few_columns else TILE_ROWS
    tiles = cut(product.m, rows)
    row_chunks = _row_chunks(product, tiles, useful)
    if packed_a:  # each chunk packs its rows: no two should pack the same
        row_chunks, useful = min(tiles.count, 2 * -(-product.m // PACKED_A_ROWS)), 1
    is_worth = product.transpose_b or _is_worth_packing_b(product, host, row_chunks)
    packed_b = not dot and is_worth
    far_a = product.transpose_a and not packed_a and product.a_bytes > LARGE_BYTES
    far = far_a or (not packed_b and product.b_bytes > LARGE_BYTES)
    largest = WHOLE_K * lanes if dot else BLOCK_K if far else WHOLE_K
    blocks = max(1, -(-product.k // (parts * largest)))
    tiles = _even(tiles, row_chunks)
    widest = (
        _dot_columns(tiles.longest, host.registers, product.k * product.kind.bytes)
        if dot
        else _panel_units(tiles.longest, host)
    )
    rest = 0 if dot else _rest(product, lanes)
    panels = cut(product.n - rest, widest, 1 if dot else lanes)
    column_chunks = max(1, min(panels.count, useful // max(row_chunks, 1)))
    return Blocking(
        asked, product, dot, packed_a, packed_b, host.lanes == 16, lanes, tiles, panels, rest,
        blocks, parts, row_chunks if panels.count else 0, column_chunks,
    )  # fmt: skip


def _even(tiles: Cut, chunks: int) -> Cut:
    """The same with as many tiles in each chunk, if that takes few more."""
    count = -(-tiles.count // max(chunks, 1)) * chunks
    return Cut(tiles.total, 1, count) if count <= MORE_TILES * tiles.count else tiles


def _is_turned(product: Product, lanes: int) -> bool:
    """Whether to compute C^T and turn it over: for that, A lies as it should."""
    m, n, k = product.m, product.n, product.k
    if not product.transpose_a or n == 1:
        return False
    tiles = max(_by_tiles(product, lanes), LEAST_ROW * m * k)
    return n * _row_cost(m, lanes) * k + TURN_COST * m * n < tiles


def _is_dot(product: Product, host: Host, lanes: int) -> bool:
    """Whether to sum along K, as both operands lie, rather than to transpose B."""
    m, n, k = product.m, product.n, product.k
    if not product.transpose_b or product.transpose_a or m > DOT_ROWS:
        return False
    term = DOT_TERM if host.registers < 32 else 1
    return m * n * (term * -(-k // lanes) + DOT_END) < _by_tiles(product, lanes)


def _has_narrow_panels(host: Host) -> bool:
    """Whether A is read often, panel after panel, and a row of a panel is a cache line or less."""
    return _panel_units(TILE_ROWS, host) * host.lanes * 4 <= NARROW_PANEL


def _is_worth_packing_a(product: Product, host: Host) -> bool:
    """Whether to pack an A that lies transposed."""
    apart = _has_narrow_panels(host) and product.lda * product.kind.bytes >= PACKED_A_BYTES
    return (apart or product.a_bytes > LARGE_BYTES) and product.n >= PACKED_A_USES and product.m > 0


def _is_worth_packing_b(product: Product, host: Host, row_chunks: int) -> bool:
    """Whether to pack a B that lies as it is read."""
    least, uses = LARGE_BYTES, PACKED_B_USES
    if _has_narrow_panels(host):
        least, uses = NARROW_BYTES, PANEL_USES if row_chunks == 1 else NARROW_USES
    return product.b_bytes > least and product.m >= uses


def _rest(product: Product, lanes: int) -> int:
    """Columns beyond a first whole vector that are sums along K: then no lane goes unused."""
    rest = product.n - lanes
    worth = product.k >= REST_K and product.m >= REST_ROWS and not product.transpose_a
    return rest if worth and 0 < rest <= lanes // 2 else 0


def _by_tiles(product: Product, lanes: int) -> float:
    """About the multiplications of vectors that take as long as a product, B transposed first."""
    m, n, k = product.m, product.n, product.k
    row = n / lanes + REST_COST if _rest(product, lanes) else _row_cost(n, lanes)
    return m * row * k + (PACK_COST * n * k if product.transpose_b else 0)


def _row_cost(columns: int, lanes: int) -> float:
    """About the multiplications of vectors that take as long as a row of some columns."""
    whole, tail = divmod(columns, lanes)
    vectors = whole + (narrow(tail, lanes) / lanes or min(tail, 1))
    return max(vectors, LEAST_LOADS) if whole and tail else vectors


def _dot_columns(rows: int, registers: int, size: int) -> int:
    """Columns whose sums with all rows fill half the registers; `size` is the bytes of K."""
    most = max(PANEL_VECTORS, DOT_PANEL_BYTES // max(size, 1))
    return min(most, max(registers // 2, DOT_SUMS) // max(rows, 1))


def _panel_units(rows: int, host: Host) -> int:
    """Widest panel whose sums fit in registers beside what LLVM loads for them at a time.

    That is a row of B, which a single row of A takes from memory as it goes; and one factor, but
    with NEON, whose multiplications take none from memory, the factors of all rows.
    """
    factors = rows if host.neon else 1
    fits = [
        w
        for w in range(1, PANEL_VECTORS + 1)
        if rows * w + (w if rows > 1 else 1) + factors < host.registers
    ]
    return max(fits, default=1)


def _parts(product: Product) -> int:
    """Parts of K: a power of two, which any such number of threads shares evenly."""
    least = max(PART_K, PART_RATIO * max(product.m, product.n))
    parts = min(product.k // least, product.flop // CHUNK_FLOP, MOST_PARTS)
    return 1 << (parts.bit_length() - 1) if parts and product.m and product.n else 1


def _useful_chunks(product: Product) -> int:
    """As many pieces of work as are worth sharing out: a power of two, as `_parts`."""
    useful = max(product.flop / CHUNK_FLOP, min(2, product.flop // LEAST_FLOP), 1)
    return min(2 ** round(math.log2(useful)), MANY_CHUNKS)


def _row_chunks(product: Product, tiles: Cut, useful: int) -> int:
    if product.k <= SHORT_K and product.m * product.n * product.kind.bytes > LARGE_BYTES:
        return tiles.count
    rows = CHUNK_ROWS if product.b_bytes > CACHED_BYTES else 1
    chunks = min(tiles.count, max(min(useful, product.m // rows), 1))
    return max(chunks, -(-product.m // (2 * CHUNK_ROWS)))
