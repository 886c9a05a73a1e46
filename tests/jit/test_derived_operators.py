"""Operators that a user derives from the library's: what the class itself says is what counts."""

from functools import wraps

import numpy as np
import pytest

import needle as ndl
from needle import config, ops
from needle.graph.kinds import Composite, Elementwise


def wide(*shape):
    return ndl.Tensor(np.random.default_rng(3).normal(size=shape).astype("float32"))


class DoubleTanh(ndl.Tanh):
    def compute(self, a):
        return 2 * np.tanh(a)


class Squares(ndl.Summation):
    def compute(self, x):
        return np.sum(x * x, axis=self.axes, keepdims=self.keepdims)


class Shifted(ndl.MatMul):
    def compute(self, a, b):
        return a @ b + 1


class Backwards(ndl.Reshape):
    def compute(self, a):
        return np.reshape(a, self.shape)[::-1]


class Steeper(ops.MulScalar):
    def compute(self, a):
        return a * (self.scalar + 1)


class Tripled(ops.StopGradient):
    def expression(self, e, a):
        return a * 3


class Leaky(ndl.ReLU):
    """Its base has a `compute` of its own, which is quicker than its expression."""

    def expression(self, e, a):
        return e.maximum(a, a * 0.1)


class Quick(Elementwise):
    """Its `compute` is a quick way to the same."""

    def expression(self, e, a):
        return a * a

    def compute(self, a):
        return np.square(a)


class Cubed(Quick):
    def expression(self, e, a):
        return a * a * a


class Fourth(Quick):
    def compute(self, a):
        return a**4


class Sums(ops.LogSumExp):
    def decompose(self, a):
        return a.sum(self.axes)


class Largest(ndl.Summation):
    combine = "maximum"


class Doubled(ndl.Summation):
    """Of another shape than the rule of its base says."""

    def compute(self, x):
        return np.array([x.sum(), x.max()])


def twice(compute):
    @wraps(compute)
    def wrapper(*args):
        return compute(*args) * np.float32(2)

    return wrapper


class Decorated(ndl.Tanh):
    compute = twice(ndl.Tanh.compute)


class Given(ndl.TensorOp):
    def __init__(self, compute):
        self.compute = compute
        self.gradient = lambda out_grad, node: out_grad * float(node.inputs[0].numpy().sum())


def with_attribute(op, compute):
    op.compute = compute
    return op


def ones_times(op):
    """Of a constant of the program, which the compiler knows."""
    return lambda x: x * op(ndl.init.ones(3, 4))


ROWS = wide(3, 4)
X = ROWS.numpy()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (DoubleTanh(), 2 * np.tanh(X)),
        (Squares(axes=1), (X * X).sum(1)),
        (lambda x: Shifted()(x, x.transpose()), X @ X.T + 1),
        (lambda x: Shifted()(x, ndl.init.ones(4, 2)), X @ np.ones((4, 2), "f") + 1),
        (Backwards((12,)), X.ravel()[::-1]),
        (Steeper(2), X * 3),
        (ones_times(Steeper(2)), X * 3),
        (Tripled(), X * 3),
        (Leaky(), np.maximum(X, X * np.float32(0.1))),
        (Quick(), X**2),
        (Cubed(), X**3),
        (Fourth(), X**4),
        (Sums(axes=1), X.sum(1)),
        (Largest(axes=1), X.max(1)),
        (Doubled(), np.array([X.sum(), X.max()])),
        (Decorated(), 2 * np.tanh(X)),
        (Given(np.cos), np.cos(X)),
        (with_attribute(ndl.Tanh(), np.cos), np.cos(X)),
    ],
)
def test_what_a_derived_class_states_is_computed_eagerly_and_in_programs(function, expected):
    compiled = ndl.jit(function, warmup=0)
    for call in (function, compiled, compiled):
        np.testing.assert_allclose(call(ROWS).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_with_a_gradient_of_its_own_alone_it_is_compiled_as_its_base():
    class Steep(ndl.Tanh):
        def gradient(self, out_grad, node):
            return out_grad * 5

    step = ndl.jit(lambda x: (Steep()(x), ndl.grad(lambda v: Steep()(v).sum())(x)), warmup=0)
    y, gradient = step(ROWS)
    np.testing.assert_allclose(y.numpy(), np.tanh(X), rtol=1e-5)
    assert (gradient.numpy() == 5).all()
    if config.jit_mode() == "1":
        assert step.programs[0].backend == "native"


def test_a_gradient_that_was_given_as_an_attribute_may_read_values():
    op = Given(np.cos)
    slope = ndl.jit(ndl.grad(lambda v: op(v).sum()), warmup=0)
    np.testing.assert_allclose(slope(ROWS).numpy(), np.full((3, 4), X.sum()), rtol=1e-5)


def test_lazily_its_shape_is_that_of_what_it_computes(monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    assert Doubled()(ROWS).shape == (2,)


class Scaled(Elementwise):
    def __init__(self, factor):
        self.factor = factor

    def expression(self, e, a):
        return a * self.factor

    def gradient(self, out_grad, node):
        return out_grad * self.factor


class ScaledByParts(Composite, ndl.TensorOp):
    """It states no `compute`: that follows."""

    def __init__(self, factor):
        self.factor = factor

    def decompose(self, a):
        return a * self.factor


class ScaledQuickly(ScaledByParts):
    def compute(self, a):
        return a * self.factor

    def decompose(self, a):
        return a * self.factor


class Slope(ndl.Exp):
    factor = 1.0

    def gradient(self, out_grad, node):
        return out_grad * self.factor


@pytest.mark.parametrize("op", [Scaled(2.0), ScaledByParts(2.0), ScaledQuickly(2.0), Slope()])
def test_attributes_of_operators_that_have_code_are_watched(op):
    op.factor = 2.0
    slope = ndl.jit(ndl.grad(lambda v: op(v).sum()), warmup=0)
    assert slope(ROWS)[0, 0].item() == 2
    op.factor = 5.0
    assert slope(ROWS)[0, 0].item() == 5


class Through(Composite, ndl.TensorOp):
    """By an operator of the user's own, and a tensor."""

    def __init__(self):
        self.factor = ndl.Tensor([2.0, 3.0], requires_grad=False)

    def decompose(self, a):
        return Given(np.cos)(a) * self.factor


def test_what_a_decomposition_reads_is_read_at_each_call():
    op = Through()
    step = ndl.jit(lambda x: op(x) + 1, warmup=0)
    for _ in range(3):
        x = ndl.Tensor([0.5, 1.0])
        np.testing.assert_allclose(step(x).numpy(), np.cos(x.numpy()) * op.factor.numpy() + 1)
        op.factor.data = op.factor * 2


def test_what_is_made_in_the_function_reads_what_is_watched():
    settings = {"factor": 2.0}

    class Layer(ndl.nn.Module):
        shift = 1.0

        def forward(self, x):
            return x * settings["factor"] + self.shift

    class Scaling(Elementwise):
        def expression(self, e, a):
            return a * settings["factor"]

    class Slope(ndl.Tanh):
        def gradient(self, out_grad, node):
            return out_grad * settings["factor"]

    def step(x):
        return Layer()(x), Scaling()(x), ndl.grad(lambda v: Slope()(v).sum())(x)

    compiled = ndl.jit(step, warmup=0)
    for settings["factor"], Layer.shift in ((2.0, 1.0), (3.0, 1.0), (3.0, 4.0)):
        for found, expected in zip(compiled(ROWS), step(ROWS), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6)
    assert len(compiled.programs) == 3
