"""Functions of a program that do the same with other memory are one function."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from tests.compiler.stages import compiled, expect_numpy, functions

ones = ndl.init.ones


def test_kernels_of_one_structure_share_their_code():
    many = compiled(lambda *xs: [x * 2 + 1 for x in xs], *[ones(n) for n in range(10, 30)])
    assert list(functions(many.emitted.ir)) == ["kernel1"]
    calls = many.emitted.calls
    assert len({call.symbol for call in calls}) == len({call.words for call in calls}) == 20


def test_flat_kernels_of_any_shape_share_their_code():
    shapes = [(12,), (3, 5), (5, 3), (2, 3, 7), (1, 9)]
    many = compiled(lambda *xs: [x * 2 + 1 for x in xs], *[ones(*shape) for shape in shapes])
    assert list(functions(many.emitted.ir)) == ["kernel1"]


def test_kernels_of_other_structures_share_nothing():
    steps = [
        lambda x: x + 0.0,
        lambda x: x + -0.0,
        lambda x: x * 2,
        lambda x: x.exp(),
        lambda x: x + x[::-1],
        lambda x: x.sum(),
        lambda x: x.max(),
        lambda x: x.astype("float64") * 2,
        lambda x: x.relu(),
    ]

    def f(*xs):
        return [step(x) for step, x in zip(steps, xs, strict=True)]

    names = functions(compiled(f, *[ones(n) for n in range(10, 10 + len(steps))]).emitted.ir)
    assert sum(name.startswith("kernel") for name in names) == len(steps)


def test_layers_of_one_shape_share_their_code():
    def network(x, w, b):
        for _ in range(10):
            x = (x @ w + b.broadcast_to(x.shape)).tanh()
        return x

    names = functions(compiled(network, ones(4, 8), ones(8, 8), ones(8)).emitted.ir)
    assert sum(name.startswith("product") for name in names) == 1


def test_slices_of_a_value_share_their_code():
    names = functions(compiled(lambda x: [x[k].exp() for k in range(8)], ones(8, 5)).emitted.ir)
    assert sum(name.startswith("kernel") for name in names) == 1


def test_draws_of_one_kind_share_their_code():
    ndl.seed(0)
    found = compiled(lambda: [ndl.init.rand(7), ndl.init.rand(7), ndl.init.rand(8)])
    assert sum(name.startswith("special") for name in functions(found.emitted.ir)) == 2


def constant(values):
    return ndl.Tensor(values, requires_grad=False)


@pytest.mark.parametrize("last", [-1, 6])
def test_lookups_in_a_longer_table_share_nothing_with_those_in_a_shorter_one(last):
    def f(x):
        longer = ndl.concatenate([x.take([4, 0], 0), x], 0)
        return longer.take([last, 0], 0)

    expect_numpy(f, ndl.Tensor(np.arange(5.0)), rtol=0)


def test_lookups_in_a_shorter_table_share_nothing_with_those_in_a_longer_one():
    def f(x):
        shorter = ndl.concatenate([x.take([4, 0], 0), x[:1]], 0)
        return shorter.take([-1, 0], 0)

    expect_numpy(f, ndl.Tensor(np.arange(5.0)), rtol=0)


def test_an_index_beyond_the_shorter_of_two_tables_is_found():
    def f(x):
        shorter = ndl.concatenate([x.take([4, 0], 0), x[:1]], 0)
        return shorter.take([3, 4], 0)

    with pytest.raises(ndl.IndexRangeError, match="index 3 at position"):
        ndl.jit(f, warmup=0)(ones(5))


def test_picks_from_longer_rows_share_nothing_with_those_from_shorter_ones():
    def f(x):
        longer = ndl.concatenate([x, x.pick([1, 0, 1]).reshape((3, 1))], 1)
        return longer.pick([2, 1, 2])

    expect_numpy(f, ndl.Tensor(np.arange(6.0).reshape(3, 2)), rtol=0)
