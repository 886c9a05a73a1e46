"""Matrix products: where they are made, and which of them are one."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.jit.kernels import Product
from needle.jit.products import Shapes
from needle.native import llvm, threads
from needle.ops.contraction import MatMul
from tests.compiler.stages import compiled, expect_numpy


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("inner", [0, 5, 3000])
def test_a_product_is_made_where_it_is_handed_out(batch, inner, rng):
    def f(x, w):
        y = x @ w
        return y, y, y.tanh()

    x, w = (ndl.Tensor(rng.standard_normal(s)) for s in ((*batch, 7, inner), (*batch, inner, 9)))
    expect_numpy(f, x, w, rtol=1e-11)
    program = compiled(lambda x, w: x @ w, x, w)
    assert [work.made for work in program.fused.all_works] == [program.results]


@pytest.mark.parametrize(
    "shapes", [((3, 4, 5), (5, 6)), ((2, 3, 4, 5), (1, 5, 6)), ((3, 1, 5), (5, 6))]
)
def test_batches_of_rows_that_meet_one_matrix_are_one_product(shapes, rng):
    x, w = (ndl.Tensor(rng.standard_normal(shape)) for shape in shapes)
    for f in (lambda x, w: x @ w, lambda x, w: (x @ w).tanh() @ w.transpose()):
        expect_numpy(f, x, w, rtol=1e-12)
        for work in compiled(f, x, w).fused.works:
            if isinstance(work, Product):
                found = Shapes(work.node)
                assert (found.batches, found.product.m) == (1, x.size // 5)


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
def test_batches_of_columns_that_meet_one_matrix(batch, rng):
    x, w = (ndl.Tensor(rng.standard_normal(shape)) for shape in ((*batch, 5, 4), (5, 6)))
    expect_numpy(lambda x, w: x.transpose() @ w, x, w, rtol=1e-12)
    expect_numpy(lambda x, w: w.transpose() @ x, x, w, rtol=1e-12)


def handed_out(program):
    """The values that are made where they are handed out, and all others."""
    made = [node for work in program.fused.all_works for node in work.made]
    results = set(program.fused.results.values())
    return [node for node in made if node in results], [n for n in made if n not in results]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, v: (x @ w).reshape((3, 4, 9)),
        lambda x, w, v: (x @ w).reshape((9, 12)).reshape((1, 108)),
        lambda x, w, v: ndl.matmul(x, v),
        lambda x, w, v: ndl.concatenate([x, x], 1).reshape((6, 28)),
        lambda x, w, v: (x * 2).tanh().reshape((3, 4, 7)),
        lambda x, w, v: x.transpose().reshape((6, 14)),
        lambda x, w, v: w.reshape((9, 7)),
    ],
)
@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_what_is_reshaped_is_made_where_it_is_handed_out(function, lanes, rng):
    tensors = [ndl.Tensor(rng.standard_normal(s)) for s in ((12, 7), (7, 9), (7,))]
    expect_numpy(function, *tensors, rtol=1e-12, host=llvm.host(lanes))
    results, others = handed_out(compiled(function, *tensors))
    assert len(results) == 1
    assert not others


def test_a_product_that_is_handed_out_in_several_shapes(rng):
    def f(x, w):
        y = x @ w
        flat = y.reshape((-1,))
        return (
            flat,
            y,
            y.reshape((9, 12)),
            flat,
            y.tanh().reshape((9, 12)),
            y.sum(0).reshape((3, 3)),
        )

    x, w = (ndl.Tensor(rng.standard_normal(s)) for s in ((12, 7), (7, 9)))
    expect_numpy(f, x, w, rtol=1e-12)
    results, others = handed_out(compiled(f, x, w))
    assert [(node.op.name, node.specs().shape) for node in others] == [("summation", (9,))]
    assert [node.specs().shape for node in results if isinstance(node.op, MatMul)] == [(12, 9)]


def test_a_reshaped_product_that_is_kept_used_and_given_by_any_number_of_threads(rng):
    """State of another shape than the product, which a copy overwrites at the end."""
    kept = ndl.Tensor(np.zeros((40, 30, 60)), requires_grad=False)
    holder = ndl.nn.Module()

    @ndl.jit(warmup=0)
    def f(x, w):
        y = (x @ w).reshape((40, 30, 60))
        kept.data = y
        holder.last = y
        return y, y.sum(2)

    x, w = (ndl.Tensor(rng.standard_normal(s), requires_grad=False) for s in ((1200, 50), (50, 60)))
    f(x, w)  # makes the attribute
    found = []
    try:
        for count in (1, 2):
            threads.set_threads(count)
            found.append([*f(x, w), kept.detach(), holder.last])
    finally:
        threads.set_threads(None)
    expected = (x.numpy() @ w.numpy()).reshape((40, 30, 60))
    for y, sums, *places in found:
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(sums.numpy(), expected.sum(2), rtol=1e-11, atol=1e-11)
        for place in places:
            np.testing.assert_array_equal(place.numpy(), y.numpy())
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
