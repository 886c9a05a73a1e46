"""Compiled code writes its results, and nothing beside them."""

import numpy as np
import pytest

import needle as ndl
from needle.jit.compiler import native_executor

GUARD = 64


@pytest.mark.parametrize("n", [1, 3, 5, 9, 16, 17, 33])
@pytest.mark.parametrize("source", ["int16", "int32", "int64", "float32"])
@pytest.mark.parametrize("narrow", ["int8", "uint8", "int16", "bool", "float32"])
def test_narrowed_rows_end_where_they_end(source, narrow, n, monkeypatch):
    blocks = []

    def guarded(shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        blocks.append(np.full(size + 2 * GUARD, 0xA5, np.uint8))
        return blocks[-1][GUARD : GUARD + size].view(dtype).reshape(shape)

    monkeypatch.setattr(native_executor, "_empty", guarded)
    x = np.random.RandomState(n).randint(-5, 6, (3, n)).astype(source)
    step = ndl.jit(lambda x: (x.astype(narrow), x.max(1)), warmup=0)
    rows, largest = step(ndl.Tensor(x, requires_grad=False))
    np.testing.assert_array_equal(rows.numpy(), x.astype(narrow))
    np.testing.assert_array_equal(largest.numpy(), x.max(1))
    for block in blocks:
        assert (block[:GUARD] == 0xA5).all()
        assert (block[-GUARD:] == 0xA5).all()
