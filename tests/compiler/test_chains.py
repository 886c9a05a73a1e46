"""Chains: what follows each other on the same rows waits for nobody, and nobody reads too early."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import needle as ndl
from needle.jit import nest, products
from needle.jit.interpret import Interpreter
from needle.jit.native_executor import NativeExecutor
from needle.native import matmul_blocking, threads
from tests.compiler.stages import compiled, traced


def standardised(x):
    mean = x.mean(0, keepdims=True).broadcast_to(x.shape)
    centred = x - mean
    variance = (centred * centred).mean(0, keepdims=True) + 0.5
    return centred / variance.sqrt().broadcast_to(x.shape)


STEPS = {
    "multiply": lambda x, w, first: x @ w,
    "multiply by the transpose": lambda x, w, first: x @ w.transpose(),
    "multiply, add, cut off": lambda x, w, first: (x @ w + first).relu(),
    "standardise": lambda x, w, first: standardised(x),
    "softmax": lambda x, w, first: x.softmax(-1),
    "norm of rows": lambda x, w, first: (
        x / ((x * x).mean(1, keepdims=True) + 1).sqrt().broadcast_to(x.shape)
    ),
    "less the sum of rows": lambda x, w, first: (
        x - x.sum(1).reshape((-1, 1)).broadcast_to(x.shape) / 8
    ),
    "less the largest of columns": lambda x, w, first: (
        x - x.max(0, keepdims=True).broadcast_to(x.shape)
    ),
    "upside down": lambda x, w, first: x @ w + x[::-1],
    "the row above": lambda x, w, first: ndl.concatenate([x[:1], x[:-1]], 0) + x @ w,
    "rows among each other": lambda x, w, first: ((x @ x.transpose()) / 8).tanh() @ x,
    "a sum for each pair of columns": lambda x, w, first: x @ (x.transpose() @ x).tanh() / 8,
    "residual": lambda x, w, first: x + first.tanh(),
    "one row for all": lambda x, w, first: x + x[2:3].broadcast_to(x.shape),
    "other shape": lambda x, w, first: x.reshape((x.shape[1], x.shape[0])).reshape(x.shape) * 2,
    "tanh": lambda x, w, first: x.tanh(),
}


@pytest.fixture(params=["small chunks", "chunks as they are"])
def sizes(request, monkeypatch):
    """Rows and columns, cut into chunks as if they were large, or large enough for chunks."""
    if request.param == "chunks as they are":
        return 300, 64
    for name in ("PART_WORK", "PART_ROWS", "CHUNK_WORK"):
        monkeypatch.setattr(nest, name, 1)
    for name in ("CHUNK_FLOP", "LEAST_FLOP"):
        monkeypatch.setattr(matmul_blocking, name, 40)
    return 24, 5


@pytest.fixture
def _own_threads():
    products._cut.cache_clear()
    yield
    threads.set_threads(None)
    products._cut.cache_clear()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    names=st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=8),
    backward=st.booleans(),
    seed=st.integers(0, 1000),
)
@pytest.mark.usefixtures("_own_threads")
def test_rows_after_rows(sizes, names, backward, seed):
    rows, columns = sizes
    rng = np.random.default_rng(seed)
    given_x, given_w = rng.standard_normal((rows, columns)), rng.standard_normal((columns, columns))

    def f(x, w):
        y = x
        for name in names:
            y = STEPS[name](y, w / 8, x)
        if backward:
            (y * y).mean().backward()
            return y.detach(), x.grad, w.grad
        return y, y.sum(0)

    tensors = [ndl.Tensor(array) for array in (given_x, given_w)]
    graph, arrays = traced(f, *tensors)
    expected = Interpreter(graph.inputs, graph.nodes, graph.outputs)(arrays)
    program = compiled(f, *tensors)
    first = None
    for count in (1, 2, 3, 2, 3):
        threads.set_threads(count)
        executor = NativeExecutor(program)
        executor._arena[:] = 0xFF  # NaN, where nobody has written
        for place, array in enumerate(arrays):
            executor.bind(place, array)
        found = executor()
        first = first or found
        for result, same, reference in zip(found, first, expected, strict=True):
            np.testing.assert_array_equal(result, same)
            np.testing.assert_allclose(result, reference, rtol=1e-9, atol=1e-9)
