"""Functions of repeated values: computed once, where that takes less."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.jit.compiler.native_executor import NativeExecutor
from needle.native import llvm, threads
from tests.compiler.stages import compiled, expect_numpy, simplified, traced

SHAPE = (400, 50)


class Squared(ndl.TensorOp):
    """A user's own operator, which may do anything."""

    def compute(self, x):
        return x * x

    def gradient(self, out_grad, node):
        return out_grad * 2 * node.inputs[0]


def rows(b):
    return b.broadcast_to(SHAPE)


def shapes_of(graph, *names):
    """The shapes of what operators with these names give, in order."""
    return [node.specs().shape for node in graph.nodes if type(node.op).__name__ in names]


@pytest.fixture
def tensors(rng):
    """Values, one for each column, and one for each row."""
    shapes = (SHAPE, SHAPE[1:], (SHAPE[0], 1))
    return [ndl.Tensor(rng.uniform(0.1, 2, shape).astype(np.float32)) for shape in shapes]


ONCE = [
    lambda x, b, c: x * rows(b).tanh().exp(),
    lambda x, b, c: x * ((rows(b) * 2 + 1).tanh() - rows(b)).exp(),
    lambda x, b, c: x / (rows(c) + 1e-5) ** 0.5,
    lambda x, b, c: x + rows(b) ** rows(b),
    lambda x, b, c: rows(b).log().tanh(),
    lambda x, b, c: x * rows(c[0, 0]).sin().exp(),
    lambda x, b, c: x * ndl.where(rows(b).greater(1), rows(b), rows(b) * 2).sigmoid().exp(),
    lambda x, b, c: x * b.broadcast_to((80, 50)).broadcast_to((5, 80, 50)).exp().reshape(SHAPE),
    lambda x, b, c: rows(b.greater(1).astype("int64")).tanh().exp(),
]


@pytest.mark.parametrize("function", ONCE)
@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_functions_of_repeated_values_are_computed_once(function, lanes, tensors):
    expect_numpy(function, *tensors, rtol=1e-5, host=llvm.host(lanes))
    names = "Tanh", "Exp", "Log", "Sin", "Sigmoid", "EWisePow", "PowerScalar"
    shapes = shapes_of(simplified(function, *tensors), *names)
    assert shapes
    assert all(np.prod(shape) <= max(SHAPE) for shape in shapes)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, b, c: b.broadcast_to((40, 50)).tanh(),  # 1,950 elements fewer
        lambda x, b, c: (rows(b) + rows(c)).tanh(),  # both axes
        lambda x, b, c: (rows(b) + x).tanh(),
        lambda x, b, c: (rows(b) * ndl.init.rand(*SHAPE)).tanh(),
        lambda x, b, c: Squared()(rows(b)).tanh(),
        lambda x, b, c: rows(b)[1:].tanh(),
    ],
)
def test_what_is_not_repeated_stays(function, tensors):
    graph, _ = traced(function, *tensors)
    simple = simplified(function, *tensors)
    assert shapes_of(simple, "Tanh") == shapes_of(graph, "Tanh")


def test_what_is_cheap_stays(tensors):
    """An addition takes less than the kernel that would keep its result."""
    program = compiled(lambda x, b, c: x * (rows(b) * 2 + 1) / rows(c).maximum(1), *tensors)
    assert len(program.fused.works) == 1
    expect_numpy(lambda x, b, c: x * (rows(b) * 2 + 1).relu(), *tensors, rtol=1e-6)


def test_a_layer_norm_whose_variance_is_repeated_first_is_one_kernel(tensors):
    def f(x, b, c):
        centred = x - x.mean(1, keepdims=True).broadcast_to(SHAPE)
        variance = (centred * centred).mean(1, keepdims=True).broadcast_to(SHAPE)
        return centred / (variance + 1e-5) ** 0.5

    program = compiled(f, *tensors)
    assert len(program.fused.works) == 1
    assert shapes_of(program.graph, "PowerScalar") == [(400, 1)]
    expect_numpy(f, *tensors, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["tanh", "exp", "log", "sqrt", "sigmoid", "sin", "gelu"])
def test_special_values_are_as_where_nothing_is_repeated(name, dtype):
    numbers = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1.0, 88.8, 1.0, 3.0, *[0.1] * 40]
    b = ndl.Tensor(np.array(numbers, dtype))

    def f(b):
        return getattr(rows(b), name)()

    once = ndl.jit(f, warmup=0)(b).numpy()
    whole = ndl.jit(lambda x: getattr(x, name)(), warmup=0)(rows(b)).numpy()
    np.testing.assert_array_equal(once, whole, strict=True)
    np.testing.assert_array_equal(np.signbit(once), np.signbit(whole))


def test_a_run_time_scalar_beside_what_is_repeated(tensors):
    f = ndl.jit(lambda x, b, factor: x * (rows(b) * factor).tanh().exp(), warmup=0)
    x, b, _ = tensors
    for factor in (0.5, 2.0):
        expected = x.numpy() * np.exp(np.tanh(b.numpy() * factor))
        np.testing.assert_allclose(f(x, b, factor).numpy(), expected, rtol=1e-5)


def test_a_long_chain_over_what_is_repeated(tensors):
    def f(x, b, c):
        y = rows(b)
        for k in range(3000):
            y = y * 1.0001 + k % 2 * 0.0001
        return y.tanh().exp()

    assert shapes_of(simplified(f, *tensors), "Tanh", "Exp") == [(50,), (50,)]
    expect_numpy(f, *tensors, rtol=1e-3)


@pytest.mark.parametrize("function", ONCE[:4])
def test_gradients_and_any_number_of_threads(function, tensors):
    def gradients(x, b, c):
        y = function(x, b, c)
        (y * x).sum().backward()
        return y.detach(), x.grad, *[t.grad for t in (b, c) if t.grad is not None]

    double = [ndl.Tensor(t.numpy().astype(np.float64)) for t in tensors]
    expect_numpy(gradients, *double, rtol=1e-9)
    results = []
    try:
        for count in (1, 2):
            threads.set_threads(count)
            executor = NativeExecutor(compiled(gradients, *double))
            for place, array in enumerate(traced(gradients, *double)[1]):
                executor.bind(place, array)
            results.append(executor())
    finally:
        threads.set_threads(None)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
