"""Matrix products: where they are made, and which of them are one."""

from __future__ import annotations

import pytest

import needle as ndl
from needle.jit.kernels import Product
from needle.jit.products import Shapes
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
