"""Reductions of what lies in another order: their loops follow memory, not the axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle as ndl
from needle.native import llvm
from tests.compiler.stages import compiled, expect_numpy

LANES = pytest.mark.parametrize("lanes", [16, 8, 4])
ones = ndl.init.ones


def centred(a, axes):
    return a - a.mean(axes, keepdims=True).broadcast_to(a.shape)


def vectors_of(program):
    """Turns of the loop over the lanes of vectors, and of those inside, of the first kernel."""
    nest = next(iter(program.schedule.nests.values()))
    return nest.sizes[nest.vector], [nest.sizes[loop] for loop in nest.inner]


@pytest.mark.parametrize(
    ("step", "shape", "vector", "inner"),
    [
        (lambda x: x.T.sum(0), (70, 90), 90, [90]),
        (lambda x: x.T.max(1), (70, 90), 90, [70]),
        (lambda x: (x.T * 2).exp().min(1), (70, 90), 90, [70]),
        (lambda x: x.permute((0, 2, 3, 1)).sum((0, 1, 2)), (5, 3, 7, 9), 63, [5, 63]),
        (lambda x: x.permute((3, 1, 0, 2)).sum((0, 3)), (5, 3, 7, 19), 133, [133]),
        (lambda x: centred(x.permute((0, 2, 3, 1)), (0, 1, 2)), (5, 3, 7, 9), 63, [5, 63]),
        (lambda x: ndl.logsumexp(x.T, 1), (70, 90), 90, [70]),
    ],
)
def test_the_vector_runs_along_memory(step, shape, vector, inner):
    program = compiled(step, ones(*shape), host=llvm.host(8))
    assert vectors_of(program) == (vector, inner)
    assert "gather" not in program.emitted.ir


@pytest.mark.parametrize(
    ("step", "shapes"),
    [
        (lambda x, y: (x.T * y).sum(0), [(70, 90), (90, 70)]),  # as many reads each way
        (lambda x: x.T.sum(0), [(70, 3)]),  # fewer than a vector takes
        (lambda x: x[:, ::2].T.sum(0), [(70, 90)]),  # neither lies in a row
    ],
)
def test_the_order_of_the_axes_stays_where_another_gains_nothing(step, shapes):
    program = compiled(step, *[ones(*shape) for shape in shapes], host=llvm.host(8))
    assert "gather" in program.emitted.ir
    nest = next(iter(program.schedule.nests.values()))
    assert nest.loops == [0, 1]


@LANES
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "int64"]
)
def test_every_dtype(dtype, lanes, rng):
    x = ndl.Tensor(rng.integers(-3, 4, (71, 37)).astype(dtype), requires_grad=False)

    def f(x):  # a sum of uint8 is a uint64, of which there is no native code
        y = x.T
        signed, extreme = not dtype.startswith("u"), dtype != "bool"
        peak = y.max(1, keepdims=True) if extreme else y.sum(1, keepdims=True)
        results = [y.equal(peak.broadcast_to(y.shape)), y - peak.broadcast_to(y.shape)]
        results += [y.sum(0), y.sum(1)] if signed else []
        return [*results, y.max(1), y.min(0)] if extreme else results[:1] + results[2:]

    expect_numpy(f, x, rtol=0, host=llvm.host(lanes))


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_every_shape_and_order(data):
    sizes = st.sampled_from([0, 1, 2, 3, 5, 8, 9, 16, 17, 33, 130])
    shape = data.draw(st.lists(sizes, min_size=1, max_size=4).filter(lambda s: np.prod(s) < 4e4))
    ndim = len(shape)
    order, other = (data.draw(st.permutations(range(ndim))) for _ in range(2))
    axes = tuple(data.draw(st.sets(st.integers(0, ndim - 1), min_size=1)))
    step = data.draw(st.sampled_from([None, -1, 2]))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    lanes = data.draw(st.sampled_from([16, 8, 4]))
    keep = data.draw(st.booleans())
    rng = np.random.default_rng(0)
    x = ndl.Tensor(rng.standard_normal(shape).astype(dtype))
    turned = (slice(None, None, step), ...)
    y = ndl.Tensor(rng.standard_normal(x.numpy()[turned].shape).astype(dtype))

    def f(x, y):
        a, b = x[turned].permute(order), y.permute(order)
        results = [a.sum(axes, keepdims=keep), (a * b).sum(axes), (a * 2 - b).tanh().permute(other)]
        if x.size:
            peak = a.max(axes, keepdims=True)
            power = (a - peak.broadcast_to(a.shape)).exp()
            share = power / power.sum(axes, keepdims=True).broadcast_to(a.shape)
            results += [centred(a, axes), share, (share * b).sum(axes, keepdims=keep), peak]
            results += [centred(a, axes).permute(other), a.argmax(axes[0])]
        return results

    tolerance = 2e-5 if dtype == "float32" else 1e-12
    expect_numpy(f, x, y, rtol=tolerance, host=llvm.host(lanes))


@LANES
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int8", "uint16", "int64"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (5, 37), (2, 64), (3, 0)])
def test_what_lies_reversed_is_read_in_vectors_that_are_turned_round(shape, dtype, lanes, rng):
    x = ndl.Tensor(rng.integers(-3, 4, shape).astype(dtype), requires_grad=False)

    def f(x):
        ends, half = x[:, ::-1], x[::-1, shape[1] // 2 :: -1]
        return ends.equal(x), half.astype("float32") * 2, ends.astype("float32").sum(1)

    expect_numpy(f, x, rtol=0, host=llvm.host(lanes))
    assert "gather" not in compiled(f, x, host=llvm.host(lanes)).emitted.ir


@LANES
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "int8", "uint16", "int64"])
@pytest.mark.parametrize("shape", [(3, 37), (2, 64), (5, 2), (4, 130)])
def test_every_second_element_is_read_in_whole_vectors(lanes, dtype, shape, rng):
    x = ndl.Tensor(rng.integers(-3, 4, shape).astype(dtype), requires_grad=False)

    def f(x):
        even, odd = x[:, ::2], x[:, 1::2]
        return even.astype("float32") * 2, odd.astype("float32").sum(1)

    expect_numpy(f, x, rtol=0, host=llvm.host(lanes))
    if shape == (2, 64):  # no ragged end
        assert "gather" not in compiled(f, x, host=llvm.host(lanes)).emitted.ir


def test_nothing_is_stored_across_what_is_added_up(rng):
    images = ndl.Tensor(rng.standard_normal((3, 40, 9, 20)).astype(np.float32))

    def f(x):
        last = x.permute((0, 2, 3, 1))
        return last.softmax(-1), centred(last, (3,)), centred(last, (0, 1, 2))

    expect_numpy(f, images, rtol=2e-5)
    ir = compiled(f, images).emitted.ir
    assert "scatter" not in ir
    assert "gather" not in ir


@pytest.mark.parametrize("shape", [(3000, 70), (70, 3000), (40, 5, 900)])
def test_threads_give_the_same_bits(shape, rng):
    x = ndl.Tensor(rng.standard_normal(shape).astype(np.float32))
    order = tuple(reversed(range(len(shape))))
    results = []
    before = ndl.get_num_threads()
    try:
        for threads in 1, 2:
            ndl.set_num_threads(threads)
            step = ndl.jit(lambda x: [centred(x.permute(order), a) for a in (0, -1)], warmup=0)
            results.append([part.numpy().tobytes() for part in step(x)])
    finally:
        ndl.set_num_threads(before)
    assert results[0] == results[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_whole_layer_over_the_other_axis_and_its_gradient(axis, rng):
    x, w = (ndl.Tensor(rng.standard_normal((64, 48))) for _ in range(2))

    def f(x, w):
        share = x.T.softmax(axis)
        return (share * w.T).sum()

    eager, compiled_ = ndl.grad(f, (0, 1)), ndl.jit(ndl.grad(f, (0, 1)), warmup=0)
    for found, expected in zip(compiled_(x, w), eager(x, w), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-11, atol=1e-13)
