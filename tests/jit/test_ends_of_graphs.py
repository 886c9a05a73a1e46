"""Where reverse mode ends in a compiled call: at arguments, at state, at what is frozen."""

from functools import partial

import pytest

import needle as ndl
from needle import nn


def given(value):
    return ndl.Tensor([value], requires_grad=False)


@pytest.mark.parametrize("warmup", (0, 1))
def test_a_grad_that_is_reset_hides_no_backward_beyond_an_argument(warmup):
    w = nn.Parameter([2.0])

    def step(x):
        x.grad = w.grad = None
        (x * w).sum().backward()
        x.grad = None
        return w.grad

    compiled = ndl.jit(step, warmup=warmup)
    with pytest.raises(ndl.TraceError, match="reaches an argument"):
        [compiled(w * 3) for _ in range(2)]
    x = ndl.Tensor([3.0])
    assert [compiled(x).item() for _ in range(3)] == [3.0] * 3
    assert x.grad is None
    resetting = ndl.jit(lambda x: setattr(x, "grad", None), warmup=0)
    resetting(w * 3)  # without backward there is nothing to lose


@pytest.mark.parametrize("warmup", (0, 1))
def test_a_grad_that_is_reset_hides_no_backward_beyond_state(warmup):
    """Eagerly, backward of the second call goes on into the graph of the first."""
    w, h = nn.Parameter([0.5]), [ndl.Tensor([0.0])]

    def step(x):
        old = h[0]
        h[0] = (old * w + x).tanh()
        h[0].sum().backward()
        old.grad = None
        return w.grad

    compiled = ndl.jit(step, warmup=warmup)
    with pytest.raises(ndl.TraceError, match=r"h\[0\] keeps the graph"):
        [compiled(given(1.0)) for _ in range(3)]


def frozen_parameter(w, x):
    w.data = w * 1.5  # as an optimiser's step does
    y = w * x
    w.requires_grad = False
    y = y * w
    w.requires_grad = True
    return y


def frozen_value(w, x):
    h = w * x
    y = h + x
    h.requires_grad = False
    y = y * h
    h.requires_grad = True
    return y


@pytest.mark.parametrize("forward", (frozen_parameter, frozen_value))
def test_what_was_frozen_for_a_while_gets_its_gradient(forward):
    sets = []
    for jit in (lambda f: f, partial(ndl.jit, warmup=0)):
        w = nn.Parameter([0.5])

        @jit
        def step(x, w=w):
            forward(w, x).sum().backward()
            return w.grad

        sets.append([step(given(k)).item() for k in (1.0, 2.0, 3.0)])
    assert sets[0] == sets[1]
