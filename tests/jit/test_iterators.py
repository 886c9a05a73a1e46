"""A program would not move an iterator on: where a function uses one, it is told."""

import itertools
import multiprocessing
import operator
import queue
import sys
import threading
import types
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import pytest

import needle as ndl
from needle import nn


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: itertools.count(1), "count"),
        (lambda: iter([1, 2]), "list_iterator"),
        (lambda: (k for k in range(3)), "generator"),
    ],
)
def test_iterators_are_told(make, kind):
    numbers = make()
    step = ndl.jit(lambda x: x * next(numbers), warmup=0)
    with pytest.raises(ndl.TraceError, match=rf"uses numbers, a {kind}, .* as an argument"):
        step(ndl.Tensor([1.0]))
    beside = {"rows": numbers, "factor": 2.0}  # which the function does not touch
    assert ndl.jit(lambda x: x * beside["factor"], warmup=0)(ndl.Tensor([1.0])).item() == 2.0
    assert beside["rows"] is numbers


def test_iterators_that_are_named_and_not_used():
    made, batches = itertools.count(), iter([ndl.Tensor([2.0])])

    class Layer:
        def __init__(self):
            self.number = next(made)

        def forward(self, x):
            return x * 3

    def forward(layer, x=None):
        x = next(batches) if x is None else x
        return layer.forward(x) if isinstance(layer, Layer) else x

    layer = Layer()
    step = ndl.jit(lambda *x: forward(layer, *x), warmup=0)
    assert [step(ndl.Tensor([k])).item() for k in (1.0, 2.0)] == [3.0, 6.0]
    with pytest.raises(ndl.TraceError, match=r"uses batches, a list_iterator, .* an argument"):
        step()
    assert forward(layer).item() == 6.0
    assert next(made) == 1


class Both:
    """An object, and before it the dict of its attributes."""

    def __init__(self):
        self.then = SimpleNamespace(numbers=iter([1.0]), factor=2.0)
        self.first = vars(self.then)

    def forward(self, x):
        return x * self.first["factor"] * self.then.factor


shared, factor = iter([1.0]), 2.0


def scaled(x):
    return x * factor if x.shape else x * next(shared)


class Twice:
    """What it is called by names `shared`, and then what leads to that in another way."""

    def __init__(self, where):
        self.then, self.read = where, getattr if where is module else operator.getitem

    def forward(self, x):
        return scaled(x) * self.read(self.then, "factor")


module = sys.modules[__name__]


@pytest.mark.parametrize(
    ("make", "iterator"),
    [
        (Both, lambda held: held.then.numbers),
        (lambda: Twice(module), lambda _: shared),
        (lambda: Twice(globals()), lambda _: shared),
    ],
    ids=["an object and its dict", "a file and a module", "a file and its dict"],
)
def test_iterators_that_are_found_in_two_ways(make, iterator):
    held = make()
    numbers = iterator(held)
    step = ndl.jit(lambda x: held.forward(x), warmup=0)
    assert [step(ndl.Tensor([1.0])).item() for _ in range(3)] == [4.0, 4.0, 4.0]
    assert len(step.programs) == 1
    assert iterator(held) is numbers


def test_what_is_asked_of_an_iterator_that_is_named_and_not_used():
    numbers = (1.0 for _ in "ab")
    held, kept = [numbers], nn.Module()

    def function(x):
        kept.take = lambda: next(numbers)
        known = isinstance(numbers, types.GeneratorType) + 2 * (numbers in held)
        return x * (known + 4 * (numbers is held[0]))

    assert ndl.jit(function, warmup=0)(ndl.Tensor([1.0])).item() == 7.0
    assert kept.take() == 1.0
    with pytest.raises(ndl.TraceError, match="returned a generator, which can be read only once"):
        ndl.jit(lambda x: (x, numbers), warmup=0)(ndl.Tensor([1.0]))


class Counting:
    def __init__(self):
        self.k = 0.0

    def __next__(self):
        self.k += 1
        return self.k

    def __iter__(self):
        return self


@pytest.mark.parametrize(
    ("make", "advance", "message"),
    [
        (lambda: itertools.cycle([1.0]), next, r"held\['numbers'\], a cycle, .* an argument"),
        (lambda: (1.0 for _ in "ab"), next, r"held\['numbers'\], a generator, .* an argument"),
        (lambda: (1.0 for _ in "ab"), lambda n: n.send(None), r"a generator, .* an argument"),
        (Counting, next, r"held\['numbers'\]\.k changed while"),
    ],
)
def test_iterators_in_dicts_are_told_where_they_are_used(make, advance, message):
    numbers = make()
    held = {"numbers": numbers}
    step = ndl.jit(lambda x: x * advance(held["numbers"]), warmup=0)
    with pytest.raises(ndl.TraceError, match=message):
        step(ndl.Tensor([1.0]))
    assert held["numbers"] is numbers
    assert next(numbers) == 1.0


def test_a_list_that_grows_beside_an_iterator():
    held = [iter([1.0, 2.0])]
    numbers = held[0]
    step = ndl.jit(lambda x: (held.append(0), x * 2)[1], warmup=0)
    assert [step(ndl.Tensor([1.0])).item() for _ in range(2)] == [2.0, 2.0]
    assert held[0] is numbers
    assert next(numbers) == 1.0


def filled(made):
    for number in (1.0, 2.0, 3.0):
        made.put(number)
    return made


class Batches(queue.Queue):
    pass


@pytest.mark.parametrize(
    "make", [queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue, Batches]
)
def test_queues_are_told(make):
    """A compiled call would be given the same at each call, and take nothing."""
    batches = filled(make())
    with pytest.raises(ndl.TraceError, match=r"uses batches, a \w+, .* pass what it gives"):
        ndl.jit(lambda x: x * batches.get(), warmup=0)(ndl.Tensor([1.0]))
    held = {"batches": batches, "factor": 2.0}
    step = ndl.jit(lambda x: x * held["batches"].get(), warmup=0)
    with pytest.raises(ndl.TraceError, match=r"uses held\['batches'\], a \w+, .* pass what it"):
        step(ndl.Tensor([1.0]))
    assert ndl.jit(lambda x: x * held["factor"], warmup=0)(ndl.Tensor([1.0])).item() == 2.0
    assert held["batches"] is batches
    assert batches.qsize() == 3


@pytest.mark.parametrize("error", [queue.Empty, queue.Full])
def test_the_errors_of_queues_are_none(error):
    log = {"last": error("nothing there")}
    last = error("nothing there")
    step = ndl.jit(lambda x: x * len(last.args) * len(log["last"].args), warmup=0)
    assert [step(ndl.Tensor([k])).item() for k in (1.0, 2.0, 3.0)] == [1.0, 2.0, 3.0]


def test_other_threads_may_use_a_queue_while_it_rests():
    held = {"batches": filled(queue.Queue())}
    taken = []

    def function(x):
        thread = threading.Thread(target=lambda: taken.append(held["batches"].get()))
        thread.start()
        thread.join()
        return x * 2

    assert ndl.jit(function, warmup=0)(ndl.Tensor([1.0])).item() == 2.0
    assert taken == [1.0]


def test_pipes_are_told():
    ours, other = multiprocessing.Pipe()
    with ours, other:

        def within(x):
            with ours:
                return x * 2

        other.send(2.0)
        for function in (lambda x: x * ours.recv(), within):
            with pytest.raises(ndl.TraceError, match=r"uses ours, a Connection, .* pass what it"):
                ndl.jit(function, warmup=0)(ndl.Tensor([1.0]))
        assert ours.recv() == 2.0


def test_mocks():
    """They have all attributes, and stand for iterators, too."""
    given, called = Mock(factor=2.0), MagicMock(return_value=3.0)
    step = ndl.jit(lambda x: x * given.factor * given.by.name(1).of, warmup=0)
    given.by.name.return_value.of = 5.0
    assert [step(ndl.Tensor([k])).item() for k in (1.0, 2.0)] == [10.0, 20.0]
    with pytest.raises(ndl.TraceError, match=r"uses called, a MagicMock, which a program"):
        ndl.jit(lambda x: x * called(), warmup=0)(ndl.Tensor([1.0]))
