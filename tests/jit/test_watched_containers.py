"""Containers that are no dicts and lists themselves, and values that depend on the thread."""

import contextvars
import threading
import types
import warnings
from array import array
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from copy import deepcopy
from enum import IntEnum
from functools import partial
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary, proxy, ref

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.test_replaced import One, Two, expect_fresh

# -- around dicts and lists ------------------------------------------------------------------------


def test_chained_dicts():
    first, last = {}, {"factor": 1.0}
    chain = ChainMap(first, last)
    expect_fresh(
        lambda x: x * chain["factor"],
        lambda: last.update(factor=2.0),
        lambda: chain.__setitem__("factor", 3.0),
        lambda: first.clear(),
        lambda: chain.maps.insert(0, {"factor": 4.0}),
        lambda: setattr(chain, "maps", [{"factor": 5.0}]),
    )


def test_what_keys_of_dicts_hold():
    one, two, options = One(), Two(), {"offset": 1.0}
    factors = {one: 1.0, (two, "twice"): 2.0, lambda x: x + options["offset"]: 3.0}

    def function(x):
        for key, factor in factors.items():
            x = key(x) if callable(key) else x * (key[0] if type(key) is tuple else key).factor
            x = x * factor
        return x

    expect_fresh(
        function,
        lambda: setattr(one, "factor", 3.0),
        lambda: setattr(two, "factor", 4.0),
        lambda: options.update(offset=5.0),
    )
    layer = nn.BatchNorm1d(2)
    layers, twins = {layer: 0.5}, {deepcopy(layer): 0.5}

    def run(layers, x):
        return sum([layer(x) * factor for layer, factor in layers.items()])

    step, x = ndl.jit(lambda x: run(layers, x)), ndl.init.randn(4, 2)
    for k in range(6):
        for one in (*layers, *twins):
            one.training = k != 4
        np.testing.assert_allclose(step(x).numpy(), run(twins, x).numpy(), rtol=1e-5)
        for one, two in zip(layers, twins, strict=True):
            np.testing.assert_allclose(one.running_mean.numpy(), two.running_mean.numpy())


class OwnDict(UserDict):
    pass


class OwnList(UserList):
    pass


@pytest.mark.parametrize("cls", [UserDict, UserList, OwnDict, OwnList])
def test_dicts_and_lists_written_in_python(cls):
    is_dict = issubclass(cls, UserDict)
    held, key = (cls(factor=1.0), "factor") if is_dict else (cls([1.0]), 0)
    expect_fresh(
        lambda x: x * held[key] * len(held),
        lambda: held.__setitem__(key, 2.0),
        lambda: held.update(more=1) if is_dict else held.append(1),
        lambda: setattr(held, "data", type(held.data)({key: 3.0} if is_dict else [3.0])),
    )


def test_views_of_dicts():
    options = {"factor": 1.0}
    proxy, keys, values, items = (
        types.MappingProxyType(options),
        options.keys(),
        options.values(),
        options.items(),
    )
    for function in (
        lambda x: x * proxy["factor"],
        lambda x: x * len(keys),
        lambda x: x * sum(values),
        lambda x: x * sum(value for _, value in items),
    ):
        options.clear()
        options["factor"] = 1.0
        expect_fresh(function, lambda: options.update(factor=2.0), lambda: options.update(more=3.0))


def test_the_attributes_of_a_class_as_a_mapping_are_no_harm():
    cls = type("Scale", (), {"factor": 2.0})
    names, item = vars(cls), cls()
    expect_fresh(lambda x: x * names["factor"] * item.factor)


def test_weak_containers():
    held = [One(), One()]
    factors = WeakKeyDictionary({held[0]: 1.0})
    by_name = WeakValueDictionary(a=held[0], b=held[1])
    objects = WeakSet(held)
    expect_fresh(
        lambda x: (
            x * sum(factors.values()) * sum(i.factor for i in by_name.values()) * len(objects)
        ),
        lambda: factors.__setitem__(held[1], 2.0),
        lambda: setattr(held[1], "factor", 4.0),
        lambda: held.pop(),
        lambda: by_name.update(c=held[0]),
        lambda: held.clear(),
    )


@pytest.mark.parametrize(
    "read",
    [
        lambda gone: lambda x: x if gone() is None else x * 2,
        lambda gone: lambda x: x if gone() is None else x * gone().factor,
        lambda gone: lambda x, known=(gone,): x if known[0]() is None else x * 2,
    ],
)
def test_what_weak_references_stand_for_may_die(read):
    held = [Two()]
    function = read(ref(held[0]))
    expect_fresh(function, lambda: setattr(held[0], "factor", 3.0), held.clear)
    expect_fresh(function)


def test_what_a_weak_proxy_stands_for_may_die():
    held = [Two()]
    item = proxy(held[0])
    step, x = ndl.jit(lambda x: x * item.factor, warmup=0), ndl.Tensor([1.0])
    assert step(x).item() == 2
    held[0].factor = 3.0
    assert step(x).item() == 3
    held.clear()
    with pytest.raises(ndl.TraceError, match="uses item, a weak proxy of something that is gone"):
        step(x)
    beside = [item]
    with pytest.raises(ndl.TraceError, match=r"uses beside\[0\], a weak proxy of something"):
        ndl.jit(lambda x: x * len(beside), warmup=0)(x)


def test_what_a_function_puts_into_a_weak_dict_is_settled_after_a_call():
    item, known = One(), WeakKeyDictionary()

    def function(x):
        if item not in known:
            known[item] = 3.0
        return x * known[item]

    step = ndl.jit(function, warmup=0)
    for _ in range(4):
        assert step(ndl.Tensor([1.0])).item() == 3
    assert len(step.programs) == 1
    known[item] = 5.0
    assert step(ndl.Tensor([1.0])).item() == 5


def test_a_default_for_what_is_not_there_yet():
    options, counts = {}, defaultdict(lambda: 2.0)
    expect_fresh(
        lambda x: x * options.get("factor", 1.0) * counts.get("a", 3.0),
        lambda: options.update(factor=2.0),
        lambda: counts["a"],
        lambda: options.pop("factor"),
    )


class OwnInt(int):
    pass


class OwnText(str):
    pass


class OwnTuple(tuple):
    pass


class OwnFrozenSet(frozenset):
    pass


class OwnSet(set):
    pass


class OwnDeque(deque):
    pass


class OwnArray(np.ndarray):
    pass


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "item",
    [
        OwnInt(2),
        OwnText("2"),
        OwnTuple([2.0]),
        OwnFrozenSet([2.0]),
        OwnSet([2.0]),
        OwnDeque([2.0]),
        np.ones(2).view(OwnArray),
        Level.LOW,
    ],
)
def test_attributes_beside_the_value(item):
    item.factor = 1.0
    expect_fresh(
        lambda x: x * item.factor,
        lambda: setattr(item, "factor", 2.0),
        lambda: setattr(type(item), "factor", 3.0) or delattr(item, "factor"),
        programs=3,
    )
    del type(item).factor


@pytest.mark.parametrize("cls", [OwnTuple, OwnFrozenSet, OwnSet, OwnDeque])
def test_what_is_in_containers_of_an_own_class(cls):
    item = One()
    items = cls([item])
    expect_fresh(
        lambda x: x * sum(item.factor for item in items), lambda: setattr(item, "factor", 2.0)
    )


@pytest.mark.parametrize("make", [bytearray, lambda numbers: array("d", numbers)])
def test_bytearrays_and_arrays_of_the_standard_library(make):
    items = make([1, 200])
    expect_fresh(
        lambda x: x * sum(items),
        lambda: items.__setitem__(0, 3),
        lambda: items.append(4),  # nothing of ours holds its memory
        programs=3,
    )


def test_an_array_that_is_given_another_dtype_in_place():
    numbers = np.arange(4, dtype="f4")
    step = ndl.jit(lambda x: x * float(numbers[1]), warmup=0)
    assert step(ndl.ones(1)).item() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy 2.5
        numbers.dtype = "i4"
    assert step(ndl.ones(1)).item() == numbers[1] > 1


def test_arrays_of_objects():
    items = np.array([One(), {"factor": 1.0}], dtype=object)
    expect_fresh(
        lambda x: x * items[0].factor * items[1]["factor"],
        lambda: setattr(items[0], "factor", 2.0),
        lambda: items[1].update(factor=3.0),
        lambda: items.__setitem__(0, Two()),
    )


@pytest.mark.parametrize("warmup", [0, 1])
def test_what_is_taken_out_of_a_queue_is_used_up(warmup):
    queue = deque([ndl.Tensor([float(k)], requires_grad=False) for k in range(8)])
    times = ndl.jit(lambda x: x * queue.popleft(), warmup=warmup)
    assert [times(ndl.Tensor([10.0])).item() for _ in range(4)] == [0, 10, 20, 30]
    taken = ndl.jit(lambda: {"first": queue.popleft()}, warmup=warmup)
    for _ in range(3):
        first = queue[0]
        assert taken()["first"] is first


@pytest.mark.parametrize("warmup", [0, 1])
def test_what_is_taken_out_and_put_in_again(warmup):
    def run(jit):
        queue, modes = deque([1.0, 2.0]), {"train"}

        def function(x):
            modes.discard("train") if "train" in modes else modes.add("train")
            return x * queue.popleft() * (2 if modes else 3)

        step, found = jit(function), []
        for _ in range(4):
            found += [step(ndl.Tensor([1.0])).item(), list(queue), list(modes)]
            queue.extend([1.0, 2.0] * (not queue))
        return found

    assert run(partial(ndl.jit, warmup=warmup)) == run(lambda function: function)


@pytest.mark.parametrize(
    ("items", "change"),
    [
        (deque([1.0, 2.0]), lambda items: items.rotate()),
        (deque([1.0, 2.0]), lambda items: items.appendleft(items.pop() + 1)),
        (array("d", [1.0]), lambda items: items.__setitem__(0, items[0] + 1)),
        (bytearray(b"a"), lambda items: items.__setitem__(0, items[0] + 1)),
        ({1}, lambda items: items.add(len(items) + 1)),
    ],
)
def test_what_is_changed_at_each_call_is_told(items, change):
    def function(items, x):
        change(items)
        return x * sum(items)

    twin, x = deepcopy(items), ndl.Tensor([1.0])
    step = ndl.jit(partial(function, items), warmup=0)
    for _ in range(2):
        assert step(x).item() == function(twin, x).item()
    with pytest.raises(ndl.TraceError, match=r"never settles. Change .* outside the jitted func"):
        step(x)
    assert items == twin


# -- of a thread -----------------------------------------------------------------------------------


def test_context_variables():
    factor = contextvars.ContextVar("factor", default=1.0)
    options = contextvars.ContextVar("options")
    options.set({"offset": 1.0})
    step = expect_fresh(
        lambda x: x * factor.get() + options.get()["offset"],
        lambda: factor.set(2.0),
        lambda: factor.set(3.0),
        lambda: options.get().update(offset=2.0),
        lambda: options.set({"offset": 3.0}),
    )
    x = ndl.Tensor([1.0])
    assert contextvars.Context().run(lambda: (options.set({"offset": 5.0}), step(x).item()))[1] == 6
    assert step(x).item() == 6


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_context_variable_that_a_function_gives_its_first_value(warmup):
    turn = contextvars.ContextVar("turn")

    def function(x):
        turn.set("b" if turn.get("a") == "a" else "a")
        return x * (2 if turn.get() == "a" else 3)

    step, x = ndl.jit(function, warmup=warmup), ndl.Tensor([1.0])
    called = contextvars.copy_context().run(lambda: [step(x).item() for _ in range(4)])
    assert called == [3, 2, 3, 2]
    assert turn.get(None) is None
    assert [step(x).item() for _ in range(4)] == [3, 2, 3, 2]


class Modes(threading.local):
    factor = 1.0


@pytest.mark.parametrize("cls", [threading.local, Modes])
def test_thread_local_values(cls):
    modes = cls()
    modes.offset = 1.0
    function = lambda x: x * getattr(modes, "factor", 1.0) + modes.offset  # noqa: E731
    step = expect_fresh(
        function,
        lambda: setattr(modes, "offset", 2.0),
        lambda: setattr(modes, "factor", 3.0),
        lambda: setattr(modes, "other", [1.0]),
        lambda: delattr(modes, "factor"),
        *([lambda: setattr(cls, "factor", 5.0)] if cls is Modes else []),
    )
    results = []

    def elsewhere():
        modes.offset = 10.0
        results.extend([step(ndl.Tensor([1.0])).item(), function(ndl.Tensor([1.0])).item()])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert results[0] == results[1] > 10
    x = ndl.Tensor([1.0])
    assert step(x).item() == function(x).item() < 10


def test_a_number_that_is_counted_up_in_a_thread_local_or_context_variable_is_told():
    modes, count = threading.local(), contextvars.ContextVar("count", default=0)
    modes.calls = 0
    count.set(0)

    def in_local(x):
        modes.calls += 1
        return x * 2

    def in_context(x):
        count.set(count.get() + 1)
        return x * 2

    for function in (in_local, in_context):
        with pytest.raises(ndl.TraceError, match=r"modes.calls|count.value"):
            ndl.jit(function, warmup=0)(ndl.Tensor([1.0]))
    assert (modes.calls, count.get()) == (0, 0)


@pytest.mark.parametrize("warmup", [0, 1])
def test_the_order_of_a_dict_that_settles_is_that_of_the_function_as_written(warmup):
    memory = {"a": ndl.init.zeros(2), "b": ndl.init.ones(2)}

    @ndl.jit(warmup=warmup)
    def step(x):
        h = memory.pop("a") * 0.5 + x
        memory["a"] = h.detach()
        return h.sum()

    for _ in range(4):
        step(ndl.init.ones(2))
        assert list(memory) == ["b", "a"]
    assert memory["a"].tolist() == [1.875] * 2
    assert len(step.programs) == 1


def test_an_order_that_is_another_after_each_call_is_told():
    recent = OrderedDict((name, ndl.init.zeros(2)) for name in "abc")

    @ndl.jit
    def step(x):
        recent.move_to_end(next(iter(recent)))
        return x + next(iter(recent.values()))

    for order in ("bca", "cab", "abc"):  # a warm-up and two attempts
        step(ndl.init.ones(2))
        assert "".join(recent) == order
    with pytest.raises(
        ndl.TraceError,
        match=r"the order of recent gets something new .* Change the order of recent outside",
    ):
        step(ndl.init.ones(2))
    assert "".join(recent) == "abc"


def test_a_namespace_that_code_was_run_in_is_a_dict_like_others():
    x, space = ndl.init.ones(3), {"factor": 2.0}
    exec("def scaled(x): return x * factor", space)  # puts `__builtins__` into it
    compiled = ndl.jit(lambda x: space["scaled"](x) * space["factor"], warmup=0)
    for factor in (2.0, 2.0, 3.0, 3.0):
        space["factor"] = factor
        assert compiled(x).tolist() == (x * factor * factor).tolist()
    assert len(compiled.programs) == 2
