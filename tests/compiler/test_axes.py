"""Axes that are put in order: once instead of several times, and not at all before a product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle.jit.compiler.kernels import Product
from tests.compiler.stages import compiled, expect_numpy, simplified

ones = ndl.init.ones


def orders(graph):
    return [node.op for node in graph.nodes if isinstance(node.op, ndl.Permute | ndl.Transpose)]


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x.permute((0, 2, 1)) * 2, ["Transpose"]),
        (lambda x: x.transpose((0, 2)) * 2, ["Permute"]),
        (lambda x: x.transpose().permute((2, 0, 1)) * 2, ["Permute"]),
        (lambda x: x.T.T * 2, []),
        (lambda x: x.permute((0, 1, 2)) * 2, []),
        (lambda x: x.transpose((0, 1)).permute((1, 0, 2)) * x, []),
        (lambda x: x.permute((0, -1, 1)) + x.transpose(), ["Transpose"]),
    ],
)
def test_what_is_left(function, found):
    graph = simplified(function, ones(3, 3, 3))
    assert [type(op).__name__ for op in orders(graph)] == found


@given(data=st.data())
def test_several_orders_are_one(data):
    ndim = data.draw(st.integers(1, 4))
    shape = tuple(range(2, 2 + ndim))
    order = st.permutations(range(ndim)).map(tuple)
    steps = data.draw(st.lists(order, max_size=4))
    pair = data.draw(st.tuples(*[st.integers(-ndim, ndim - 1)] * 2))
    x = ndl.Tensor(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))

    def f(x):
        for axes in steps:
            x = x.permute(axes).transpose(pair)
        return x * 2

    expect_numpy(f, x, rtol=0)
    used = compiled(f, x).graph.nodes
    assert sum(isinstance(node.op, ndl.Permute | ndl.Transpose) for node in used) <= 1


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, y: x.T @ y, [(30, 20), (30, 40)]),
        (lambda x, y: x @ y.T, [(30, 20), (40, 20)]),
        (lambda x, y: x.permute((1, 0)) @ y.permute((1, 0)), [(30, 20), (40, 30)]),
        (lambda x, y: x.permute((0, 2, 1)) @ y, [(4, 30, 20), (4, 30, 40)]),
        (lambda x, y: x @ y.permute((0, 1, 3, 2)), [(2, 3, 30, 20), (2, 3, 40, 20)]),
        (lambda x, y: (x.T.T.T @ y).T.T, [(30, 20), (30, 40)]),
    ],
)
def test_a_product_reads_swapped_axes_as_they_lie(function, shapes):
    program = compiled(function, *[ones(*shape) for shape in shapes])
    assert isinstance(program.fused.works[0], Product)
    assert not any(
        isinstance(node.op, ndl.Permute | ndl.Transpose)
        for work in program.fused.works
        for node in work.made
    )
    rng = np.random.default_rng(0)
    given_ = [ndl.Tensor(rng.standard_normal(shape).astype(np.float32)) for shape in shapes]
    expect_numpy(function, *given_, rtol=1e-5)
