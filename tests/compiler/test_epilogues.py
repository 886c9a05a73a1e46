"""Epilogues of matrix products: what joins them, and what it computes."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.errors import CompileError
from needle.jit.compiler import fuse
from needle.jit.compiler.kernels import Product
from needle.jit.compiler.native_executor import NativeExecutor
from needle.native import llvm, threads
from tests.compiler.stages import compiled, expect_numpy, functions, traced


def repeated(values, like):
    return values.broadcast_to(like.shape)


def layer(x, w, b):
    return ndl.affine(x, w, b).relu()


def gated(x, w, b):
    """A residual, masks, what the columns say and where they are, and what is in between."""
    y = x @ w + repeated(b, x @ w)
    kept = ndl.where(x.greater(0), y.tanh(), y * 0.5)
    column = repeated(ndl.arange(w.shape[1]), x)
    return kept * x + x.exp() + b.take(column, 0) * column, y.sigmoid()


def flat(x, w, b):
    """The rows made one by hand, and batches again after the product."""
    *batch, columns = x.shape
    y = (x.reshape((-1, columns)) @ w).reshape((*batch, w.shape[1]))
    return (y + repeated(b, y)).tanh() * x, y


def flat_until_late(x, w, b):
    """Batches again in the middle of what is done with the product."""
    *batch, columns = x.shape
    y = x.reshape((-1, columns)) @ w
    y = (y + repeated(b, y)).exp()
    return y, y.reshape((*batch, w.shape[1])).tanh() * x


SHAPES = [(3, 7), (2, 3, 7), (3, 1, 7), (2, 1, 3, 4, 7), (3, 40, 50), (2, 256, 100), (0, 3, 7)]


def operands(rng, shape, dtype=np.float32):
    n = shape[-1]
    shapes = (shape, (n, n), (n,))
    return [ndl.Tensor(rng.standard_normal(s).astype(dtype) / max(n, 1) ** 0.5) for s in shapes]


def epilogues(program):
    return [list(work.steps) for work in program.fused.works if isinstance(work, Product)]


@pytest.mark.parametrize("function", [layer, gated, flat, flat_until_late])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_every_width_and_every_shape(function, shape, lanes, rng):
    expect_numpy(function, *operands(rng, shape), rtol=1e-5, host=llvm.host(lanes))


@pytest.mark.parametrize("function", [layer, gated, flat, flat_until_late])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 256, 100), (5, 5, 400)])
def test_any_number_of_threads_gives_the_same_bits(function, shape, rng):
    tensors = operands(rng, shape, np.float64)
    results = []
    try:
        for count in (1, 2, 3):
            threads.set_threads(count)
            _, arrays = traced(function, *tensors)
            executor = NativeExecutor(compiled(function, *tensors))
            for place, array in enumerate(arrays):
                executor.bind(place, array)
            results.append(executor())
    finally:
        threads.set_threads(None)
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
    expect_numpy(function, *tensors, rtol=1e-12)


@pytest.mark.parametrize("function", [layer, gated, flat])
@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 7), (2, 1, 3, 4, 7)])
def test_rows_of_batches_are_one_product_with_its_epilogue(function, shape, rng):
    program = compiled(function, *operands(rng, shape))
    product = next(work for work in program.fused.works if isinstance(work, Product))
    made = set(program.fused.results.values())
    assert made <= {*product.made}


def test_an_epilogue_is_printed_with_its_own_loops(rng):
    tensors = operands(rng, (2, 3, 7))
    assert str(ndl.explain(flat, *tensors).kernels).splitlines() == [
        "# phase1, level 1: for each (i < 6, j < 7), Σ over k < 7",
        "a1[i, j] = Σ x0.reshape(6, 7)[i, k] * x1[k, j]",
        "a2[i, j, k] = tanh(a1.reshape(2, 3, 7)[i, j, k] + x2[k]) * x0[i, j, k]",
    ]


def test_batches_and_rows_of_one_product_share_its_code(rng):
    x, w, b = operands(rng, (2, 3, 8))

    def f(x, y, w, b):
        return layer(x, w, b), layer(y, w, b)

    program = compiled(f, x, x.reshape((6, 8)), w, b)
    assert len([name for name in functions(program.emitted.ir) if name.startswith("product")]) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, b: x @ w + repeated(x.sum((1, 2), keepdims=True), x),  # one number a batch
        lambda x, w, b: x @ w + repeated(x[0], x),  # the same rows for each batch
        lambda x, w, b: x @ w + x[::-1],
        lambda x, w, b: x @ w + (x @ w)[::-1],
        lambda x, w, b: x @ w + (x @ w).permute((1, 0, 2)).reshape(x.shape),
        lambda x, w, b: (x @ w).exp() + (x @ w).exp().permute((1, 0, 2)).reshape(x.shape),
        lambda x, w, b: (x @ w).reshape((2, 21)) + x.reshape((2, 21)),  # other columns
        lambda x, w, b: (x @ w).reshape((2, 7, 3)) + x.reshape((2, 7, 3)),
        lambda x, w, b: x @ w + repeated(ndl.arange(2).reshape((2, 1, 1)), x),
        lambda x, w, b: x @ w + repeated(ndl.arange(3).reshape((1, 3, 1)), x),
        lambda x, w, b: x.transpose() @ x + repeated(b, x.transpose() @ x),  # real batches
        lambda x, w, b: x @ w[:, :1] + repeated(b[:1], x[:, :, :1]),  # one column
    ],
)
@pytest.mark.parametrize("lanes", [16, 4])
def test_what_does_not_go_on_from_batch_to_batch_waits(function, lanes, rng):
    tensors = operands(rng, (2, 3, 7))
    assert not any(node for found in epilogues(compiled(function, *tensors)) for node in found[1:])
    expect_numpy(function, *tensors, rtol=1e-5, host=llvm.host(lanes))


def test_an_epilogue_that_has_other_rows(rng):
    x, w, b = operands(rng, (2, 3, 7))
    fused = compiled(layer, x, w, b).fused
    fuse.verify(fused)
    other = compiled(lambda x, w, b: x @ w + repeated(x[0], x), x, w, b).fused
    product, kernel = other.works
    product.steps = kernel.steps
    other.works.remove(kernel)
    with pytest.raises(CompileError, match="does not follow the rows of its product"):
        fuse.verify(other)
