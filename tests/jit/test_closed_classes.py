"""Classes that are reached through instances alone: what a function reads of them, and no more."""

import copy
import itertools
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial, partialmethod
from operator import attrgetter, methodcaller
from queue import Queue

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.test_replaced import expect_fresh

scale = 2.0
log = []
batches = iter([])
numbers = np.random.default_rng(0)
names = itertools.count()


class Trainer:
    """Its `step` and `log` are not those of the optimiser."""

    def __init__(self):
        self.model = nn.Linear(2, 1)
        self.opt = ndl.optim.SGD(self.model.parameters(), lr=0.1)
        self.number = next(names)

    @ndl.jit
    def update(self, x):
        loss = self.model(x).sum()
        loss.backward()
        self.opt.step()
        self.opt.reset_grad()
        return loss

    def step(self, x):
        log.append(float(self.update(x)))

    def reset_grad(self):
        return next(batches)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(numbers.standard_normal((2, 2)))
        self.name = f"dense{next(names)}"

    def forward(self, x):
        return x @ self.weight

    def __repr__(self):
        return f"{type(self).__name__} {self.__class__.__qualname__}"


class Residual(Dense):
    def forward(self, x):
        return super().forward(x) + x


def test_a_method_of_the_name_of_another_is_not_read(monkeypatch):
    trainer, x = Trainer(), ndl.init.ones(3, 2)
    for _ in range(5):
        trainer.step(x)
    assert len(trainer.update.programs) == 1
    monkeypatch.setattr(Trainer, "step", Queue())
    trainer.update(x)
    assert len(trainer.update.programs) == 1


def test_what_makes_layers_is_not_read():
    model, x = nn.Sequential(Dense(), Residual()), ndl.Tensor(np.ones((3, 2)))
    expected = model(x).numpy()
    predict = ndl.jit(model, warmup=0)
    np.testing.assert_allclose(predict(x).numpy(), expected)


class Base:
    factor = 1.0

    def scaled(self, x):
        return x * scale


class Mixin:
    factor = 3.0

    def doubled(self, x):
        return x * scale

    def same(self, x):
        return x


class Thing(Base):
    def of_base(self, x):
        return super().scaled(x) + x * super(Thing, self).factor  # noqa: UP008

    def of_its_class(self):
        return __class__.factor

    def again(self):
        self.__init__()
        return self.made

    def __init__(self):
        self.made = scale

    @classmethod
    def of_class(cls):
        return cls.factor

    @property
    def kept(self):
        return vars(self)["kept"] * scale

    def of_super(self, name=None):
        return read(super()) if name is None else getattr(super(), name)

    @classmethod
    def _times(cls, number):
        return cls.factor * number

    twice = partialmethod(_times, 2.0)


class Mixed(Thing, Mixin):
    def doubled(self, x):
        return super().doubled(x)

    def same(self, x):
        return super().same(x)


class Owner:
    def __get__(self, instance, owner):
        return owner.factor


class Bare:
    """A descriptor without attributes."""

    __slots__ = ()

    def __get__(self, instance, owner):
        return owner.factor


class Owned(Base):
    factor_of_owner = Owner()
    bare = Bare()


class Number(float):
    def __new__(cls, number):
        return super().__new__(cls, number * cls.factor)

    factor = 2.0


class Numbers(Set):
    """Its operators make new ones by a class method of the library's."""

    def __init__(self, numbers):
        self.numbers = [number * scale for number in numbers]

    def __contains__(self, number):
        return number in self.numbers

    def __iter__(self):
        return iter(self.numbers)

    def __len__(self):
        return len(self.numbers)


@dataclass(frozen=True)
class Settings:
    rate: float

    def __post_init__(self):
        object.__setattr__(self, "scaled", self.rate * scale)


thing, mixed, owned, settings = Thing(), Mixed(), Owned(), Settings(1.0)
vars(thing)["kept"] = 1.0
number, one = Number(1.0), Numbers([1.0])
by_name, factor_of = attrgetter("factor"), methodcaller("of_class")
by_names, kind_of, held = attrgetter("__class__.factor"), type, Thing()
kinds, kind_of_thing, held.cls = {"of": type}, partial(type, thing), Mixed


def read(item):
    return item.factor


def kind(item):
    return type(item)


def of_kind(item):
    return kind(item).factor


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * of_kind(thing),
        lambda x: x * thing.__class__.factor,
        lambda x: thing.of_base(x),
        lambda x: x * thing.of_its_class(),
        lambda x: x * thing.of_class(),
        lambda x: x * thing.again(),
        lambda x: x * thing.kept,
        lambda x: mixed.doubled(x),
        lambda x: x * owned.factor_of_owner,
        lambda x: x * copy.copy(thing).factor,
        lambda x: x * replace(settings, rate=2.0).scaled,
        lambda x: x * by_name(thing),
        lambda x: x * factor_of(thing),
        lambda x: x * by_names(thing),
        lambda x: x * kind_of(thing).factor,
        lambda x, kind=type: x * kind(thing).factor,
        lambda x: x * kinds["of"](thing).factor,
        lambda x: x * kind_of_thing().factor,
        lambda x: x * thing.of_super(),
        lambda x: x * thing.of_super("factor"),
        lambda x: mixed.same(x) * held.cls.factor,
        lambda x: x * thing.twice(),
        lambda x: x * owned.bare,
        lambda x: x * copy.deepcopy({"number": number})["number"].real,
        lambda x: x * next(iter(one | [1.0])),
    ],
)
def test_what_is_read_of_closed_classes_is_watched(function, monkeypatch):
    def change(number):
        monkeypatch.setitem(globals(), "scale", number)
        monkeypatch.setattr(Base, "factor", number)
        monkeypatch.setattr(Number, "factor", number)

    expect_fresh(function, lambda: change(5.0), lambda: change(7.0), programs=3)


class Answering(type):
    def __getattr__(cls, name):
        return cls.table[name]


class Table(metaclass=Answering):
    table = {"alpha": 2.0}  # noqa: RUF012


class Asking:
    table = Table

    def scaled(self, x):
        return x * self.table.alpha


asking = Asking()


def test_a_class_in_a_class_that_answers_to_names_itself(monkeypatch):
    """Python asks the type of a thing whether it is a descriptor."""
    expect_fresh(lambda x: asking.scaled(x), lambda: monkeypatch.setitem(Table.table, "alpha", 3.0))
