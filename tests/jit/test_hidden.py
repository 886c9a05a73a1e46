"""Arguments that a function returns or keeps where a program could not put those of a call."""

import argparse
from collections import ChainMap, UserDict, UserList, deque
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, SimpleNamespace
from weakref import ref

import numpy as np
import pytest

import needle as ndl
from needle import nn


@dataclass
class Output:
    value: object


@dataclass(slots=True)
class Slotted:
    value: object


class Keeper(nn.Module):
    def forward(self, x):
        self.last = x
        return self


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def apply(self):
        return self.factor * 2


def with_twin(x):
    result = x * 2
    result.twin = x
    return result


@pytest.mark.parametrize(
    ("function", "within"),
    [
        (lambda x: Output(x), "a Output"),
        (lambda x: [Slotted((1, {"a": x}))], "a Slotted"),
        (lambda x: Output(Output(x)), "a Output"),
        (lambda x: {"a": {x}}, "a set"),
        (lambda x: {x: x * 2}, "a dict"),
        (lambda x: {"a": {(1, x): 2}}, "a dict"),
        (with_twin, "a Tensor"),
        (lambda x: (x * 2, lambda: x * 2), "a function"),
        (lambda x: lambda by=x: by * 2, "a function"),
        (lambda x: {"a": lambda *, by=(1, x): by}, "a function"),
        (lambda x: lambda: lambda: x, "a function"),
        (lambda x: Scaled(x).apply, "a method"),
        (lambda x: partial(ndl.exp, x), "a partial"),
        (lambda x: partial(max, key=[x]), "a partial"),
        (lambda x: SimpleNamespace(loss=1, x=x), "a SimpleNamespace"),
        (lambda x: argparse.Namespace(x=[x]), "a Namespace"),
        (lambda x: [{"a": x}.items()], "a dict_items"),
        (lambda x: {"a": (x,)}.values(), "a dict_values"),
        (lambda x: UserDict(a=x).items(), "a ItemsView"),
        (lambda x: {"a": x}.get, "a builtin_function_or_method"),
        (lambda x: MappingProxyType({"a": x}), "a mappingproxy"),
        (lambda x: ChainMap({"a": x}), "a ChainMap"),
        (lambda x: UserDict(a=x), "a UserDict"),
        (lambda x: UserList([x]), "a UserList"),
        (lambda x: slice(x, None), "a slice"),
        (lambda x: ValueError("too large", x), "a ValueError"),
        (lambda x: np.array([[None, {"a": x}]], object), "a ndarray"),
        (lambda x: [ref(x)], "a ReferenceType"),
    ],
)
def test_an_argument_in_what_is_no_list_tuple_or_value_of_a_dict_is_told(function, within):
    step, x = ndl.jit(function), ndl.Tensor([1.0, 2.0], requires_grad=False)
    step(x)
    message = rf"returned or kept {within} with an argument of shape \(2,\) in it"
    with pytest.raises(ndl.TraceError, match=message):
        step(x)


def test_an_argument_kept_so_is_told():
    holder = argparse.Namespace(last=None)

    def function(x):
        holder.last = [x * 2, Output(x)]
        return x * 2

    step, x = ndl.jit(function), ndl.Tensor([1.0])
    step(x)
    with pytest.raises(ndl.TraceError, match="returned or kept a Output with an argument"):
        step(x)


def test_an_argument_added_to_a_deque_is_told():
    memory = deque([(0, ndl.Tensor([3.0]))])

    def function(x):
        memory.append((1, {"state": x}))
        return x * 2

    step, x = ndl.jit(function), ndl.Tensor([1.0])
    step(x)
    with pytest.raises(ndl.TraceError, match=r"kept a deque with an argument of shape \(1,\)"):
        step(x)


def test_an_argument_that_is_in_a_deque_may_be_passed():
    memory, x = deque([ndl.Tensor([3.0])]), ndl.Tensor([1.0])

    def function(x):
        memory.append(1)
        return x * memory[0]

    step = ndl.jit(function, warmup=0)
    assert [float(step(given).sum()) for given in (memory[0], x)] == [9.0, 3.0]


def test_arguments_elsewhere_and_other_tensors_are_as_eagerly():
    w, keeper = nn.Parameter([1.0]), Keeper()
    step = ndl.jit(lambda x: (x, {"a": [x]}, {w: x}, Output(w), keeper(x)))
    for k in range(4):
        x = ndl.Tensor([float(k)])
        same, nested, by_weight, output, kept = step(x)
        assert same is x
        assert nested["a"][0] is x
        assert by_weight[w] is x
        assert output.value is w
        assert kept is keeper
        assert keeper.last is x


seen = deque()


@pytest.mark.parametrize("given", [0.5, np.ones(2)])
@pytest.mark.parametrize("keep", [Output, lambda value: seen.append(value)])
def test_what_stands_for_a_float_or_array_is_not_kept(keep, given):
    seen.clear()

    def function(x, number):
        return x * 2, keep(number)

    step, x = ndl.jit(function, warmup=0), ndl.Tensor([1.0, 2.0])
    with pytest.raises(ndl.TraceError, match="what stands for a float or array that is passed"):
        step(x, given)


def test_what_stands_for_a_hyperparameter_is_not_kept():
    opt, rates = ndl.optim.SGD([nn.Parameter([1.0])], lr=0.5), deque()

    def function(x):
        rates.append(opt.lr)
        return x * opt.lr

    with pytest.raises(ndl.TraceError, match="or for a hyperparameter, was kept outside"):
        ndl.jit(function, warmup=0)(ndl.Tensor([1.0]))
    assert opt.lr == 0.5
