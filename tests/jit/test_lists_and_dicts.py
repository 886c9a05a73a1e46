"""Lists and dicts that are returned or kept: the same ones as if the function ran as written.

Each function is played eagerly and compiled, with changes between its calls; after each call the
values in its lists and dicts are compared, and which of them are one and the same.
"""

from collections import OrderedDict

import numpy as np
import pytest

import needle as ndl
from needle import nn


def tensor(*values):
    return ndl.Tensor(np.array(values), requires_grad=False)


class Named(list):
    """A list of a user's own class."""


class World:
    def __init__(self):
        self.m = nn.Module()
        self.m.a, self.m.b = [tensor(1.0, 1.0)], [tensor(2.0, 2.0)]
        self.m.cache = {"k": tensor(0.0, 0.0)}
        self.kept = [tensor(5.0, 5.0)]
        self.log = []
        self.named = Named([tensor(6.0, 6.0)])
        self.table = OrderedDict(x=tensor(7.0, 7.0))
        self.first = self.m.a

    def trees(self):
        m = self.m
        return [m.a, m.b, m.cache, self.kept, self.log, self.named, self.table, self.first]


def hand_out_a_cache(w, x):
    w.m.cache["k"] = w.m.cache["k"] + x
    return x * 2, w.m.cache


def hand_out_several(w, x):
    return x * 2, [w.log, (w.log, w.named)], {"table": w.table}


def keep_one_that_is_there(w, x):
    w.m.a = w.kept
    return x * w.m.a[0]


def keep_one_in_it(w, x):
    w.m.cache["k"], w.m.cache["list"] = x * 2, w.kept
    return x * 2


def swap(w, x):
    w.m.a, w.m.b = w.m.b, w.m.a
    return x * w.m.a[0], w.m.a


def swap_beside_another_name(w, x):
    w.m.a, w.m.b = w.m.b, w.m.a
    return x * w.first[0]


def swap_and_update(w, x):
    w.m.a, w.m.b = w.m.b, w.m.a
    w.m.a[0].data = w.m.a[0] * 0.5 + x
    return w.first, w.m.b


def keep_a_new_one_twice(w, x):
    w.m.a = w.m.b = [x * 2]
    return x


def hand_out_what_is_kept(w, x):
    w.m.a = [w.m.a[0] * 0.5 + x]
    return w.m.a


def hand_out_a_new_one_twice(w, x):
    new = [x * 2]
    return new, (new, {"new": new})


def replace_what_is_read_by_another_name(w, x):
    y = x * w.first[0]
    w.m.a = [x * 1.0]
    return y, w.first


def turn_over(w, x):
    w.m.cache = {"k": w.m.cache["k"] + x, "old": w.m.a}
    w.m.a = [w.m.cache["k"]]
    return w.m.cache["old"]


FUNCTIONS = [
    hand_out_a_cache,
    hand_out_several,
    keep_one_that_is_there,
    keep_one_in_it,
    swap,
    swap_beside_another_name,
    swap_and_update,
    keep_a_new_one_twice,
    hand_out_what_is_kept,
    hand_out_a_new_one_twice,
    replace_what_is_read_by_another_name,
    turn_over,
]


def first_list(tree):
    """The first list or dict in a result, to be changed by the caller."""
    if isinstance(tree, tuple):
        return next(filter(None, map(first_list, tree)), None)
    return tree if isinstance(tree, list | dict) else None


def changes(w, result):
    """What may happen between two calls."""
    handed = first_list(result)
    yield lambda: None
    yield lambda: w.kept.__setitem__(0, tensor(3.0, 4.0))
    yield lambda: w.m.a.__setitem__(0, tensor(8.0, 9.0))
    yield lambda: setattr(w.m, "a", [tensor(0.5, 0.5)])
    yield lambda: w.first.__setitem__(0, tensor(-1.0, -2.0))
    if isinstance(handed, dict):
        yield lambda: handed.update(k=tensor(1.5, 2.5))
    elif handed:
        yield lambda: handed.__setitem__(0, tensor(1.5, 2.5))
    yield lambda: setattr(w.m, "b", w.m.a)
    yield lambda: w.log.append(1.0)


def noted(tree, ids):
    """A tree with numbers for which lists and dicts are the same, and values of tensors."""
    if isinstance(tree, ndl.Tensor):
        return tree.tolist()
    if not isinstance(tree, list | tuple | dict):
        return tree
    place = 0 if isinstance(tree, tuple) else ids.setdefault(id(tree), len(ids))
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return type(tree), place, [(name, noted(part, ids)) for name, part in parts]


def played(function, jit, order):
    w, seen = World(), []
    step = jit(lambda x: function(w, x))
    for call in order:
        result = step(tensor(1.0 + call, 2.0))
        ids = {}
        seen.append([noted(tree, ids) for tree in [result, *w.trees()]])
        everything = list(changes(w, result))
        everything[call % len(everything)]()
        ids = {}
        seen.append([noted(tree, ids) for tree in [result, *w.trees()]])
    return seen


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_lists_and_dicts_are_the_ones_that_they_are_eagerly(function, warmup):
    for order in ([0] * 8, range(9), [0, 0, 0, *range(9), 0, 0], range(12, 0, -1)):
        eager = played(function, lambda f: f, order)
        compiled = played(function, lambda f: ndl.jit(f, warmup=warmup), order)
        for k, (ours, its) in enumerate(zip(compiled, eager, strict=True)):
            assert ours == its, (function.__name__, list(order), k)


def test_one_program_does_for_a_cache_that_is_handed_out():
    w = World()
    step = ndl.jit(lambda x: hand_out_a_cache(w, x))
    for k in range(6):
        _, cache = step(tensor(1.0, 2.0))
        assert cache is w.m.cache
        assert cache["k"].tolist() == [k + 1.0, 2.0 * k + 2]
    assert len(step.programs) == 1


def test_an_optimisers_state_is_handed_out_itself():
    w = nn.Parameter([1.0])
    opt = ndl.optim.Adam([w])

    @ndl.jit
    def step(x):
        (w * x).sum().backward()
        opt.step()
        return opt.state, opt.params

    for _ in range(4):
        state, params = step(ndl.Tensor([1.0]))
        assert state is opt.state
        assert params is opt.params


def test_what_is_assigned_may_be_in_a_list_that_is_replaced_where_nobody_read_it():
    m, kept = nn.Module(), [tensor(1.0)]
    m.a = kept

    @ndl.jit(warmup=0)
    def step(x):
        m.a = [x * 2]
        kept[0] = kept[0] + x
        return kept[0]

    found = []
    for k in range(5):
        found.append(step(tensor(1.0)).item())
        if k == 2:
            m.a = kept
    assert found == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert m.a[0].item() == 2.0
