"""Rows that indices pick: read as whole vectors, along as few loops as there may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle as ndl
from needle.native import llvm
from tests.compiler.stages import compiled, expect_numpy


def constant(array):
    return ndl.Tensor(array, requires_grad=False)


def loops_of(program):
    """The loops of each kernel, after neighbouring ones were merged."""
    return [list(nest.sizes.values()) for nest in program.schedule.nests.values()]


def test_a_picked_image_is_read_in_one_loop_and_in_vectors():
    images = constant(np.arange(6 * 28 * 28).reshape(6, 28, 28, 1) % 256)
    program = compiled(lambda x, i: x.take(i, 0) / 255, images, constant([3, 0]), host=llvm.host(8))
    assert loops_of(program) == [[2, 784]]
    assert "gather" not in program.emitted.ir


def test_axes_around_the_one_that_is_picked_from_stay_apart():
    table = constant(np.arange(2.0 * 3 * 5 * 7).reshape(2, 3, 5, 7))
    assert loops_of(compiled(lambda x, i: x.take(i, 2) * 2, table, constant([4, 0, 4, 1]))) == [
        [6, 4, 7]
    ]


@pytest.mark.parametrize(
    "step",
    [
        lambda x, i: x + ndl.arange(6).broadcast_to(x.shape),
        lambda x, i: x + ndl.arange(120).reshape(x.shape),
        lambda x, i: x + i.one_hot(5, "float64").reshape((4, 5, 1)).broadcast_to(x.shape),
        lambda x, i: x + i.one_hot(30, "float64").reshape(x.shape),
    ],
)
def test_loops_whose_counter_is_a_number_stay_apart(step):
    x, i = ndl.Tensor(np.arange(120.0).reshape(4, 5, 6)), constant([3, 0, 4, 1])
    expect_numpy(step, x, i, rtol=0)


STEPS = {
    "as it is": lambda taken: taken,
    "computed": lambda taken: (taken * 2 + 1).tanh(),
    "summed": lambda taken: taken.sum(-1),
    "all summed": lambda taken: taken.sum(),
    "reshaped": lambda taken: taken.reshape((-1,)) * 2,
    "turned": lambda taken: taken.transpose() + 1,
    "sliced": lambda taken: taken[..., ::2] * 3,
}


@settings(deadline=None, max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("step", STEPS)
def test_lookups_of_any_shape(step, data):
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    shape[-1] *= data.draw(st.sampled_from([1, 3, 9]))
    axis = data.draw(st.integers(0, len(shape) - 1))
    places_shape = data.draw(st.lists(st.integers(1, 5), max_size=2))
    if step not in ("as it is", "computed", "all summed", "reshaped") and (
        len(shape) + len(places_shape) < 3
    ):
        places_shape = [2, 3]
    rng = np.random.default_rng(0)
    places = rng.integers(-shape[axis], shape[axis], places_shape)
    table = ndl.Tensor(rng.standard_normal(shape))
    lanes = data.draw(st.sampled_from([16, 8, 4]))
    computed = data.draw(st.booleans())

    def f(x, i):
        x = x * 1 if computed else x
        return STEPS[step](x.take(i, axis)), x

    expect_numpy(f, table, constant(places), rtol=1e-12, host=llvm.host(lanes))


@pytest.mark.parametrize("columns", [1, 5, 16, 40])
def test_one_index_out_of_range_is_found_wherever_it_is(columns):
    table = ndl.Tensor(np.ones((4, columns)), requires_grad=False)
    step = ndl.jit(lambda x, i: x.take(i, 0) * 2, warmup=0)
    for place in range(7):
        good = np.arange(7) % 4
        np.testing.assert_array_equal(step(table, constant(good)).numpy(), np.full((7, columns), 2))
        bad = good.copy()
        bad[place] = 4
        with pytest.raises(ndl.IndexRangeError, match=rf"index 4 at position \({place},\)"):
            step(table, constant(bad))
