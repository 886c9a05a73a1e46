"""Random graphs, forward and backward: compiled as NumPy computes them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import needle as ndl
from needle.jit.compiler import nest, products, repeats
from needle.native import matmul_blocking, threads

SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 16, 19])
SHAPES = st.lists(SIZES, min_size=0, max_size=3).map(tuple)

UNARY = {
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "exp": lambda x: x.tanh().exp(),
    "log": lambda x: (x * x + 0.5).log(),
    "sqrt": lambda x: (x * x + 0.25).sqrt(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "relu": lambda x: x.relu(),
    "gelu": lambda x: x.gelu(),
    "abs": lambda x: x.abs(),
    "negate": lambda x: -x,
    "cube": lambda x: (x * 0.5) ** 3,
    "scale": lambda x: x * 0.75,
    "shift": lambda x: x + 0.125,
    "divide": lambda x: 1 / (x * x + 1),
    "detach": lambda x: x.detach() * 2,
    "flat": lambda x: x.reshape((-1,)),
    "tail": lambda x: x.reshape((1, *x.shape)),
    "T": lambda x: x.T,
    "every second": lambda x: x[::2] if x.ndim else x,
    "backwards": lambda x: x[::-1] if x.ndim else x,
    "last column": lambda x: x[..., -1] if x.ndim else x,
    "repeat": lambda x: x.reshape((*x.shape, 1)).broadcast_to((*x.shape, 3)) if x.ndim < 3 else x,
    "clip": lambda x: x.clip(-0.5, 1.5),
    "where": lambda x: ndl.where(x.greater(0.1), x * 2, x.tanh()),
}
OVER_AN_AXIS = {
    "sum": lambda x, axis, keep: x.sum(axis, keepdims=keep),
    "mean": lambda x, axis, keep: x.mean(axis, keepdims=keep),
    "max": lambda x, axis, keep: x.max(axis, keepdims=keep),
    "min": lambda x, axis, keep: x.min(axis, keepdims=keep),
    "var": lambda x, axis, keep: x.var(axis, keepdims=keep),
    "logsumexp": lambda x, axis, keep: x.logsumexp(axis, keepdims=keep),
    "softmax": lambda x, axis, keep: x.softmax(axis),
    "logsoftmax": lambda x, axis, keep: x.logsoftmax(axis),
    "take": lambda x, axis, keep: x.take(
        ndl.Tensor([x.shape[axis] - 1, 0], requires_grad=False), axis
    ),
}


def flat_rows(x, w):
    """A product of all rows of several matrices."""
    return (x.reshape((-1, x.shape[2])) @ w).reshape((*x.shape[:2], w.shape[1]))


BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b * b + 0.5),
    "maximum": lambda a, b: a.maximum(b),
    "minimum": lambda a, b: a.minimum(b),
    "where": lambda a, b: ndl.where(a.less(b), a, b * 2),
    "concatenate": lambda a, b: ndl.concatenate([a, b], 0) if a.ndim else a + b,
    "matmul": lambda a, b: a @ b.T * 0.25 if a.ndim == 2 else a * b,
    "batched matmul": lambda a, b: a @ b.transpose((1, 2)) * 0.25 if a.ndim == 3 else a - b,
    "rows matmul": lambda a, b: a @ b[0].T * 0.25 if a.ndim == 3 else a + 2 * b,
    "flat rows matmul": lambda a, b: flat_rows(a, b[0].T) * 0.25 if a.ndim == 3 else a - 2 * b,
}

PLACES = st.integers(0, 99)
STEPS = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), PLACES),
    st.tuples(st.sampled_from(sorted(OVER_AN_AXIS)), PLACES, st.integers(0, 2), st.booleans()),
    st.tuples(st.sampled_from([f"{name} two" for name in sorted(BINARY)]), PLACES, PLACES),
)


def applied(values, step):
    """The value that a step makes of those made before it; None where it does not apply."""
    name, place, *rest = step
    x = values[place % len(values)]
    if x.size > 4000:
        return None
    if len(rest) == 2:
        axis, keep = rest
        return OVER_AN_AXIS[name](x, axis % x.ndim, keep) if x.ndim else None
    if not rest:
        return UNARY[name](x)
    alike = [value for value in values if value.shape == x.shape]
    return BINARY[name.removesuffix(" two")](x, alike[rest[0] % len(alike)])


def graph(steps, ends):
    """A function of tensors: several results, and a loss whose gradients are taken."""

    def function(*inputs):
        values = list(inputs)
        for step in steps:
            made = applied(values, step)
            if made is not None:
                values.append(made)
        results = [values[end % len(values)] for end in (*ends, -1)]
        loss = sum([(r.tanh() * (k + 1)).sum() for k, r in enumerate(results)], results[0].sum())
        gradients = []
        if loss.requires_grad:
            loss.backward()
            gradients = [x.grad for x in inputs]
        return [r.detach() for r in results], loss.detach(), gradients

    return function


@pytest.fixture(params=["whole", "cut"])
def cutting(request, monkeypatch, backend):
    """Kernels and products as they are; and cut as if they were large, for two threads."""
    if request.param == "whole":
        yield
        return
    if backend == "numpy":
        pytest.skip("nothing is cut")
    for name in ("PART_WORK", "PART_ROWS", "CHUNK_WORK"):
        monkeypatch.setattr(nest, name, 1)
    monkeypatch.setattr(nest, "FLAT_CHUNK", 4)
    monkeypatch.setattr(nest, "FLAT_UNIT", 4)
    monkeypatch.setattr(repeats, "LEAST_SAVED", 1)
    for name, value in {"PART_K": 2, "PART_RATIO": 1, "CHUNK_FLOP": 20, "LEAST_FLOP": 20}.items():
        monkeypatch.setattr(matmul_blocking, name, value)
    products._cut.cache_clear()
    threads.set_threads(2)
    yield
    threads.set_threads(None)
    products._cut.cache_clear()


def arrays_of(outcome):
    results, loss, gradients = outcome
    return [None if t is None else t.numpy() for t in (*results, loss, *gradients)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    shapes=st.lists(SHAPES, min_size=1, max_size=3),
    steps=st.lists(STEPS, min_size=1, max_size=12),
    ends=st.lists(st.integers(0, 99), max_size=3),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(["float32", "float64"]),
)
@pytest.mark.usefixtures("cutting")
def test_forward_and_backward(shapes, steps, ends, seed, dtype):
    random = np.random.RandomState(seed)
    arrays = [random.uniform(-2, 2, shape).astype(dtype) for shape in shapes]
    function = graph(steps, ends)
    eager = arrays_of(function(*map(ndl.Tensor, arrays)))
    compiled = ndl.jit(function, warmup=0)
    for _ in range(2):
        ours = arrays_of(compiled(*map(ndl.Tensor, arrays)))
        assert len(ours) == len(eager)
        for mine, its in zip(ours, eager, strict=True):
            if its is None:
                assert mine is None
                continue
            assert (mine.shape, mine.dtype) == (its.shape, its.dtype)
            scale = np.abs(its).max(initial=1.0)
            tolerance = 2e-3 if dtype == "float32" else 1e-10
            np.testing.assert_allclose(mine, its, rtol=tolerance, atol=tolerance * scale)
    assert len(compiled.programs) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    shape=SHAPES,
    steps=st.lists(STEPS, min_size=1, max_size=8),
    writes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 99)), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_state(shape, steps, writes, seed):
    """State that is given values of its own shape, old and new ones, over several calls."""

    def world():
        random = np.random.RandomState(seed)
        state = [ndl.Tensor(random.uniform(-1, 1, shape), requires_grad=False) for _ in range(3)]

        def function(x):
            values = [x, *[s * 1 for s in state], *[s.detach() for s in state]]
            for step in steps:
                made = applied(values, step)
                if made is not None:
                    values.append(made)
            fitting = [value for value in values if value.shape == tuple(shape)]
            for target, place in writes:
                state[target].data = (
                    fitting[place % len(fitting)].tanh()
                    if place % 3
                    else (fitting[place % len(fitting)])
                )
                fitting.append(state[target] * 1)
            return values[-1] * 1

        return function, state

    (eager, theirs), (function, ours) = world(), world()
    compiled = ndl.jit(function, warmup=0)
    for k in range(4):
        x = np.random.RandomState(k).uniform(-1, 1, shape)
        expected = eager(ndl.Tensor(x, requires_grad=False)).numpy()
        result = compiled(ndl.Tensor(x, requires_grad=False)).numpy()
        np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)
        for mine, its in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=1e-9, atol=1e-9)
