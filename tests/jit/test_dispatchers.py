"""Functions that dispatchers of the standard library call, and methods of the user's own values."""

from collections import deque, namedtuple
from enum import IntEnum
from functools import singledispatch, singledispatchmethod
from typing import NamedTuple

import pytest

import needle as ndl

scale = 2.0


def scaled(x):
    return x * scale


def test_functions_that_a_dispatcher_calls(monkeypatch):
    @singledispatch
    def distance(kind, x):
        raise NotImplementedError

    distance.register(str, lambda kind, x: scaled(x))
    step = ndl.jit(lambda x: distance("l1", x), warmup=0)
    x = ndl.Tensor([1.0])
    assert [step(x).item() for _ in range(2)] == [2.0, 2.0]
    monkeypatch.setitem(globals(), "scale", 5.0)
    assert [step(x).item() for _ in range(2)] == [5.0, 5.0]
    distance.register(str, lambda kind, x: x * 7)
    assert [step(x).item() for _ in range(2)] == [7.0, 7.0]
    distance.register(int, lambda kind, x: x * kind)
    step = ndl.jit(lambda kind, x: distance(kind, x))
    for kind, expected in [("l1", 7.0)] * 3 + [(3, 3.0), ("l1", 7.0)] * 3:
        assert step(kind, x).item() == expected
    assert len(step.programs) <= 3  # the dispatcher keeps what it found: once for each class


class Measured:
    @singledispatchmethod
    def distance(self, kind, x):
        raise NotImplementedError

    @distance.register
    def _(self, kind: str, x):
        return scaled(x)


def test_methods_that_a_dispatcher_calls(monkeypatch):
    measured = Measured()
    step = ndl.jit(lambda x: measured.distance("l1", x))
    for value in (2.0, 2.0, 5.0, 5.0, 2.0):
        monkeypatch.setitem(globals(), "scale", value)
        assert step(ndl.Tensor([1.0])).item() == value
    assert len(step.programs) == 2


class Pair(NamedTuple):
    first: float

    def scaled(self, x):
        return x * scale * self.first


class Row(namedtuple("Row", "values")):
    def scaled(self, x):
        return x * scale * self.values[0]


class Names(set):
    def scaled(self, x):
        return x * scale * len(self)


class Recent(deque):
    def scaled(self, x):
        return x * scale * self.factor


class Kind(IntEnum):
    ONE = 1

    def scaled(self, x):
        return x * scale


class Number(float):
    def scaled(self, x):
        return x * scale * self.factor


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: Pair(1.0), None),
        (lambda: Row([1.0]), lambda row: row.values.__setitem__(0, 3.0)),
        (lambda: Names("a"), lambda names: names.add("b")),
        (lambda: Recent("a"), lambda recent: setattr(recent, "factor", 3.0)),
        (lambda: Kind.ONE, None),
        (lambda: Number(2.0), lambda number: setattr(number, "factor", 3.0)),
    ],
    ids=["NamedTuple", "namedtuple", "set", "deque", "IntEnum", "float"],
)
def test_methods_and_attributes_of_collections_and_numbers_of_an_own_class(
    make, change, monkeypatch
):
    held = make()
    if isinstance(held, Recent | Number):
        held.factor = 1.0
    step = ndl.jit(lambda x: held.scaled(x), warmup=0)
    x = ndl.Tensor([1.0])
    assert [step(x).item() for _ in range(2)] == [2.0, 2.0]
    monkeypatch.setitem(globals(), "scale", 5.0)
    assert step(x).item() == 5
    if change is not None:
        change(held)
        assert step(x).item() == held.scaled(x).item() != 5
