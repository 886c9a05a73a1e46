"""Matrix products: what `native` needs to know of one.

A product reads transposed operands as they lie, and is applied batch by batch::

    before                                  after

    %2 = Transpose(-1, -2) %1               Product(m=4, n=3, k=5, b transposed), 2 batches:
    %3 = MatMul %0 %2                       %0 + 20·batch, %1 + 15·batch, %3 + 12·batch
         (2, 4, 5) @ (2, 5, 3)

Where all batches of rows meet one matrix, (2, 4, 5) @ (5, 3), they are the rows of one product, of
m=8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ...graph.node import Node
from ...native import matmul
from ...native.llvm import Host
from ...native.matmul_blocking import blocking
from ...native.matmul_product import Blocking
from ...native.values import F32, F64, I64, Value
from ...native.vectors import Builder
from ...shapes import Shape
from .access import address, loops_of, own_index, repeated, size_of, spec
from .expression import UnsupportedError, is_one_product, untransposed
from .kernels import Product
from .symbols import FLOAT32, FLOAT64

_KINDS = {FLOAT32: F32, FLOAT64: F64}


class NativeProduct:
    """A matrix product as `native` describes it.

    Attributes:
        operands: What is read.
        batches: How many products of two axes there are.
        product: One of them.
    """

    def __init__(self, node: Node) -> None:
        shape, dtype = spec(node)
        dtypes = {spec(child).dtype for child in node.inputs}
        if dtypes != {dtype} or dtype not in _KINDS:
            names = " and ".join(sorted(map(str, dtypes)))
            raise UnsupportedError(f"there is no native code for matmul of {names}")
        self.operands = [untransposed(child) for child in node.inputs]
        swapped = [untransposed(child) is not child for child in node.inputs]
        left, right = (spec(child).shape for child in node.inputs)
        is_one = is_one_product(node)
        m = size_of(shape[:-1]) if is_one else shape[-2]
        self._batch: Shape = () if is_one else shape[:-2]
        self._shapes = (left, right, shape)
        self.batches = size_of(self._batch)
        self.product = matmul.Product(m, shape[-1], left[-1], swapped[0], swapped[1], _KINDS[dtype])

    def cut(self, host: Host) -> Blocking:
        """How one of them is cut."""
        return _cut(self.product, host)

    def in_batch(self, b: Builder, pointers: Sequence[Value], batch: Value) -> list[Value]:
        """Pointers to A, B, C and scratch memory, moved from those of batch 0 to those of one."""
        kind, index = self.product.kind, own_index(self._batch)
        places = b.digits(batch, loops_of(self._batch))
        moves = [b.constant(0, I64) for _ in self._shapes]
        for k, shape in enumerate(self._shapes):
            outer, matrix = shape[:-2], size_of(shape[-2:])
            strides = address(repeated(index, outer), outer, len(places))[1]
            for place, stride in zip(places, strides, strict=True):
                moves[k] = moves[k] + place * (stride * matrix) if stride else moves[k]
        moves.append(batch * self.cut(b.host).scratch)
        return [b.offset(p, kind, move) for p, move in zip(pointers, moves, strict=True)]


def scratch_size(work: Product, host: Host) -> int:
    """Bytes of scratch memory of a matrix product."""
    native = NativeProduct(work.node)
    return native.cut(host).scratch * spec(work.node).dtype.itemsize * native.batches


_cut = lru_cache(1024)(blocking)
