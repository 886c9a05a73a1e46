"""Operands that lie transposed: copied tile by tile, and read in vectors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle as ndl
from needle.jit.compiler.tiles import MOST_COPIES, SIDE
from needle.native import llvm
from tests.compiler.stages import compiled, expect_numpy

LANES = pytest.mark.parametrize("lanes", [16, 8, 4])
ones = ndl.init.ones


def constant(array):
    return ndl.Tensor(array, requires_grad=False)


def tiles_of(program):
    """The turns of the loops over rows and columns of each kernel's tiles, and what is copied."""
    return [
        nest.tiling and (nest.sizes[nest.tiling.row], nest.sizes[nest.tiling.column], len(copied))
        for nest in program.schedule.nests.values()
        for copied in [nest.tiling.reads if nest.tiling else ()]
    ]


def copies_in(program):
    return re.findall(r"call void @transpose\.(\w+)", program.emitted.ir)


# -- what is emitted -------------------------------------------------------------------------------


def test_a_transposed_operand_is_copied_in_tiles_and_nothing_is_gathered():
    program = compiled(lambda x, y: x + y.T, ones(70, 90), ones(90, 70), host=llvm.host(8))
    assert tiles_of(program) == [(70, 90, 1)]
    assert copies_in(program) == ["v8f32"]
    assert f"alloca [{SIDE * SIDE} x float]" in program.emitted.ir
    assert "gather" not in program.emitted.ir


def test_explain_shows_tiles():
    shown = ndl.explain(lambda x, y: x + y.T, ones(70, 90), ones(90, 70))
    title, line = shown.kernels.splitlines()
    assert title.endswith("for each (i < 70, j < 90), in tiles")
    assert line == "a1[i, j] = x0[i, j] + x1[j, i]"
    assert [row.part for row in shown.rows] == ["in tiles"]
    assert "4 chunks: StopGradient() in tiles" in shown.schedule


@pytest.mark.parametrize(
    ("step", "shape", "tiles"),
    [
        (lambda x: x.T, (30, 50), (50, 30, 1)),
        (lambda x: x.permute((0, 3, 1, 2)) * 2, (2, 5, 7, 9), (9, 35, 1)),
        (lambda x: x.permute((0, 2, 3, 1)) * 2, (2, 3, 5, 7), (35, 3, 1)),
        (lambda x: x.permute((3, 2, 1, 0)) * 2, (11, 5, 7, 9), (9, 11, 1)),
        (lambda x: x[::-2, 3:].T * 2, (30, 50), (47, 15, 1)),
        (lambda x: x.T * x, (20, 20), (20, 20, 1)),
        (lambda x: x.T / (x + 1).T.exp(), (20, 30), (30, 20, 1)),
    ],
)
def test_which_loops_have_tiles(step, shape, tiles):
    program = compiled(step, ones(*shape))
    assert tiles_of(program) == [tiles]
    assert "gather" not in program.emitted.ir


def test_a_reshaped_transpose_is_copied_in_tiles():
    copied, *others = tiles_of(compiled(lambda x: x.T.reshape((-1,)), ones(30, 50)))
    assert copied == (50, 30, 1)
    assert not any(others)


@pytest.mark.parametrize(
    ("step", "shape"),
    [
        (lambda x: x.transpose((0, 1)) * 2, (3, 5, 7)),  # rows stay together
        (lambda x: x[:, ::2] * 2, (20, 30)),
        (lambda x: x[:, ::2].T * 2, (20, 30)),  # nothing is together
        (lambda x: x.T * 2, (30, 7)),  # no block of rows
        (lambda x: (x.T * 2).sum(0), (30, 40)),
        (lambda x: x.T * 2, (30, 1)),
        (lambda x: x.sum() * 2, (3,)),
    ],
)
def test_which_kernels_have_none(step, shape):
    program = compiled(step, ones(*shape))
    assert not any(tiles_of(program))
    assert not copies_in(program)


def test_operands_with_other_rows_and_those_of_many_are_gathered():
    def f(x):
        return x + x.permute((2, 1, 0)) * x.permute((1, 2, 0)) - x.permute((2, 1, 0))[:, ::-1]

    program = compiled(f, ones(9, 9, 9))
    assert tiles_of(program) == [(9, 9, 2)]
    assert "gather" in program.emitted.ir
    many = compiled(lambda *xs: sum((x.T for x in xs), xs[0]), *[ones(9, 9) for _ in range(7)])
    assert tiles_of(many) == [(9, 9, MOST_COPIES)]


def test_kernels_that_do_the_same_with_other_memory_share_code():
    program = compiled(lambda x, y: (x + y.T, y + x.T), ones(20, 20), ones(20, 20))
    assert len(tiles_of(program)) == 1  # of one kernel
    both = compiled(lambda x, y: ((x + y.T).T @ x, (y + x.T).T @ y), ones(20, 20), ones(20, 20))
    assert len(set(copies_in(both))) == 1


# -- what comes out --------------------------------------------------------------------------------


@LANES
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "int64"]
)
def test_every_dtype(dtype, lanes, rng):
    x, y = (constant(rng.integers(-3, 4, shape).astype(dtype)) for shape in [(71, 19), (19, 71)])
    z = constant(rng.standard_normal((71, 19)).astype(np.float32))

    def f(x, y, z):
        return x.equal(y.T), z * y.T, ndl.where(y.T.greater(x), z, x), y.T.reshape((-1,))

    expect_numpy(f, x, y, z, rtol=0, host=llvm.host(lanes))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_every_shape_and_order(data):
    sizes = st.sampled_from([1, 2, 3, 5, 8, 9, 16, 17, 63, 64, 65, 130])
    shape = data.draw(st.lists(sizes, min_size=1, max_size=4).filter(lambda s: np.prod(s) < 4e4))
    axes, others = (data.draw(st.permutations(range(len(shape)))) for _ in range(2))
    ranges = [
        data.draw(st.sampled_from([slice(None)] * 4 + [slice(None, None, -1), slice(1, None, 2)]))
        if size > 2
        else slice(None)
        for size in shape
    ]
    dtypes = [data.draw(st.sampled_from(["float32", "float64"])) for _ in range(2)]
    lanes = data.draw(st.sampled_from([16, 8, 4]))
    summed = data.draw(st.sampled_from([None, None, "first", "last", "all"]))
    rng = np.random.default_rng(0)
    x = ndl.Tensor(rng.standard_normal(shape).astype(dtypes[0]))
    turned = x.numpy()[tuple(ranges)].transpose(axes).shape
    before = [turned[others.index(axis)] for axis in range(len(shape))]
    y = ndl.Tensor(rng.standard_normal(before).astype(dtypes[1]))

    def f(x, y):
        a = x[tuple(ranges)].permute(axes)
        b = y.permute(others)
        c = a * 2 - b
        row = a.broadcast_to(c.shape) if a.shape == c.shape else b
        results = [c, (c * row).exp(), a.reshape((-1,))]
        if summed:
            axis = {"first": 0, "last": -1, "all": None}[summed]
            results += [c.sum(axis), (a + b).tanh()]
        return results

    tolerance = 2e-5 if "float32" in dtypes else 1e-12
    expect_numpy(f, x, y, rtol=tolerance, host=llvm.host(lanes))


@LANES
@pytest.mark.parametrize("shape", [(0, 9), (9, 0), (0, 0), (3, 0, 9)])
def test_nothing_at_all(shape, lanes):
    expect_numpy(lambda x: x.T * 2, ndl.Tensor(np.ones(shape)), rtol=0, host=llvm.host(lanes))


@LANES
def test_numbers_of_rows_and_columns_and_positions_beside_tiles(lanes, rng):
    x, y = (ndl.Tensor(rng.standard_normal(shape)) for shape in [(70, 90), (90, 70)])
    b, c = (ndl.Tensor(rng.standard_normal(shape)) for shape in [(70, 1), (90,)])
    index = constant(rng.integers(0, 90, 70))

    def f(x, y, b, c, index):
        place = ndl.arange(90, dtype="float64").broadcast_to(x.shape)
        table = index.one_hot(90, "float64")
        return (x + b.broadcast_to(x.shape)) * y.T + c.broadcast_to(x.shape) * place - table

    expect_numpy(f, x, y, b, c, index, rtol=1e-12, host=llvm.host(lanes))


def test_state_that_is_written_with_its_own_transpose(rng):
    w, v = (rng.standard_normal((70, 70)).astype(np.float32) for _ in range(2))
    state, other = ndl.Tensor(w), ndl.Tensor(v)

    @ndl.jit
    def step(g):
        state.data = state.data - other.data.T * 0.5 - state.data.T
        other.data = other.data * 2 + g.data.T
        return state.sum()

    g = rng.standard_normal((70, 70)).astype(np.float32)
    for _ in range(4):
        step(ndl.Tensor(g))
        w, v = w - v.T * np.float32(0.5) - w.T, v * 2 + g.T
    np.testing.assert_allclose(state.numpy(), w, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(other.numpy(), v, rtol=1e-5)


def test_the_bits_do_not_depend_on_threads(rng):
    x, y = (ndl.Tensor(rng.standard_normal((300, 300)).astype(np.float32)) for _ in range(2))
    before, found = ndl.get_num_threads(), []
    try:
        for threads in (1, 2):
            ndl.set_num_threads(threads)
            step = ndl.jit(lambda x, y: (x + y.T).tanh() / (x.T * x.T + 1), warmup=0)
            found += [step(x, y).numpy().tobytes() for _ in range(5)]
    finally:
        ndl.set_num_threads(before)
    assert len(set(found)) == 1


def test_the_gradient_of_a_transposed_operand(rng):
    x, y = (ndl.Tensor(rng.standard_normal(shape)) for shape in [(20, 30), (30, 20)])

    def f(x, y):
        ((x * y.T).tanh() * x).sum().backward()
        return x.grad, y.grad

    expect_numpy(f, x, y, rtol=1e-12)
