"""What a function adds to lists and deques stays only where its call is traced to the end."""

from array import array
from collections import deque

import pytest

import needle as ndl
from needle import nn

KINDS = [list, deque, lambda: array("d"), bytearray]


@pytest.fixture(params=KINDS, ids=["list", "deque", "array", "bytearray"])
def log(request):
    return request.param()


def test_what_is_added_beside_new_state_is_added_once(log):
    module = nn.Module()

    @ndl.jit(warmup=0)
    def step(x):
        log.append(1)
        module.last = x * 2
        return x

    lengths = []
    for _ in range(3):
        step(ndl.Tensor([1.0]))
        lengths.append(len(log))
    assert lengths == [1, 2, 2]  # as written; traced; the program


@pytest.mark.parametrize(
    "result",
    [
        lambda x: float(x.sum()),
        lambda x: (y for y in [x]),
        lambda x: {x * 2},
        lambda x: {x},
    ],
)
def test_nothing_is_added_where_a_call_does_not_trace(log, result):
    log.append(1)

    def step(x):
        log.append(2)
        return result(x)

    with pytest.raises(ndl.TraceError):
        ndl.jit(step, warmup=0)(ndl.Tensor([1.0]))
    assert list(log) == [1]


def test_a_number_that_changes_beside_does_not_add_twice(log):
    module = nn.Module()
    module.batch = 0

    @ndl.jit(warmup=0)
    def step(x):
        log.append(1)
        module.batch = x.shape[0]
        return x

    step(ndl.Tensor([1.0]))
    assert len(log) == 1
