"""Float arguments that a function puts into attributes which held numbers."""

from dataclasses import dataclass

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Log:
    def __init__(self):
        self.last = 0.0
        self.first = None


@dataclass
class Record:
    last: float = 0.0
    first: object = None


class Descent:
    """An optimiser of a user's own."""

    def __init__(self, w, lr):
        self.w, self.lr = w, lr

    def step(self):
        self.w.data = self.w - self.lr * self.w.grad


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("kind", [Log, Record, nn.Module])
def test_a_float_argument_is_kept_where_a_number_was(kind, warmup):
    log = kind()
    log.last, log.first = 0.0, None

    def function(x, rate):
        log.last = rate
        log.first = rate * 2
        return x * log.last

    step = ndl.jit(function, warmup=warmup)
    for k in range(6):
        assert step(ndl.Tensor([1.0]), k + 0.5).item() == log.last == k + 0.5
        assert log.first == 2 * k + 1.0
        assert type(log.last) is type(log.first) is float
        if k == 4:
            log.last = 100
    assert len(step.programs) == 1


def test_a_rate_is_set_before_an_optimiser_of_ones_own_reads_it():
    found = []
    for jit in (ndl.jit, lambda function: function):
        w = nn.Parameter(np.ones(3))
        opt = Descent(w, 0.1)

        def function(x, rate, w=w, opt=opt):
            opt.lr = rate
            (w * w * x).sum().backward()
            opt.step()

        step = jit(function)
        for k in range(6):
            step(ndl.Tensor([1.0, 2.0, 3.0]), 0.1 / (k + 1))
            found.append((w.tolist(), opt.lr))
    np.testing.assert_allclose([w for w, _ in found[:6]], [w for w, _ in found[6:]])
    assert [rate for _, rate in found[:6]] == [rate for _, rate in found[6:]]


def test_a_number_that_is_read_later_in_another_way_is_a_constant_still():
    log = Log()

    def function(x, rate, *, keep):
        if keep:
            log.last = rate
        return x * log.last

    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])
    assert step(x, 2.0, keep=True).item() == 2.0
    assert step(x, 3.0, keep=False).item() == 2.0
    assert step(x, 4.0, keep=True).item() == 4.0
    assert step(x, 3.0, keep=False).item() == 4.0
    log.last = 7
    assert step(x, 3.0, keep=False).item() == 7.0


def test_a_number_that_is_set_to_what_it_was_has_to_be_that():
    log = Log()
    log.last = 3.0

    def function(x):
        log.last = 3.0
        return x * log.last

    step = ndl.jit(function, warmup=0)
    x = ndl.Tensor([1.0])
    for last in (3.0, 3.0, 5.0, 5.0, 3.0):
        log.last = last
        assert step(x).item() == 3.0
        assert log.last == 3.0


def test_a_number_of_a_list_or_dict_is_read_with_it():
    rates = [0.5]

    @ndl.jit(warmup=0)
    def step(x, rate):
        rates[0] = rate
        return x * rate

    x = ndl.Tensor([1.0])
    step(x, 1.5)
    step(x, 2.5)
    with pytest.raises(ndl.TraceError, match=r"rates\[0\] gets .* Set rates\[0\] outside"):
        step(x, 3.5)
