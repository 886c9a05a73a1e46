"""Numbers, text, lists, dicts of the user's own classes, with attributes: arguments, and others."""

import collections
import types

import pytest

import needle as ndl
from tests.jit.test_replaced import expect_fresh


class Number(int):
    pass


class Text(str):
    pass


class Pair(tuple):
    pass


class Row(list):
    pass


class Options(dict):
    pass


class Default(dict):
    __slots__ = ("k",)

    def __missing__(self, name):
        return self.k


def with_attribute(value, k):
    value.k = k
    return value


MAKERS = {
    "int": lambda: Number(3),
    "str": lambda: Text("abc"),
    "tuple": lambda: Pair([1, 2]),
    "list": lambda: Row([1, 2]),
    "dict": lambda: Options(a=1),
    "slots": lambda: Default(a=1),
}


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_attributes_are_part_of_the_signature(make, warmup):
    step = ndl.jit(lambda x, option: x * option.k, warmup=warmup)
    for k in (2.0, 2.0, 3.0, 3.0, 2.0, 2.0):
        assert step(ndl.Tensor([1.0]), with_attribute(make(), k)).item() == k
    assert len(step.programs) == 2


def test_a_method_of_a_dict_that_reads_an_attribute():
    step = ndl.jit(lambda x, option: x * option["b"], warmup=0)
    for k in (2.0, 3.0, 2.0):
        assert step(ndl.Tensor([1.0]), with_attribute(Default(a=1), k)).item() == k


def test_attributes_beside_tensors_that_are_passed():
    step = ndl.jit(lambda batch: batch["x"] * batch.k, warmup=0)
    for k in (2.0, 3.0, 2.0):
        batch = with_attribute(Options(x=ndl.Tensor([k])), k)
        assert step(batch).item() == k * k


def test_what_a_list_in_an_attribute_holds():
    step = ndl.jit(lambda batch: batch["x"] * batch.k[0], warmup=0)
    held = [2.0]
    for k in (2.0, 3.0, 2.0):
        held[0] = k
        assert step(with_attribute(Options(x=ndl.Tensor([1.0])), held)).item() == k


def test_an_attribute_that_the_function_sets_is_told():
    def function(batch):
        batch.y = batch["x"] * 2
        return batch.y

    with pytest.raises(ndl.TraceError, match=r"passed as an argument was changed .* is new"):
        ndl.jit(function, warmup=0)(Options(x=ndl.Tensor([1.0])))


class Scaling(property):
    factor = 1.0

    def __get__(self, owner, cls=None):
        return self if owner is None else super().__get__(owner, cls) * self.factor


def test_attributes_of_a_property_of_an_own_class(monkeypatch):
    class Scaled:
        scale = Scaling(lambda self: self.size)

    held = Scaled()
    held.size = 2.0
    monkeypatch.setattr(Scaling, "factor", 1.0)
    expect_fresh(
        lambda x: x * held.scale,
        lambda: setattr(held, "size", 3.0),
        lambda: setattr(Scaling, "factor", 4.0),
        lambda: setattr(Scaled.scale, "factor", 5.0),
    )


@pytest.mark.parametrize(
    "base", [types.ModuleType, bytearray, collections.deque, types.SimpleNamespace]
)
def test_attributes_of_what_is_derived_from_the_standard_librarys(base):
    class Derived(base):
        offset = 1.0

        def scaled(self, x):
            return x * self.factor + self.offset

    held = Derived("derived") if base is types.ModuleType else Derived()
    held.factor = 1.0
    expect_fresh(
        lambda x: held.scaled(x),
        lambda: setattr(held, "factor", 2.0),
        lambda: setattr(Derived, "offset", 3.0),
        lambda: setattr(held, "offset", 4.0),
        lambda: setattr(Derived, "scaled", lambda self, x: x - self.offset),
    )
