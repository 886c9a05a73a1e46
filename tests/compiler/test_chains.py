"""Chains: what goes through the same rows without waiting, with values that share memory."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import needle as ndl
from needle.jit.compiler import nest, products
from needle.jit.compiler.native_executor import NativeExecutor
from needle.jit.tracing.interpret import Interpreter
from needle.native import matmul_blocking, threads
from tests.compiler.stages import compiled, expect_numpy, traced


def repeated(values, like):
    """A row, or a column, for each row or column of another value."""
    return values.broadcast_to(like.shape)


def layer_norm(x):
    centred = x - repeated(x.mean(1, keepdims=True), x)
    return centred / repeated(((centred * centred).mean(1, keepdims=True) + 0.1) ** 0.5, x)


def heads(x, y):
    """Attention with two heads: products of batches."""
    rows, columns = x.shape
    shape = (rows, 2, columns // 2)
    q, k = (v.reshape(shape).permute((1, 0, 2)) for v in (x, y))
    weights = (q @ k.transpose((1, 2)) / columns).softmax(-1)
    return (weights @ k).permute((1, 0, 2)).reshape((rows, columns))


class Negated(ndl.TensorOp):
    """An operator of a user, which is called between stages."""

    def compute(self, x):
        return -x

    def gradient(self, out_grad, node):
        return -out_grad


STEPS = {
    "layer": lambda x, y, w: (x @ w).tanh(),
    "layer and what it reads": lambda x, y, w: x @ w + x,
    "transposed weight": lambda x, y, w: (x @ w.transpose() + y).tanh(),
    "computed weight": lambda x, y, w: (x @ (w * 2).tanh()).tanh(),
    "weight of values": lambda x, y, w: (x @ (y.transpose() @ x / x.shape[0]).tanh()).tanh(),
    "similar rows": lambda x, y, w: (x @ y.transpose() / x.shape[0]).tanh() @ x / 8,
    "batch of one": lambda x, y, w: (x.reshape((1, *x.shape)) @ w).reshape(x.shape).tanh(),
    "heads": lambda x, y, w: heads(x, y),
    "add": lambda x, y, w: x + y * 0.5,
    "layer norm": lambda x, y, w: layer_norm(x),
    "softmax": lambda x, y, w: x.softmax(1) + y,
    "columns": lambda x, y, w: x - repeated(x.mean(0, keepdims=True), x),
    "weighted columns": lambda x, y, w: x * repeated((x * y).sum(0, keepdims=True), x).tanh(),
    "largest of columns": lambda x, y, w: y - repeated(x.max(0, keepdims=True), x),
    "first row": lambda x, y, w: x + repeated(y[:1], x),
    "last row": lambda x, y, w: x - repeated(y[-1:], x),
    "last column": lambda x, y, w: x * repeated(y[:, -1:], x),
    "turned columns": lambda x, y, w: (x[:, ::-1] + y).tanh(),
    "turned rows": lambda x, y, w: x[::-1] + y,
    "turned rows of a layer": lambda x, y, w: (x[::-1] @ w).tanh(),
    "next rows": lambda x, y, w: ndl.concatenate([x[1:] * y[:-1], x[:1]], 0),
    "previous rows": lambda x, y, w: ndl.concatenate([y[-1:], x[:-1]], 0) + x,
    "halves": lambda x, y, w: ndl.concatenate([x[: x.shape[0] // 2], y[x.shape[0] // 2 :]], 0),
    "other columns": lambda x, y, w: ndl.concatenate([x[:, 2:], y[:, :2]], 1).tanh(),
    "taken rows": lambda x, y, w: x.take(
        ndl.Tensor([(7 * k + 3) % x.shape[0] for k in range(x.shape[0])], requires_grad=False), 0
    ),
    "other shape": lambda x, y, w: (x.reshape(x.shape[::-1]).tanh().reshape(x.shape) + y) / 2,
    "called": lambda x, y, w: Negated()(x) + y,
}
"""New rows of values from two others, x and y, and a weight."""


def program(steps, ends, backward=False):
    """A function of rows and weights: row by row, over columns, and from row to row."""

    def function(x, *weights):
        values = [x]
        for name, first, second, weight in steps:
            chosen = (values[-1 - place % len(values)] for place in (first, second))
            values.append(STEPS[name](*chosen, weights[weight % len(weights)]))
        results = [values[-1 - end % len(values)] for end in (0, *ends)]
        if not backward:
            return [result * 1 for result in results]
        loss = sum([(result * result).mean() for result in results], results[0].sum())
        loss.backward()
        return [loss.detach(), *[value.grad for value in (x, *weights) if value.grad is not None]]

    return function


PLACES = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5, 8])


def in_any_order(executor, chance):
    """The results of a run, a chunk of a function at a time, in an order by chance.

    Only what is promised holds: stage after stage, and for each chunk a chain's functions in order.
    What is read before it is made is not a number.
    """
    executor._arena[:] = 0xFF
    results = [np.full(shape, -1).astype(dtype) for _, shape, dtype in executor.results]
    for (slot, *_), result in zip(executor.results, results, strict=True):
        executor._words[slot] = result.ctypes.data
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p, *[ctypes.c_int64] * 2, ctypes.c_void_p])
    for stage in executor.compiled.emitted.stages:
        if not isinstance(stage, list):
            executor._call(stage.node)
            continue
        queues = [
            [(call, chunk) for call in reversed(shared.calls)]
            for shared in stage
            for chunk in range(shared.chunks)
        ]
        while queues:
            place = chance.randrange(len(queues))
            call, chunk = queues[place].pop()
            run = function(executor.compiled.module.address(call.function))
            run(executor._table.ctypes.data, chunk, chunk + 1, executor._words_of(call))
            if not queues[place]:
                queues[place] = queues[-1]
                queues.pop()
    return results


@pytest.fixture(params=["whole", "cut"])
def cutting(request, monkeypatch):
    """Kernels and products as they are, of large values; and small ones, cut as if large."""
    if request.param == "whole":
        shapes = [(512, 160), (203, 36), (96, 16)]
    else:
        shapes = [(16, 6), (33, 4), (64, 8)]
        for name in ("PART_WORK", "PART_ROWS", "CHUNK_WORK"):
            monkeypatch.setattr(nest, name, 1)
        monkeypatch.setattr(nest, "FLAT_CHUNK", 4)
        for name in ("PART_K", "PART_RATIO", "CHUNK_FLOP", "LEAST_FLOP"):
            monkeypatch.setattr(matmul_blocking, name, 2)
    products._cut.cache_clear()
    yield shapes
    threads.set_threads(None)
    products._cut.cache_clear()


@settings(
    max_examples=settings().max_examples // 4,  # each is run many times
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    shape=st.integers(0, 2),
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), PLACES, PLACES, st.integers(0, 1)),
        min_size=1,
        max_size=12,
    ),
    ends=st.lists(st.integers(0, 11), max_size=3),
    backward=st.booleans(),
)
def test_rows_in_any_order(cutting, shape, steps, ends, backward):
    """As NumPy computes it, and the same to the bit with any threads and in any order."""
    rows, columns = cutting[shape]
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((columns, columns)) / columns**0.5 for _ in range(2)]
    arrays = [rng.uniform(-1, 1, (rows, columns)), *weights]
    tensors = [ndl.Tensor(array, requires_grad=backward) for array in arrays]
    function = program(steps, ends, backward)
    executor = NativeExecutor(compiled(function, *tensors))
    graph, given_arrays = traced(function, *tensors)
    for place, array in enumerate(given_arrays):
        executor.bind(place, np.ascontiguousarray(array))
    order = executor._order or range(len(executor.results))
    results = []
    for count in (1, 2, 3):
        threads.set_threads(count)
        results.append(executor())
    for seed in range(2):
        shuffled = in_any_order(executor, random.Random(seed))
        results.append([shuffled[k] for k in order])
    for others in results[1:]:
        for mine, its in zip(others, results[0], strict=True):
            np.testing.assert_array_equal(mine, its)
    expected = Interpreter(graph.inputs, graph.nodes, graph.outputs)(given_arrays)
    for mine, its in zip(results[0], expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-8, atol=1e-8 * np.abs(its).max(initial=1.0))


def test_a_layer_that_is_handed_out_shares_its_memory_with_none(rng):
    """It is needed no more in its chain, where later layers are as large."""

    def layers(x, w):
        second = (x @ w).tanh() @ w
        return second, (second.tanh() @ w).tanh() @ w

    x, w = (ndl.Tensor(rng.standard_normal(shape)) for shape in ((512, 100), (100, 100)))
    (chain,) = compiled(layers, x, w).schedule.stages[0].chains
    assert len(chain.tasks) == 4
    expect_numpy(layers, x, w, rtol=1e-9)


@pytest.mark.parametrize("shapes", [[(1, 512, 60), (60, 50)], [(512, 60), (1, 1, 60, 50)]])
def test_a_product_of_one_batch_is_cut_too(shapes, rng):
    tensors = [ndl.Tensor(rng.standard_normal(shape)) for shape in shapes]
    expect_numpy(lambda x, w: x @ w, *tensors, rtol=1e-11)


@pytest.mark.parametrize("size", [5, 1_000, 1_500, 5_000, 20_000, 78_400, 100_003])
@pytest.mark.parametrize("steps", [1, 3])
def test_flat_kernels_are_cut_evenly_between_cache_lines(size, steps):
    """The cut of one for each element: halves for two threads, quarters for four."""

    def f(x):
        values = [x]
        for _ in range(steps):
            values.append(values[-1] * 2 + 1)
        return values[1:]

    program = compiled(f, ndl.Tensor(np.zeros(size), dtype="float32"))
    ((kernel, found),) = program.schedule.nests.items()
    assert len(kernel.steps) == steps
    assert found.flat
    assert found.piece % nest.FLAT_UNIT == 0
    assert (found.pieces - 1) * found.piece < size <= found.pieces * found.piece
    assert found.piece <= nest.FLAT_CHUNK + nest.FLAT_UNIT
    if size * steps >= 2 * nest.CHUNK_WORK:
        assert found.pieces % nest.FLAT_PARTS == 0
        half = found.pieces // 2 * found.piece
        assert abs(half - size / 2) <= nest.FLAT_UNIT * found.pieces / 2
    else:
        assert found.pieces == 1
