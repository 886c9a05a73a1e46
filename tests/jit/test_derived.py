"""Things of classes derived from those written in C, and others that C looks into by itself."""

import array
import enum
import functools
import itertools
import random
import weakref
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pytest

import needle as ndl
from tests.jit.test_replaced import expect_fresh


class Settings:
    k = 2.0


class Partial(functools.partial):
    pass


class Reference(weakref.ref):
    pass


class Numbers(itertools.count):
    pass


class Chance(random.Random):
    pass


class Draws(np.random.Generator):
    pass


class Phase(complex):
    pass


class Mass(float):
    __slots__ = ("k",)


def test_what_a_derived_partial_was_given():
    settings = Settings()
    scaled = Partial(lambda held, x: x * held.k, settings)
    expect_fresh(lambda x: scaled(x), lambda: setattr(settings, "k", 3.0))


def test_what_a_partial_method_was_given():
    held = [2.0]

    class Scaled:
        def by(self, factors, x):
            return x * factors[0]

        scaled = functools.partialmethod(by, held)

    owner = Scaled()
    expect_fresh(lambda x: owner.scaled(x), lambda: held.__setitem__(0, 3.0))


def test_what_a_derived_reference_stands_for():
    kept = [Settings()]
    reference = Reference(kept[0])
    expect_fresh(
        lambda x: x * reference().k if reference() else x * 5,
        lambda: setattr(kept[0], "k", 3.0),
        kept.clear,
    )


@pytest.mark.parametrize("make", [lambda: Phase(1j), lambda: Mass(2.0)])
def test_attributes_of_derived_numbers(make):
    held = make()
    held.k = 2.0
    expect_fresh(lambda x: x * held.k, lambda: setattr(held, "k", 3.0))


def test_a_derived_iterator_is_told():
    numbers = Numbers(1)
    with pytest.raises(ndl.TraceError, match=r"uses numbers, a Numbers, .* as an argument"):
        ndl.jit(lambda x: x * float(next(numbers)), warmup=0)(ndl.Tensor([1.0]))
    assert next(numbers) == 1


@pytest.mark.parametrize(
    ("source", "draw"),
    [
        (Chance(0), lambda source: source.random()),
        (Draws(np.random.PCG64(0)), lambda source: source.random()),
        (np.random.PCG64(0), lambda source: source.random_raw() / 2**64),
        (np.random.PCG64(0), lambda source: np.random.Generator(source).random()),
    ],
)
def test_draws_from_other_sources_are_told(source, draw):
    with pytest.raises(ndl.TraceError, match=r"drawn from .* directly while"):
        ndl.jit(lambda x: x * draw(source), warmup=0)(ndl.Tensor([1.0]))


def test_a_source_stands_where_it_stood():
    source = np.random.PCG64(0)
    before = source.state
    with pytest.raises(ndl.TraceError):
        ndl.jit(lambda x: x * (source.random_raw() / 2**64), warmup=0)(ndl.Tensor([1.0]))
    assert source.state == before


def test_draws_from_the_system_are_told():
    source = random.SystemRandom()
    with pytest.raises(ndl.TraceError, match=r"random numbers of the system's were drawn"):
        ndl.jit(lambda x: x * source.random(), warmup=0)(ndl.Tensor([1.0]))


@pytest.mark.parametrize("make", [bytearray, lambda held: array.array("i", held), np.array])
def test_the_elements_that_a_memoryview_shows(make):
    held = make([2, 3])
    view = memoryview(held)
    expect_fresh(lambda x: x * float(view[0]), lambda: held.__setitem__(0, 5))


Number = TypeVar("Number")


class Scale(Generic[Number]):
    k = 2.0


def test_the_class_behind_one_that_was_given_types(monkeypatch):
    monkeypatch.setattr(Scale, "k", 2.0)
    typed = Scale[int]
    expect_fresh(lambda x: x * typed.k, lambda: setattr(Scale, "k", 3.0))
    expect_fresh(lambda x: x * typed().k, lambda: setattr(Scale, "k", 4.0))


class Kind(enum.Enum):
    A = 1
    B = 2

    def __init__(self, number):
        self.k = float(number)


def test_members_of_an_enum_that_nobody_names():
    def function(x):
        for kind in Kind:
            x = x * kind.k
        return x * Kind(2).k

    expect_fresh(function, lambda: setattr(Kind.A, "k", 3.0), lambda: setattr(Kind.B, "k", 5.0))


class Rate(float):
    def halved(self):
        return self / 2


def test_a_float_of_a_class_of_ones_own_is_known_as_an_argument():
    step = ndl.jit(lambda x, rate: x * rate.halved() * rate.k, warmup=0)
    rate = Rate(4.0)
    for k in (2.0, 3.0, 2.0):
        rate.k = k
        assert step(ndl.Tensor([1.0]), rate).item() == 2 * k
    assert len(step.programs) == 2
    smaller = Rate(2.0)
    smaller.k = 1.0
    assert step(ndl.Tensor([1.0]), smaller).item() == 1.0


@dataclass(slots=True)
class Record:
    last: float = 0.0
    unused: float = 1.0


def test_a_float_argument_is_kept_in_a_slot():
    log = Record()

    def function(x, rate):
        log.last = rate
        return x * log.last

    step = ndl.jit(function, warmup=0)
    for k in range(6):
        assert step(ndl.Tensor([1.0]), k + 0.5).item() == log.last == k + 0.5
    log.unused = 2.0
    step(ndl.Tensor([1.0]), 0.5)
    assert len(step.programs) == 1
