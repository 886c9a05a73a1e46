"""What a function adds to lists and deques stays only where its call is traced to the end."""

from array import array
from collections import deque

import numpy as np
import pytest

import needle as ndl
from needle import nn

WEIGHTS = [nn.Parameter([float(k)]) for k in range(4)]
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


class Scale(ndl.TensorOp):
    def __init__(self, factor):
        self.factor = factor

    def compute(self, x):
        self.kept = x * self.factor
        return self.kept


@pytest.mark.parametrize(
    "result",
    [
        lambda x, log: x * len(log),
        lambda x, log: x.broadcast_to((len(log),)),
        lambda x, log: (x, len(log)),
        lambda x, log: x + ndl.Tensor([float(sum(log))]),
        lambda x, log: x.exp() if len(log) % 2 else x.sin(),
        lambda x, log: (x + WEIGHTS[len(log)]).reshape(1),
        lambda x, log: Scale(len(log))(x),
        lambda x, log: Scale(np.array([len(log)]))(x),
        lambda x, log: (x, np.array(len(log))),
    ],
    ids=["factor", "shape", "number", "constant", "operator", "state", "own", "own-array", "array"],
)
def test_what_depends_on_what_was_added_is_made_eagerly_and_then_refused(log, result):
    def step(x):
        log.append(1)
        return result(x, log)

    call, x = ndl.jit(step, warmup=0), ndl.Tensor([0.5])
    for length in (1, 2):
        found, expected = call(x), result(x, [1] * length)
        if isinstance(expected, tuple):
            assert found[1] == expected[1] == length
        else:
            np.testing.assert_array_equal(found.numpy(), expected.numpy())
        assert list(log) == [1] * length
    with pytest.raises(
        ndl.TraceError, match=r"log gets something new .* depends on that: add to log"
    ):
        call(x)
    assert list(log) == [1, 1]


@pytest.mark.parametrize("most", [1, 2, 99])
def test_what_is_only_added_is_no_matter(log, most):
    def step(x):
        if len(log) < most:
            log.append(len(log))
        y = x * ndl.Tensor([3.0]) + WEIGHTS[0]
        return {"y": ndl.init.rand(1) + Scale(2)(y), "name": "y"}

    call, x = ndl.jit(step, warmup=0), ndl.Tensor([0.5])
    for _ in range(4):
        call(x)
    assert list(log) == [0]
    assert [program.calls for program in call.programs] == [4]
