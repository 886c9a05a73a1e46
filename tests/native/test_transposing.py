"""Arrays copied transposed, in blocks."""

import ctypes
import mmap

import numpy as np
import pytest

from needle.native import llvm
from needle.native.transposing import BLOCK, transposing
from needle.native.values import F32, F64, I8, I64, PTR, VOID, Type
from needle.native.vectors import Source

DTYPES = {
    F32: np.float32, F64: np.float64, I64: np.int64, Type("i32"): np.int32, Type("i16"): np.int16,
    I8: np.int8,
}  # fmt: skip
WIDTH = 40


def compiled(kind, lanes):
    source = Source(llvm.host(lanes))
    arguments = dict.fromkeys(("from", "to"), PTR)
    arguments |= dict.fromkeys(("rows", "columns", "ld", "width"), I64)
    function = source.function("call", arguments)
    function.body.call(transposing(source, kind), VOID, *function.arguments)
    function.body.ret()
    module = llvm.compile_ir(source.text(), source.host)
    call = module.function("call", None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 4)
    call.module = module
    return call


@pytest.mark.parametrize("lanes", [16, 8, 4])
@pytest.mark.parametrize("kind", DTYPES, ids=str)
def test_every_size_and_nothing_is_read_beyond(kind, lanes):
    dtype, call = np.dtype(DTYPES[kind]), compiled(kind, lanes)
    pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    memory = np.frombuffer(pages, dtype)[: mmap.PAGESIZE // dtype.itemsize]
    protect = ctypes.CDLL(None).mprotect
    second = memory.ctypes.data + mmap.PAGESIZE
    assert protect(ctypes.c_void_p(second), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    for rows in (1, 2, 3, 7, 8, 9, 15, 16, 17, 20):
        for columns in (1, 2, 5, 8, 9, 16, 19):
            source = memory[-rows * columns :].reshape(columns, rows)  # a page ends where it does
            source[...] = np.random.randint(-100, 100, source.shape)
            whole = [-(-size // BLOCK) * BLOCK for size in (rows, columns)]
            target = np.full((24, WIDTH), 77, dtype)
            call(source.ctypes.data, target.ctypes.data, rows, columns, rows, WIDTH)
            np.testing.assert_array_equal(target[:rows, :columns], source.T)
            target[: whole[0], : whole[1]] = 77
            assert (target == 77).all(), "wrote beyond whole blocks"


def test_rows_may_lie_in_any_order():
    source = np.arange(12.0 * 20).reshape(12, 20)
    target = np.empty((16, WIDTH))
    last = source.ctypes.data + 11 * 20 * 8
    compiled(F64, 8)(last, target.ctypes.data, 12, 12, -20, WIDTH)
    np.testing.assert_array_equal(target[:12, :12], source[::-1, :12].T)


def test_bits_are_kept():
    bits = np.arange(64, dtype=np.uint32).reshape(8, 8) + np.uint32(0x7F800001)  # signalling NaNs
    target = np.empty((8, WIDTH), np.uint32)
    compiled(F32, 8)(bits.ctypes.data, target.ctypes.data, 8, 8, 8, WIDTH)
    np.testing.assert_array_equal(target[:, :8], bits.T)
