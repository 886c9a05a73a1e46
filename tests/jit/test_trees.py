"""Trees of lists, tuples and dicts: arguments and results of a jitted function."""

import collections
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

import needle as ndl

Pair = collections.namedtuple("Pair", "first second")


def made(step):
    return len(step.programs)


def test_trees_of_arguments_and_results():
    @ndl.jit(warmup=0)
    def step(pair, *, options, more):
        a, (b, c) = pair
        total = a + b * c
        return {"total": total, "parts": [total * 2, (options["scale"] * a, more[0])], "n": 3}

    for k in range(3):
        a, b, c = (ndl.Tensor([float(k + i)]) for i in range(3))
        result = step((a, (b, c)), options={"scale": a}, more=[b])
        value = k + (k + 1) * (k + 2)
        assert result["total"].tolist() == [value]
        assert result["parts"][0].tolist() == [2.0 * value]
        assert result["parts"][1][0].tolist() == [k * k]
        assert result["parts"][1][1] is b
        assert result["n"] == 3
        assert type(result["parts"][1]) is tuple
    assert made(step) == 1


def test_named_tuples_stay_named_tuples():
    step = ndl.jit(lambda pair: Pair(pair.first + 1, pair.second), warmup=0)
    result = step(Pair(ndl.Tensor([1.0]), ndl.Tensor([2.0])))
    assert type(result) is Pair
    assert result.first.tolist() == [2.0]


def test_another_structure_is_another_program():
    step = ndl.jit(lambda tree: sum(tree[1:], tree[0]), warmup=0)
    a = ndl.Tensor([1.0])
    assert step([a, a]).tolist() == [2.0]
    assert step([a, a, a]).tolist() == [3.0]
    assert step((a, a)).tolist() == [2.0]
    assert made(step) == 3


def test_keywords_keep_their_order():
    step = ndl.jit(lambda **named: ndl.concatenate(list(named.values())), warmup=0)
    a, b = ndl.Tensor([3.0]), ndl.Tensor([4.0])
    for _ in range(2):
        assert step(b=b, a=a).tolist() == [4.0, 3.0]
        assert step(a=a, b=b).tolist() == [3.0, 4.0]
    assert made(step) == 2


@pytest.mark.parametrize("keys", [(2.0, 3.0), (0.0, -0.0), ((1, 2.0), (1, 3.0))])
def test_keys_of_dicts_are_constants(keys):
    def by_key(named):
        ((key, x),) = named.items()
        return x * np.copysign(np.sum(key), np.sum(key))

    step = ndl.jit(by_key, warmup=0)
    x = ndl.Tensor([5.0])
    for key in (*keys, *keys):
        expected = by_key({key: x}).numpy()
        np.testing.assert_array_equal(np.signbit(step({key: x}).numpy()), np.signbit(expected))
        np.testing.assert_array_equal(step({key: x}).numpy(), expected)
    assert made(step) == 2


def test_tensors_as_keys_are_told_apart():
    step = ndl.jit(lambda named: next(key * x for key, x in named.items()), warmup=0)
    keys, x = [ndl.Tensor([2.0]), ndl.Tensor([3.0])], ndl.Tensor([5.0])
    assert [step({key: x}).item() for key in keys * 2] == [10.0, 15.0] * 2


class Row(list):
    pass


@pytest.mark.parametrize("calls", [1, 3])
def test_dicts_and_lists_of_other_classes_stay_what_they_are(calls):
    @ndl.jit
    def step(named):
        kinds.append(type(named))
        row = Row([named["x"] * named["missing"]])
        return OrderedDict(row=row, named=named)

    kinds = []
    for _ in range(calls):
        named = defaultdict(lambda: 2.0, x=ndl.Tensor([3.0]), missing=4.0)
        result = step(named)
    assert set(kinds) == {defaultdict}
    assert [type(part) for part in (result, result["row"])] == [OrderedDict, Row]
    assert type(result["named"]) is defaultdict
    assert result["row"][0].tolist() == [12.0]


def test_positional_and_keyword_are_told_apart():
    step = ndl.jit(lambda x, y: x - y, warmup=0)
    x, y = ndl.Tensor([5.0]), ndl.Tensor([3.0])
    assert step(x, y).tolist() == step(x, y=y).tolist() == [2.0]
    assert step(y=x, x=y).tolist() == [-2.0]


def test_arrays_that_are_returned_are_the_callers_own():
    step = ndl.jit(lambda x: (x + 1, np.zeros(2)), warmup=0)
    for _ in range(3):
        _, zeros = step(ndl.Tensor([1.0]))
        assert zeros.tolist() == [0.0, 0.0]
        zeros += 1


def test_what_can_be_read_only_once_is_not_returned():
    def batches(x):
        yield x * 2

    with pytest.raises(ndl.TraceError, match=r"returned a generator, .* Return a list"):
        ndl.jit(batches, warmup=0)(ndl.Tensor([1.0]))
    with pytest.raises(ndl.TraceError, match="returned a map"):
        ndl.jit(lambda x: [x, map(str, [1])], warmup=0)(ndl.Tensor([1.0]))


def test_a_list_that_an_eager_call_fills_is_the_callers(monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", "0")
    step = ndl.jit(lambda x, log: (log["sums"].append(float(x.sum())), x)[1])
    log = {"sums": []}
    for _ in range(3):
        step(ndl.Tensor([1.0, 2.0]), log)
    assert log["sums"] == [3.0, 3.0, 3.0]


def test_lists_among_the_arguments_are_not_to_be_changed():
    def step(x, results):
        results.append(x + 1)
        return x

    told = r"passed as an argument was changed .* Change a copy, .* and return what is new"
    with pytest.raises(ndl.TraceError, match=told):
        ndl.jit(step, warmup=0)(ndl.Tensor([1.0]), [])
    x, cache = ndl.Tensor([1.0]), {}

    @ndl.jit(warmup=0)
    def attend(x, cache):
        cache = dict(cache)
        cache["k"] = ndl.concatenate([cache["k"], x]) if "k" in cache else x
        return cache["k"].sum(), cache

    for length in (1.0, 2.0, 3.0):
        total, cache = attend(x, cache)
        assert total.item() == length
