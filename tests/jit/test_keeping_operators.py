"""What a user's own operator keeps, counts, draws and reads beside its operands."""

from functools import partial

import numpy as np
import pytest

import needle as ndl
from needle import nn


def test_its_attributes_may_change():
    class Scale(ndl.TensorOp):
        factor = 2.0

        def compute(self, x):
            return x * self.factor

    op = Scale()
    step = ndl.jit(lambda x: op(x), warmup=0)
    assert step(ndl.Tensor([1.0], requires_grad=False)).tolist() == [2.0]
    op.factor = 5.0  # compute runs in Python at each call
    assert step(ndl.Tensor([1.0], requires_grad=False)).tolist() == [5.0]


class Remembering(ndl.TensorOp):
    """Keeps something of each call, in every way."""

    def __init__(self):
        self.calls = 0
        self.mean = 0.0
        self.total, self.fixed = np.zeros(2), np.broadcast_to(1.0, (2,))
        self.log, self.seen, self.by_call = [], set(), {}
        self.steps = ndl.Tensor(0, requires_grad=False)
        self.rng = np.random.default_rng(0)

    def compute(self, x):
        self.calls += 1
        self.mean = 0.5 * self.mean + x.mean()
        self.total += x
        self.log.append(self.mean)
        self.seen.add(self.calls)
        self.by_call[self.calls] = self.mean
        self.steps.data = self.steps + 1
        self.late = x.copy()
        return x * self.calls + self.total + self.steps.item() + self.rng.random(x.shape)

    def gradient(self, out_grad, node):
        self.calls += 10
        return out_grad * self.calls * self.late[0]


@pytest.mark.parametrize("warmup", [0, 1])
def test_what_it_keeps_is_that_of_eager_calls(warmup):
    def run(jit):
        op, found = Remembering(), []

        @jit
        def step(x):
            y = op(x).sum()
            y.backward()
            return y, x.grad

        for k in range(4):
            x = ndl.Tensor([1.0, k])
            y, grad = step(x)
            found += [y.item(), *grad.tolist(), x.grad.tolist(), op.calls, op.mean, [*op.log]]
            found += [op.total.tolist(), {*op.seen}, {**op.by_call}, op.steps.item(), [*op.late]]
        return found

    assert run(partial(ndl.jit, warmup=warmup)) == run(lambda f: f)


def test_it_may_draw_from_numpy():
    class Noise(ndl.TensorOp):
        def compute(self, x):
            return x + np.random.rand(*x.shape)

    op = Noise()
    step = ndl.jit(lambda x: op(x), warmup=0)
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    np.random.seed(0)
    expected = [op(x).tolist() for _ in range(3)]
    np.random.seed(0)
    assert [step(x).tolist() for _ in range(3)] == expected


RNG = np.random.RandomState(0)


@pytest.mark.parametrize("where", ["attribute", "closure", "global", "gradient"])
def test_it_may_draw_from_a_generator_of_its_own(where):
    def run(jit):
        rng = np.random.default_rng(0)
        RNG.seed(0)

        class Noise(ndl.TensorOp):
            def __init__(self):
                self.rng = np.random.default_rng(0)

            def compute(self, x):
                draw = {
                    "attribute": lambda: self.rng.random(x.shape),
                    "closure": lambda: rng.random(x.shape),
                    "global": lambda: RNG.rand(*x.shape),
                    "gradient": lambda: 0,
                }
                return x + draw[where]()

            def gradient(self, out_grad, node):
                return out_grad * RNG.rand()

        op = Noise()
        step = jit(ndl.value_and_grad(lambda x: (op(x * 2) + op(x)).sum()))
        x = ndl.Tensor([1.0, 2.0])
        return [(value.tolist(), grad.tolist()) for value, grad in [step(x) for _ in range(4)]]

    np.testing.assert_allclose(
        *[[np.hstack(row) for row in run(jit)] for jit in (lambda f: f, partial(ndl.jit, warmup=1))]
    )


def test_a_number_that_an_operator_counts_and_the_function_reads_is_no_constant():
    """A program calls `compute`, and so would count, but would not read what it has counted."""
    counts = {"calls": 0}

    class Counting(ndl.TensorOp):
        def compute(self, x):
            counts["calls"] += 1
            return x

    step = ndl.jit(lambda x: Counting()(x) * counts["calls"], warmup=0)
    with pytest.raises(ndl.TraceError, match=r"counts\['calls'\] changed .* and is a constant of"):
        step(ndl.Tensor([1.0]))


def test_what_it_keeps_is_not_changed_twice_by_a_checked_call():
    expected, op = Remembering(), Remembering()
    step = ndl.jit(lambda x: op(x) + op(x * 2), warmup=0, check=True)
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    for _ in range(3):
        assert step(x).tolist() == (expected(x) + expected(x * 2)).tolist()


class ScaledBy(ndl.TensorOp):
    def __init__(self, factor):
        self.factor = factor

    def compute(self, x):
        return x * self.factor.numpy()


@pytest.mark.parametrize("made", [lambda x, w: x * 2, lambda x, w: w * 2, lambda x, w: w.detach()])
def test_what_it_reads_has_to_be_an_operand_where_the_function_computes_it(made):
    """A program calls it before state is written; in the trace the value became a constant."""
    factor = nn.Parameter([1.0, 2.0])
    op = ScaledBy(factor)

    def step(x):
        factor.data = made(x, factor)
        return op(x)

    x = ndl.Tensor([3.0, 4.0], requires_grad=False)
    for _ in range(2):
        with pytest.raises(ndl.TraceError, match=r"an operator of your own reads it.* operand"):
            ndl.jit(step, warmup=0)(x)
        assert factor.tolist() == [1.0, 2.0]
    assert ndl.jit(lambda x: op(x) + factor, warmup=0)(x).tolist() == [4.0, 10.0]


LOG = []


@pytest.mark.parametrize("warmup", [0, 1])
def test_what_its_code_names_is_left_by_a_trace_as_it_was(warmup):
    def run(jit):
        counts, total = {"calls": 0}, np.zeros(())
        LOG.clear()

        class Counting(ndl.TensorOp):
            def compute(self, x):
                counts["calls"] += 1
                LOG.append(float(x[0]))
                return x * 2

            def gradient(self, out_grad, node):
                total[...] += 1
                return out_grad * 2

        first, second = Counting(), Counting()
        step = jit(ndl.value_and_grad(lambda x: second(first(x)).sum()))
        grads = [step(ndl.Tensor([k, 1.0]))[1].tolist() for k in range(4)]
        return grads, counts, [*LOG], total.tolist()

    assert run(partial(ndl.jit, warmup=warmup)) == run(lambda f: f)
