"""Matrix products: where they are made, and which of them are one."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import needle as ndl
from needle.jit.compiler.kernels import Product
from needle.jit.compiler.products import NativeProduct
from needle.native import llvm, threads
from needle.ops.contraction import MatMul
from needle.ops.creation import Full
from tests.compiler.stages import compiled, expect_numpy, simplified


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
                found = NativeProduct(work.node)
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


EQUAL = [
    lambda x, w, n: x @ ndl.init.constant(7, 5, c=n, dtype=x.dtype),
    lambda x, w, n: ndl.init.constant(5, 7, c=n, dtype=w.dtype) @ w,
    lambda x, w, n: ndl.init.constant(2, 1, 5, 7, c=n, dtype=w.dtype) @ w,
    lambda x, w, n: x @ ndl.init.constant(2, 1, 5, 7, c=n, dtype=x.dtype).transpose(),
    lambda x, w, n: ndl.init.constant(7, 12, c=n, dtype=w.dtype) @ (x @ w),
    lambda x, w, n: ndl.grad(lambda x, w: (x @ w).sum() * n, (0, 1))(x, w),
    lambda x, w, n: ndl.grad(lambda w: ((x @ w) @ x[:7, :]).mean() * n)(w),
    lambda x, w, n: ndl.matmul(x, ndl.init.constant(7, c=n, dtype=x.dtype)),
]


@pytest.mark.parametrize("function", EQUAL)
@pytest.mark.parametrize("number", [0.0, 1.0, 0.25, np.nan, np.inf])
@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_a_product_with_equal_numbers_is_sums(function, number, lanes, rng):
    for dtype, rtol in (np.float32, 1e-5), (np.float64, 1e-13):
        tensors = [ndl.Tensor(rng.standard_normal(s).astype(dtype)) for s in ((12, 7), (7, 7))]
        f = functools.partial(function, n=number)
        with np.errstate(invalid="ignore"):
            expect_numpy(f, *tensors, rtol=rtol, host=llvm.host(lanes))
        for node in simplified(f, *tensors).nodes:
            assert not any(isinstance(child.op, Full) for child in node.inputs)


@pytest.mark.parametrize("number", [0.0, 1.0, -1e-30])
def test_a_product_with_equal_numbers_of_infinities_and_nan(number, rng):
    values = rng.standard_normal((8, 7)).astype(np.float32)
    values[0, 0], values[1, 0], values[2, :2], values[3] = np.inf, np.nan, (np.inf, -np.inf), 3e38
    with np.errstate(invalid="ignore", over="ignore"):
        expect_numpy(lambda x: x @ ndl.init.constant(7, 3, c=number), ndl.Tensor(values), rtol=1e-5)
        expect_numpy(
            lambda x: ndl.init.constant(3, 7, c=number) @ x.transpose(),
            ndl.Tensor(values), rtol=1e-5,
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(0, 7), (3, 0), (0, 0)])
def test_an_empty_product_with_equal_numbers(shape):
    x = ndl.Tensor(np.zeros(shape))
    ones = functools.partial(ndl.init.ones, dtype="float64")
    expect_numpy(lambda x: x @ ones(shape[1], 5), x, rtol=0)
    expect_numpy(lambda x: ones(5, shape[0]) @ x, x, rtol=0)


@pytest.mark.parametrize("lanes", [16, 8, 4])
@pytest.mark.parametrize("shape", [(0, 1, 5), (0, 7, 5), (3, 0, 5), (3, 1, 0), (0, 1, 0)])
def test_an_empty_product_of_two_transposed_matrices(shape, lanes):
    m, n, k = shape
    a, b = ndl.init.ones(k, m), ndl.init.ones(n, k)
    expect_numpy(lambda a, b: a.T @ b.T, a, b, rtol=1e-6, host=llvm.host(lanes))


def test_a_product_with_equal_numbers_of_another_dtype_stays():
    x = ndl.Tensor(np.ones((3, 4), np.float32))
    double = ndl.jit(lambda x: x @ ndl.init.ones(4, 2, dtype="float64"), warmup=0)
    assert double(x).dtype == np.float64
    whole = ndl.jit(lambda x: x @ ndl.init.ones(4, 2, dtype="int64"), warmup=0)
    count = ndl.Tensor(np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(whole(count).numpy(), count.numpy() @ np.ones((4, 2), int))


def test_the_gradient_of_the_sum_of_a_product_by_any_number_of_threads(rng):
    x, w = (ndl.Tensor(rng.standard_normal(s)) for s in ((3, 400, 500), (500, 60)))
    found = []
    try:
        for count in (1, 2):
            threads.set_threads(count)
            gradient = ndl.jit(ndl.grad(lambda x, w: (x @ w).sum(), (0, 1)), warmup=0)
            found.append(gradient(x, w))
    finally:
        threads.set_threads(None)
    rows, columns = w.numpy().sum(1), x.numpy().sum((0, 1))
    for x_grad, w_grad in found:
        np.testing.assert_allclose(x_grad.numpy(), np.broadcast_to(rows, x.shape), rtol=1e-10)
        expected = np.broadcast_to(columns[:, None], w.shape)
        np.testing.assert_allclose(w_grad.numpy(), expected, rtol=1e-9)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_sums_over_no_batches(batch):
    a, b = ndl.Tensor(np.ones((*batch, 5, 4))), ndl.Tensor(np.ones((*batch, 4, 3)))
    last = len(batch) + 1
    for axes, shape in ((None, ()), ((*range(len(batch)), last), (5,))):
        compiled = ndl.jit(lambda a, b, axes=axes: (a @ b).sum(axes), warmup=0)
        np.testing.assert_array_equal(compiled(a, b).numpy(), np.zeros(shape))
