"""Reverse mode from some results of a compiled call: each pass knows which those are by itself."""

from functools import cmp_to_key, partial

import numpy as np
import pytest

import needle as ndl


class Failing(ndl.ops.TensorOp):
    def compute(self, x):
        return x

    def gradient(self, out_grad, node):
        raise ArithmeticError


def test_after_a_backward_that_failed_the_next_one_begins_anew():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    first, second = ndl.jit(lambda: (a * 2, b * 3), warmup=0)()
    with pytest.raises(ArithmeticError):
        (Failing()(second) + first).backward()  # comes to `first` before that raises
    second.backward()
    assert a.grad is None
    assert b.grad.tolist() == [3.0]
    (first * second + second).backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([12.0], [9.0])


def test_elements_taken_of_the_tuple_of_a_compiled_call():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    first, _ = ndl.jit(lambda: (a * 2, b * 3), warmup=0)()
    (first.inputs[0][1] + first).backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([2.0], [3.0])


def test_second_derivatives_through_some_results():
    a, b = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    first, second = ndl.jit(lambda: (a**3, (a * b) ** 2), warmup=0)()
    first.backward()
    a.grad.backward()
    assert a.grad.tolist() == [6.0]
    assert b.grad is None
    second.backward()
    a.grad.backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([8.0], [8.0])


@pytest.mark.parametrize("wrapped", [lambda f: f, ndl.jit])
def test_what_a_differentiated_function_reads_is_watched(wrapped):
    options = {"factor": 1.0}
    f = wrapped(lambda x: (x**3 * options["factor"]).sum())
    slope, both = (ndl.jit(g(f), warmup=0) for g in (ndl.grad, ndl.value_and_grad))
    x = ndl.Tensor([2.0])
    for factor in (1.0, 2.0, 3.0):
        options["factor"] = factor
        assert slope(x).item() == both(x)[1].item() == 12.0 * factor


def test_state_that_a_differentiated_function_writes():
    seen = ndl.zeros(1)

    def loss(x):
        nonlocal seen
        seen = seen + 1
        return (x**2 * seen).sum()

    step = ndl.jit(ndl.grad(loss), warmup=0)
    for k in range(1, 5):
        assert step(ndl.Tensor([1.0])).item() == 2.0 * k == 2.0 * seen.item()


def asked(thing):
    assert vars(thing)  # from then on its attributes are no referents, but those of the dict
    return thing


def order(f):
    return cmp_to_key(lambda a, b: f(a) - f(b))


@pytest.mark.parametrize(
    "wrapped",
    [
        np.vectorize,
        lambda f: asked(np.vectorize(f)),
        lambda f: np.frompyfunc(f, 1, 1),
        lambda f: partial(lambda by, value: max([1.0, value], key=by), order(f)),
    ],
)
def test_what_a_library_calls_that_it_was_given_is_watched(wrapped):
    options = {"factor": 1.0}
    scale = wrapped(lambda value: value * options["factor"])
    step = ndl.jit(lambda x: x * float(scale(2.0)), warmup=0)
    for factor in (1.0, 2.0, -3.0):
        options["factor"] = factor
        assert step(ndl.Tensor([1.0])).item() == float(scale(2.0))
