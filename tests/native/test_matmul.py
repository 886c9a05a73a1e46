"""Matrix products against NumPy in higher precision, within the error bound that follows from K."""

import itertools
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.one_product import CompiledProduct
from needle.native import llvm, matmul_blocking, matmul_product
from needle.native.matmul import Product, emit
from needle.native.matmul_kernels import Dot, Tile, kernel
from needle.native.vectors import F32, F64, PTR, Source

pytest.importorskip("llvmlite")

LANES = [lanes for lanes in (16, 8, 4) if lanes <= llvm.host().lanes]
TRANSPOSED = [(False, False), (True, False), (False, True), (True, True)]
SMALL = {  # limits with which small shapes take every path that large ones take
    "LARGE_BYTES": 0, "PACKED_A_USES": 1, "PACKED_B_USES": 1, "BLOCK_K": 7, "WHOLE_K": 11,
    "CHUNK_FLOP": 200, "CHUNK_ROWS": 9, "PACKED_A_ROWS": 9, "CACHED_BYTES": 0, "PART_K": 5,
    "PART_RATIO": 1, "TURN_COST": 0, "TURNED_VECTORS": 1, "SHORT_K": 9, "NARROW_BYTES": 0,
    "NARROW_USES": 1, "PANEL_USES": 1, "PACKED_A_BYTES": 0,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _no_cache():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEEDLE_CACHE", "0")
        yield


def operands(product, random):
    """A, B as they lie, C of random numbers, and op(A), op(B)."""
    dtype = np.float64 if product.kind == F64 else np.float32
    m, n, k = product.m, product.n, product.k
    shapes = (k, m) if product.transpose_a else (m, k), (n, k) if product.transpose_b else (k, n)
    a, b, c = (random.standard_normal(shape).astype(dtype) for shape in (*shapes, (m, n)))
    return a, b, c, a.T if product.transpose_a else a, b.T if product.transpose_b else b


def assert_close(c, left, right):
    """|error| <= gamma |A| |B|, gamma = n u / (1 - n u) with n = K + 1 roundings (Higham 2002)."""
    exact = left.astype(np.longdouble) @ right.astype(np.longdouble)
    scale = np.abs(left).astype(np.longdouble) @ np.abs(right).astype(np.longdouble)
    roundings = (left.shape[1] + 1) * np.finfo(c.dtype).eps / 2
    bound = roundings / (1 - roundings) * scale
    assert np.all(np.abs(c - exact) <= bound + np.finfo(c.dtype).tiny)


def check(product, host=None, seed=0):
    random = np.random.default_rng(seed)
    a, b, c, left, right = operands(product, random)
    CompiledProduct(product, host)(a, b, c)
    assert_close(c, left, right)


def limit(patch, limits):
    """Cut products as if these were the limits."""
    for name, value in limits.items():
        module = matmul_blocking if hasattr(matmul_blocking, name) else matmul_product
        patch.setattr(module, name, value)


sizes = st.one_of(st.integers(0, 9), st.integers(10, 75))
kinds = st.sampled_from([F32, F64])
products = st.builds(Product, sizes, sizes, sizes, st.booleans(), st.booleans(), kinds)


@given(products, st.sampled_from(LANES), st.integers(0, 99))
def test_any_shape(product, lanes, seed):
    check(product, llvm.host(lanes), seed)


@given(products, st.sampled_from(LANES), st.integers(0, 99))
def test_any_shape_cut_as_if_large(product, lanes, seed):
    with pytest.MonkeyPatch.context() as patch:
        limit(patch, SMALL)
        check(product, llvm.host(lanes), seed)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("transposed", TRANSPOSED)
@pytest.mark.parametrize("shape", [(100, 100, 130), (1, 100, 50), (70, 1, 33), (3, 130, 65)])
def test_shapes_of_layers(shape, transposed, lanes):
    check(Product(*shape, *transposed), llvm.host(lanes))


@pytest.mark.parametrize("transposed", TRANSPOSED)
def test_larger_than_the_cache(transposed):
    product = Product(720, 600, 1030, *transposed)
    plan = matmul_blocking.blocking(product, llvm.host())
    assert plan.blocks > 1
    assert plan.packed_b
    random = np.random.default_rng(1)
    a, b, c, left, right = operands(product, random)
    CompiledProduct(product)(a, b, c)
    some = random.integers(0, 720, 20)  # long double is slow
    assert_close(c[some], left[some], right)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("transposed", TRANSPOSED)
def test_bits_do_not_depend_on_who_computes_a_chunk(transposed, small, monkeypatch):
    limit(monkeypatch, SMALL if small else {"CHUNK_FLOP": 2_000})
    product = Product(53, 130, 61, *transposed)
    a, b, c, *_ = operands(product, np.random.default_rng(2))
    multiply = CompiledProduct(product)
    assert multiply.phases[-1].chunks > 3
    whole = multiply(a, b, c).copy()

    def scattered(count):
        return [(i, i + 1) for i in np.random.default_rng(3).permutation(count).tolist()]

    assert multiply(a, b, c, chunks=scattered).tobytes() == whole.tobytes()
    c[:] = 0
    multiply._scratch[:] = np.nan
    with ThreadPoolExecutor(3) as pool:
        calls = iter(multiply.bind(a, b, c, chunks=scattered))
        for phase in multiply.phases:
            list(pool.map(lambda call: call(), itertools.islice(calls, phase.chunks)))
    assert c.tobytes() == whole.tobytes()


@pytest.mark.parametrize("transposed", TRANSPOSED)
@pytest.mark.parametrize("shape", [(16, 24), (4, 4), (1, 1), (8, 1), (1, 8), (40, 20), (100, 50)])
def test_the_error_of_long_products_is_that_of_blocks(shape, transposed):
    """A tenth times a tenth: all roundings of a sum go the same way, as long as it is in reach."""
    k = 100_003
    product = Product(*shape, k, *transposed)
    a, b, c, _, _ = operands(product, np.random.default_rng(0))
    a[:] = b[:] = 0.1
    CompiledProduct(product)(a, b, c)
    np.testing.assert_allclose(c, k * float(np.float32(0.1)) ** 2, rtol=2e-5)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("transposed", TRANSPOSED)
@pytest.mark.parametrize("shape", [(9, 21, 19), (2, 21, 19), (9, 1, 19)])
def test_nan_and_infinity_as_in_numpy(shape, transposed, lanes):
    product = Product(*shape, *transposed)
    a, b, c, left, right = operands(product, np.random.default_rng(4))
    left[0, 3], right[5, 0], left[-1, 2] = np.nan, np.inf, -np.inf
    right[2, -1] = 0.0
    CompiledProduct(product, llvm.host(lanes))(a, b, c)
    with np.errstate(invalid="ignore"):
        expected = left.astype(np.float64) @ right.astype(np.float64)
    finite = np.isfinite(expected)
    assert np.array_equal(np.isnan(c), np.isnan(expected))
    assert np.array_equal(c[~finite], expected[~finite].astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("shape", [(23, 37, 11), (3, 37, 40), (37, 1, 11), (8, 5, 0)])
def test_epilogue_sees_row_column_and_mask(shape, kind, lanes):
    m, n, k = shape

    def epilogue(b, acc, row, col, mask, bias, residual):
        acc = acc + b.load(bias, acc.type, col, mask=mask)
        acc = b.maximum(acc, 0.0)
        return acc + b.load(residual, acc.type, row * n + col, mask=mask)

    product = Product(m, n, k, transpose_b=True, kind=kind)
    random = np.random.default_rng(5)
    a, b, c, left, right = operands(product, random)
    bias, residual = (random.standard_normal(s).astype(c.dtype) for s in (n, (m, n)))
    further = {"bias": PTR, "residual": PTR}
    multiply = CompiledProduct(product, llvm.host(lanes), epilogue, further)
    multiply(a, b, c, bias, residual)
    expected = np.maximum(left.astype(np.longdouble) @ right + bias, 0) + residual
    scale = np.abs(left) @ np.abs(right) + np.abs(bias) + np.abs(residual)
    assert np.all(np.abs(c - expected) <= (k + 4) * np.finfo(c.dtype).eps * scale)


TURNED = [(5, 7, 40), (16, 100, 100), (20, 300, 60), (16, 17, 2048), (2, 9, 33), (3, 2, 0)]


@pytest.fixture
def _any_is_turned(monkeypatch):
    monkeypatch.setattr(matmul_blocking, "TURN_COST", -1000)


def turned(shape, **further):
    """A product whose C^T is computed and turned over."""
    product = Product(*shape, transpose_a=True, transpose_b=True, **further)
    assert matmul_blocking.blocking(product, llvm.host()).turned
    return product


@pytest.mark.parametrize("n", [2, 4, 8, 12])
@pytest.mark.parametrize(("k", "m"), [(100, 784), (1000, 50), (256, 64)])
def test_a_transposed_factor_of_few_columns_is_read_along_its_rows(k, m, n):
    assert matmul_blocking.blocking(Product(m, n, k, transpose_a=True), llvm.host(16)).turned


@pytest.mark.usefixtures("_any_is_turned")
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("shape", TURNED)
def test_of_two_transposed_operands_c_is_turned_over(shape, kind, lanes):
    check(turned(shape, kind=kind), llvm.host(lanes))


@pytest.mark.usefixtures("_any_is_turned")
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("shape", TURNED[:4])
def test_epilogue_sees_c_turned_over(shape, lanes):
    _, n, k = shape

    def epilogue(b, acc, row, col, mask, bias, residual):
        acc = b.maximum(acc + b.load(bias, acc.type, col, mask=mask), 0.0)
        return acc + b.load(residual, acc.type, row * n + col, mask=mask)

    random = np.random.default_rng(7)
    product = turned(shape, kind=F64)
    a, b, c, left, right = operands(product, random)
    bias, residual = random.standard_normal(n), random.standard_normal(shape[:2])
    further = {"bias": PTR, "residual": PTR}
    multiply = CompiledProduct(product, llvm.host(lanes), epilogue, further)
    assert (matmul_blocking.blocking(product, llvm.host(lanes)).parts > 1) == (k > 1000)
    multiply(a, b, c, bias, residual)
    expected = np.maximum(left @ right + bias, 0) + residual
    np.testing.assert_allclose(c, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("columns", [(1, 30), (30, 1)])
def test_a_column_is_read_as_a_row(columns):
    m, n = columns
    product = Product(m, n, 50, transpose_a=m == 1)
    assert matmul_blocking.blocking(product, llvm.host()).pack_chunks == 0
    check(product)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("rows", [3, 30])
def test_sums_along_k_of_any_number_of_columns(rows, kind, lanes, monkeypatch):
    monkeypatch.setattr(matmul_blocking, "DOT_END", -1000)
    for columns in (1, 5, 16, 19):
        product = Product(rows, columns, 37, transpose_b=True, kind=kind)
        assert matmul_blocking.blocking(product, llvm.host(lanes)).dot
        check(product, llvm.host(lanes), seed=columns)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_columns_beyond_a_vector_are_sums_along_k(transpose_b, kind, lanes):
    host = llvm.host(lanes)
    lanes = lanes // (2 if kind == F64 else 1)
    for rest in {1, lanes // 2}:
        for m, k in ((16, 32), (53, 45), (300, 2100)):
            n = lanes + rest
            product = Product(m, n, k, False, transpose_b, kind)
            plan = matmul_blocking.blocking(product, host)
            assert plan.dot or plan.rest == rest
            check(product, host)


def test_a_large_c_of_few_products_is_written_row_by_row():
    long, short = (matmul_blocking.blocking(Product(900, 700, k), llvm.host()) for k in (97, 96))
    assert short.row_chunks == short.tiles.count > long.row_chunks
    assert short.column_chunks == 1
    check(Product(900, 700, 9))


def test_batch_is_a_loop_over_pointers():
    random = np.random.default_rng(6)
    a, b = random.standard_normal((4, 7, 9)), random.standard_normal((4, 9, 5))
    multiply = CompiledProduct(Product(7, 5, 9, kind=F64))
    c = np.stack([multiply(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(c, a @ b, rtol=1e-13, atol=1e-13)


GUARDED = """
import ctypes, mmap
import numpy as np
from benchmarks.one_product import CompiledProduct
from needle.native.llvm import host
from needle.native.matmul import Product

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None)

def guarded(shape, at_end):
    size = 4 * shape[0] * shape[1]
    inside = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, inside + 2 * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (base, base + PAGE + inside):
        assert libc.mprotect(ctypes.c_void_p(page), PAGE, 0) == 0
    start = PAGE + (inside - size if at_end else 0)
    return np.frombuffer(memory, np.float32, shape[0] * shape[1], start).reshape(shape)

SHAPES = [
    (7, 21, 13), (2, 3, 5), (1, 50, 3), (13, 100, 9), (20, 1, 9), (5, 130, 33), (9, 37, 20),
    (19, 5, 33), (19, 11, 33), (19, 21, 33),
]
for lanes in LANES:
    for m, n, k in SHAPES:
        for ta in (False, True):
            for tb in (False, True):
                multiply = CompiledProduct(Product(m, n, k, ta, tb), host(lanes))
                for at_end in (False, True):
                    a = guarded((k, m) if ta else (m, k), at_end)
                    b = guarded((n, k) if tb else (k, n), at_end)
                    a[:], b[:] = 1, 2
                    c = multiply(a, b, guarded((m, n), at_end))
                    assert np.all(c == 2 * k)
print("inside")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
def test_no_access_outside_the_operands():
    script = f"LANES = {LANES}{GUARDED}"
    command, root = [sys.executable, "-c", script], Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "inside\n"


def test_products_share_kernels():
    source = Source(llvm.host())
    emit(source, Product(100, 100, 784), "first")
    count = source.text().count("define internal")
    emit(source, Product(204, 200 if llvm.host().lanes < 16 else 212, 50), "second")
    assert source.text().count("define internal") <= count + 2
    llvm.compile_ir(source.text(), source.host)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 3000), st.booleans())
def test_plan_covers_everything_once(m, n, k, transpose_b):
    plan = matmul_blocking.blocking(Product(m, n, k, transpose_b=transpose_b), llvm.host())
    for cut, total in ((plan.tiles, plan.product.m), (plan.panels, plan.product.n - plan.rest)):
        ends = [cut.start(i) for i in range(cut.count + 1)]
        assert ends[0] == 0
        assert ends[-1] == total
        sizes = np.diff(ends)
        assert set(sizes[:-1]) <= {cut.size * cut.unit, (cut.size + 1) * cut.unit}
        assert 0 < sizes[-1] <= cut.longest * cut.unit
    assert 1 <= plan.row_chunks <= plan.tiles.count
    assert 1 <= plan.column_chunks <= plan.panels.count


@pytest.mark.parametrize("n", [9, 17, 50, 100, 15])
@pytest.mark.parametrize("k", [20, 2100])
def test_narrow_vectors_need_no_mask_for_the_last_columns(n, k):
    """The last vector lies over the end of the one before, be it in a product or in its blocks."""
    host = llvm.host(8)
    for transposed in TRANSPOSED:
        check(Product(13, n, k, *transposed), host)
    if n in (50, 100) and k == 20:
        source = Source(host)
        emit(source, Product(13, n, k), "product")
        tiles = [part for part in source.text().split("define ") if "@matmul.tile" in part[:40]]
        assert tiles
        assert not any("masked" in tile for tile in tiles)


@pytest.mark.parametrize(("lanes", "packed"), [(8, True), (16, False)])
def test_a_panel_that_is_narrow_is_packed_sooner(lanes, packed):
    if lanes not in LANES:
        pytest.skip("needs wider vectors")
    product = Product(256, 512, 784)
    assert matmul_blocking.blocking(product, llvm.host(lanes)).packed_b == packed


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("transpose_b", [False, True])
def test_panels_of_a_large_factor_are_packed_by_the_chunk_that_reads_them(transpose_b, lanes):
    product = Product(140, 333, 1300, transpose_b=transpose_b)
    cut = matmul_blocking.blocking(product, llvm.host(lanes))
    assert cut.packs_panels == (lanes < 16 or transpose_b)
    assert cut.pack_chunks == 0
    assert cut.blocks > 1
    check(product, llvm.host(lanes))


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("kind", [F32, F64])
@pytest.mark.parametrize("rows", [256, 257, 300, 391])
def test_a_transposed_factor_of_long_rows_is_packed(rows, kind, lanes):
    product = Product(rows, 75, 41, transpose_a=True, kind=kind)
    assert matmul_blocking.blocking(product, llvm.host(lanes)).packed_a == (lanes < 16)
    check(product, llvm.host(lanes))


SPILLED = re.compile(r"mm\d+.*\(%rsp|\(%rsp.*mm\d+|\b[dqsv]\d+\b.*\[sp")


def spilled(shape, host):
    """The lines of the inner loops of a kernel in which vectors are in memory for want of room."""
    source = Source(host)
    kernel(source, shape, F32)
    text = source.text().replace("define internal", "define")
    assembly = llvm.compile_ir(text, host).assembly()
    loops = re.findall(r"^(\.?L\w+):\n((?:\t.*\n)*?)\t(?:b\.|j)\w+\s+\1$", assembly, re.MULTILINE)
    bodies = [body for _, body in loops if re.search(r"\t(fmla|vfmadd|mulps)", body)]
    assert bodies
    return [line for body in bodies for line in body.splitlines() if SPILLED.search(line)]


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("rows", range(1, 7))
@pytest.mark.parametrize("lanes", LANES)
def test_the_widest_panel_leaves_registers_for_what_is_multiplied(lanes, rows, across):
    """On x86 an operand may come from memory; with NEON none does."""
    host = llvm.host(lanes)
    panels = matmul_blocking.blocking(Product(rows, 840 * lanes, 64), host).panels
    assert not spilled(Tile(rows, panels.longest, across, False), host)


@pytest.mark.parametrize("columns", range(1, 9))
@pytest.mark.parametrize("lanes", LANES)
def test_sums_along_k_stay_in_registers(lanes, columns):
    if columns <= lanes // 2:
        assert not spilled(Dot(10, columns), llvm.host(lanes))


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(
    ("host", "rows", "vectors", "last"),
    [(16, 6, 4, 0), (16, 6, 4, 8), (16, 6, 4, 2), (16, 5, 5, 0), (8, 6, 2, 0), (8, 6, 2, -1)],
)
def test_all_sums_of_a_tile_stay_in_registers(host, rows, vectors, last, across, block):
    """Spilled sums cost a fifth of the speed, and nothing else shows them."""
    if llvm.host().lanes < 16:
        pytest.skip("the tiles are made for AVX-512 and for its kin with narrower vectors")
    source = Source(llvm.host(host))
    shape = Tile(rows, vectors, across, False, max(last, 0), block, moved=last < 0)
    kernel(source, shape, F32)
    text = source.text().replace("define internal", "define")
    lines = llvm.compile_ir(text, source.host).assembly().splitlines()
    inside = [i for i, line in enumerate(lines) if "vfmadd" in line]
    begin = max(i for i in range(inside[0]) if lines[i].endswith(":"))
    loop = lines[begin : inside[-1]]
    assert not [line for line in loop if "%rsp" in line]
