"""Reads at positions that values hold: of tables in another shape, and beside reductions."""

import re

import numpy as np
import pytest

import needle as ndl
from needle.errors import IndexRangeError

PLACES = np.array([2, 0, 1])


def constant(array):
    return ndl.Tensor(array, requires_grad=False)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 2], ids=["input", "computed"])
@pytest.mark.parametrize(
    "look_up",
    [
        (lambda x, i: x.reshape((1, 3)).take(i, 1), lambda x, i: x.reshape(1, 3)[:, i]),
        (lambda x, i: x.reshape((3, 1)).take(i, 0), lambda x, i: x.reshape(3, 1)[i]),
        (lambda x, i: x.reshape((1, 3)).pick(i[:1]), lambda x, i: x[i[:1]]),
        (lambda x, i: x.sum().reshape((1,)).take(i * 0, 0), lambda x, i: np.full(3, x.sum())),
    ],
    ids=["row", "column", "pick", "one number"],
)
def test_tables_in_another_shape(look_up, make):
    ours, theirs = look_up
    x = np.array([5.0, 7.0, 11.0])
    step = ndl.jit(lambda x, i: ours(make(x), i), warmup=0)
    np.testing.assert_array_equal(
        step(ndl.Tensor(x), constant(PLACES)).numpy(), theirs(make(x), PLACES)
    )
    assert step.programs[0].backend in ("native", "numpy: NEEDLE_JIT=numpy asks for none")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "bool"])
@pytest.mark.parametrize("n", [1, 5, 33])
def test_a_position_beside_a_reduction(dtype, n):
    x = (np.random.RandomState(n).rand(3, n) * 5).astype(dtype)
    columns = np.array([0, n - 1, n // 2])

    def both(x, i, columns):
        rows = x.sum(1).astype("float64")
        return x[0].take(i, 0).astype("float64") + rows.sum(), x.pick(columns) * rows

    one, three = ndl.jit(both, warmup=0)(constant(x), constant(n - 1), constant(columns))
    rows = x.sum(1).astype("float64")
    np.testing.assert_allclose(one.numpy(), x[0, n - 1] + rows.sum(), rtol=1e-6)
    np.testing.assert_allclose(three.numpy(), x[[0, 1, 2], columns] * rows, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 5, 33])
def test_a_table_of_one_number(n):
    def look_up(i):
        table, rows = ndl.full((n,), 0.5), ndl.full((len(i), n), 3)
        return table.take(i), table.take(i).sum(), rows.pick(i) * 2, ndl.zeros(2, n).take(i, 1)

    step = ndl.jit(look_up, warmup=0)
    places = constant(np.arange(40) % n)
    for ours, eager in zip(step(places), look_up(places), strict=True):
        assert ours.dtype == eager.dtype
        np.testing.assert_array_equal(ours.numpy(), eager.numpy())
    with pytest.raises(ndl.IndexRangeError, match=f"index {n} at position .* for size {n}"):
        step(constant(np.full(40, n)))


def rows_of(x):
    return x.reshape((1, 2)).broadcast_to((2, 2))


UNUSED = {
    "take": (lambda x, i: (x.take(i), x * 2)[1], "take: index 5 at position (1,)"),
    "take, a part": (lambda x, i: x.take(i)[:1], "take: index 5 at position (1,)"),
    "take, summed and a part": (
        lambda x, i: (x.take(i) * 2)[:1].sum(),
        "take: index 5 at position (1,)",
    ),
    "take of nothing": (lambda x, i: x.reshape((2, 1))[:, :0].take(i), "take: index 5"),
    "take along another axis": (lambda x, i: rows_of(x).take(i, 1)[:, 0], "take: index 5"),
    "pick": (lambda x, i: (rows_of(x).pick(i), x * 2)[1], "pick: index 5 at position (1,)"),
    "pick, a part": (lambda x, i: rows_of(x).pick(i)[0], "pick: index 5 at position (1,)"),
    "one_hot": (lambda x, i: (ndl.one_hot(3, i), x * 2)[1], "one_hot: index 5"),
    "one_hot, a part": (lambda x, i: ndl.one_hot(3, i)[0], "one_hot: index 5"),
    "one_hot of no class": (lambda x, i: ndl.one_hot(0, i - i), "one_hot: index 0"),
    "cross_entropy": (lambda x, i: (ndl.cross_entropy(rows_of(x), i), x)[1], "cross_entropy: "),
    "scatter_add": (lambda x, i: (x.scatter_add(i, (3,), 0), x)[1], "scatter_add: index 5"),
    "an index that is computed": (lambda x, i: (x.take((i + i) - i), x)[1], "take: index 5"),
    "a gradient": (
        lambda x, i: ndl.grad(lambda x: (x.take(i) ** 2).sum())(x)[:1],
        "take: index 5 at position (1,)",
    ),
}


@pytest.mark.parametrize("name", UNUSED)
def test_an_index_is_checked_also_where_nobody_uses_the_element(name):
    function, message = UNUSED[name]
    x, good, bad = ndl.Tensor([1.0, 2.0]), constant([0, 1]), constant([0, 5])
    with pytest.raises(IndexRangeError, match=re.escape(message)):
        function(x, bad)
    step = ndl.jit(function, warmup=0)
    if name != "one_hot of no class":
        np.testing.assert_array_equal(step(x, good).numpy(), function(x, good).numpy())
    with pytest.raises(IndexRangeError, match=re.escape(message)):
        step(x, bad)


def test_an_unused_index_out_of_range_leaves_the_state_as_it_was():
    x, count = ndl.Tensor([1.0, 2.0]), ndl.Tensor(0.0, requires_grad=False)

    def step(i):
        x.take(i)
        count.data = count + 1
        return count * 2

    compiled = ndl.jit(step, warmup=0)
    compiled(constant([0, 1]))
    with pytest.raises(IndexRangeError, match=r"take: index -3 at position \(0,\)"):
        compiled(constant([-3, 1]))
    assert count.item() == 1
    assert compiled(constant([-2, 1])).item() == 4
