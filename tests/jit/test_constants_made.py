"""Constants that a function makes while it is traced: some are kept where nobody looks."""

from collections import deque
from functools import lru_cache

import numpy as np
import pytest

import needle as ndl
from needle import nn


def test_a_constant_that_a_cache_keeps_is_read_there():
    class Masked(nn.Module):
        @lru_cache  # noqa: B019
        def mask(self, size):
            return ndl.Tensor(np.ones(size), requires_grad=False)

        def forward(self, x):
            return x * self.mask(2)

    layer = Masked()
    step, x = ndl.jit(layer, warmup=0), ndl.Tensor([1.0, 2.0])
    for factor in (1.0, 2.0, 3.0):
        layer.mask(2).data = ndl.Tensor([factor, factor])
        assert [step(x).tolist() for _ in range(2)] == [[factor, 2 * factor]] * 2
        assert len(step.programs) == 1
    layer.mask.cache_clear()
    step = ndl.jit(layer, warmup=0)
    assert step(x).tolist() == [1.0, 2.0]
    layer.mask(2).data = ndl.Tensor([5.0, 5.0])
    assert step(x).tolist() == [5.0, 10.0]


def test_constants_that_nothing_keeps_are_no_state():
    def function(x):
        w = ndl.Tensor([2.0], requires_grad=False)
        w.requires_grad = True
        (w * x).sum().backward()
        w.data = w - w.grad
        return w, [w.grad, ndl.Tensor([1.0])]

    step = ndl.jit(function, warmup=0)
    for k in (1.0, 2.0, 3.0):
        w, (grad, one) = step(ndl.Tensor([k]))
        assert (w.item(), grad.item(), one.item()) == (2.0 - k, k, 1.0)
    assert len(step.programs) == 1


def test_a_constant_that_is_kept_at_each_call_is_told():
    kept = deque()

    def function(x):
        kept.append(ndl.Tensor([1.0]))
        return x * kept[-1]

    step, x = ndl.jit(function), ndl.Tensor([1.0])
    for _ in range(3):
        assert step(x).item() == 1.0
    with pytest.raises(ndl.TraceError, match=r"what keeps a tensor of shape \(1,\) gets something"):
        step(x)
