"""What is read or written past a class: `__getattribute__`, `vars(self)`, descriptors, copies."""

import copy
import sys

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.test_replaced import expect_fresh

own = object.__getattribute__


class Proxy:
    """All attributes are entries of a dict."""

    def __init__(self, **held):
        object.__setattr__(self, "_held", held)

    def __getattribute__(self, name):
        return own(self, name) if name.startswith("__") else own(self, "_held")[name]

    def __setattr__(self, name, value):
        own(self, "_held")[name] = value


class Renaming(nn.Module):
    def __init__(self):
        super().__init__()
        self._k = 1.0

    def __getattribute__(self, name):
        return super().__getattribute__("_k" if name == "k" else name)

    def __setattr__(self, name, value):
        super().__setattr__("_k" if name == "k" else name, value)


class Derived(Renaming):
    pass


@pytest.mark.parametrize("make", [lambda: Proxy(k=1.0), Renaming, Derived])
def test_attributes_that_a_class_reads_in_its_own_way(make):
    plain, held = Renaming(), make()
    assert ndl.jit(lambda x: x * plain.k, warmup=0)(ndl.Tensor([1.0])).item() == 1.0
    step = ndl.jit(lambda x: x * held.k, warmup=0)
    for k in (1.0, 2.0, 3.0):
        held.k = k
        assert [step(ndl.Tensor([1.0])).item() for _ in range(2)] == [k, k]
    assert type(held).__getattribute__ is not object.__getattribute__


class Average:
    """A descriptor that writes into `vars` of its owner."""

    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner):
        return vars(instance)[self.name]

    def __set__(self, instance, value):
        old = vars(instance).get(self.name)
        vars(instance)[self.name] = value if old is None else old * 0.5 + value * 0.5


class Centred(nn.Module):
    mean = Average()

    def forward(self, x):
        self.mean = x.mean(0).detach()
        return x - self.mean.broadcast_to(x.shape)


def test_state_behind_a_descriptor_that_is_set_past_it():
    layer, twin = Centred(), Centred()
    step = ndl.jit(layer)
    for k in range(8):
        if k == 5:
            for one in (layer, twin):
                vars(one)["_mean"] = ndl.zeros(2, dtype="float64")
        x = ndl.Tensor(np.arange(6.0).reshape(3, 2) * (k + 1), requires_grad=False)
        np.testing.assert_allclose(step(x).numpy(), twin(x).numpy())
        np.testing.assert_allclose(layer.mean.numpy(), twin.mean.numpy())


def test_a_record_of_a_structured_array():
    record = np.array([(1.0, 2)], [("k", "f8"), ("n", "i4")])[0]
    step = ndl.jit(lambda x: x * float(record["k"]), warmup=0)
    for k in (1.0, 2.0, 3.0):
        record["k"] = k
        assert step(ndl.Tensor([1.0])).item() == k


class Plain:
    def __init__(self):
        self.factor, self.offsets = 1.0, [1.0]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor, self.offsets = 1.0, [1.0]


@pytest.mark.parametrize("cls", [Plain, Scaled])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_attributes_of_a_copy_are_those_of_the_original(cls, copied):
    held = cls()

    def function(x):
        twin = copied(held)
        return x * twin.factor + twin.offsets[0]

    expect_fresh(
        function,
        lambda: setattr(held, "factor", 2.0),
        lambda: held.offsets.insert(0, 3.0),
        lambda: setattr(held, "offsets", [4.0]),
    )


@pytest.mark.parametrize("cls", [Plain, Scaled])
@pytest.mark.parametrize("read", [lambda held: held.factor, lambda held: sum(vars(held).values())])
def test_another_dict_of_attributes(cls, read):
    held = cls()
    del held.offsets
    for name in vars(held).keys() - {"factor"}:
        delattr(held, name)
    expect_fresh(
        lambda x: x * read(held),
        lambda: setattr(held, "__dict__", {"factor": 2.0}),
        lambda: setattr(held, "factor", 3.0),
        lambda: setattr(held, "__dict__", {"factor": 3.0, "more": 0.0}),
    )


total, late = ndl.Tensor([1.0]), nn.Module()
late.entries, late.file = globals(), sys.modules[__name__]


@pytest.mark.parametrize("read", [lambda: late.entries["total"], lambda: late.file.total])
def test_a_variable_that_is_reached_late_in_another_way_is_put_back(read):
    def step(x):
        global total
        total = total + x
        return float(read())

    held = total
    with pytest.raises(ndl.TraceError, match="not known while a jitted function is traced"):
        ndl.jit(step, warmup=0)(ndl.Tensor([2.0]))
    assert total is held


def test_an_attribute_that_is_reached_late_as_an_entry_is_put_back():
    state, reached = nn.Module(), nn.Module()
    state.total = before = ndl.Tensor([1.0])
    reached.entries = vars(state)

    @ndl.jit(warmup=0)
    def step(x):
        state.total = state.total + x
        return float(reached.entries["total"])

    with pytest.raises(ndl.TraceError, match="not known while a jitted function is traced"):
        step(ndl.Tensor([2.0]))
    assert state.total is before
