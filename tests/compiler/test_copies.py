"""Copies into parts of a value: their code, and what it does."""

from __future__ import annotations

import numpy as np
import pytest

import needle as ndl
from needle.native import llvm
from tests.compiler.stages import compiled, expect_numpy, functions

LANES = [lanes for lanes in (16, 8, 4) if lanes <= llvm.host().lanes]


def joined(x):
    """Rows that a loop makes, one after the other."""
    rows = [x[0:1]]
    for place in range(1, x.shape[0]):
        rows.append(rows[-1] * 0.5 + x[place : place + 1])
    return ndl.concatenate(rows)


def added(x):
    """Gradient of overlapping slices: one sum of values written into zeros."""
    widths = range(2, x.shape[0])
    return ndl.grad(lambda x: sum([(x[k - 2 : k].tanh() ** 2).sum() for k in widths]))(x)


@pytest.mark.parametrize("function", [joined, added])
def test_code_does_not_grow_with_the_operands(function):
    """LLVM took seconds for a thousand copies one after the other, and minutes for ten thousand."""
    sizes = []
    for count in (50, 400):
        program = compiled(function, ndl.init.ones(count, 4))
        code = functions(program.emitted.ir)
        sizes.append(sum(len(code[name]) for name in code if name.startswith("special")))
    assert sizes[1] <= sizes[0] + 20  # longer numbers


def kinds(x, y):
    """Operands of several shapes, dtypes and layouts, in turn."""
    parts = []
    for k in range(9):
        parts += [x[:, : k % 3 + 1].exp(), y * k, x[::-1] + k, y[:, ::2].astype("float64")]
    return ndl.concatenate([*parts, x, x], 1)


def steps(x, y):
    """Slices with steps, forward and back, that overlap."""
    slices = (np.s_[::2], np.s_[::-2], np.s_[1::3], np.s_[:, ::-1], np.s_[2:4, 1::2], np.s_[-1:])

    def loss(x):
        return sum([(x[s].sin() * (k + 1)).sum() for k, s in enumerate(slices * 2)])

    return ndl.grad(loss)(x), y


def flat(x, y):
    """Scalars made vectors, operands of no elements, and one that is given twice."""
    numbers = [x[i, j].reshape(1) * 2 for i in range(3) for j in range(3)]
    return ndl.concatenate([*numbers, x[0], x[0], x[0, :0], numbers[0]]), y


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("function", [kinds, steps, flat])
def test_copies_give_what_numpy_gives(function, lanes, rng):
    x = ndl.Tensor(rng.standard_normal((5, 7)), requires_grad=False)
    y = ndl.Tensor(rng.standard_normal((5, 18)), requires_grad=False, dtype="float32")
    expect_numpy(function, x, y, rtol=1e-6, host=llvm.host(lanes))
