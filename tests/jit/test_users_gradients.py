"""A user's gradient rule in a compiled step: it may read numbers, and what `compute` left."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import needle as ndl


class Sinh(ndl.TensorOp):
    """Its rule reads numbers, as the course's homework does."""

    def compute(self, x):
        return np.sinh(x)

    def gradient(self, out_grad, node):
        return out_grad * ndl.Tensor(np.cosh(node.inputs[0].realize_cached_data()))


class Masked(ndl.TensorOp):
    """Its rule reads what `compute` left behind."""

    def compute(self, x):
        self.mask = (x > 0).astype(x.dtype)
        return x * self.mask

    def gradient(self, out_grad, node):
        return out_grad * self.mask


class Picked(ndl.TensorOp):
    """Two inputs, the second without a gradient."""

    def compute(self, x, index):
        self.where = (np.arange(len(x)), index.astype(int))
        return x[self.where]

    def gradient(self, out_grad, node):
        grad = np.zeros(node.inputs[0].shape)
        grad[self.where] = out_grad.numpy()
        return ndl.Tensor(grad), None


class Divided(ndl.TensorOp):
    def compute(self, a, b):
        return a / b

    def gradient(self, out_grad, node):
        _, b = node.inputs
        return out_grad / b, -out_grad * node.numpy() / b


class Both(ndl.TensorTupleOp):
    def compute(self, x):
        return x * x, x + 1

    def gradient(self, out_grad, node):
        return out_grad[0] * 2 * node.inputs[0].numpy() + out_grad[1]


def points(k, size=3):
    return np.random.default_rng(k).uniform(-2, 2, size)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("op", "derivative"), [(Sinh, np.cosh), (Masked, lambda x: (x > 0) * 1.0)])
def test_it_is_called_with_the_numbers_of_each_call(op, derivative, shared):
    one = op()

    @ndl.jit
    def step(x):
        y = (one if shared else op())(x)
        (y * 2).sum().backward()
        return x.grad

    for k in range(4):
        x = points(k)
        np.testing.assert_allclose(step(ndl.Tensor(x)).numpy(), 2 * derivative(x))
    assert len(step.programs) == 1


def test_differentiated_from_outside():
    f = ndl.jit(lambda x: Sinh()(Masked()(x)).sum())
    for k in range(4):
        x = ndl.Tensor(points(k))
        f(x).backward()
        np.testing.assert_allclose(x.grad.numpy(), (x.numpy() > 0) * np.cosh(x.numpy()))


def test_an_input_without_a_gradient():
    @ndl.jit
    def step(x, index):
        Picked()(x, index).sum().backward()
        return x.grad, index.grad

    for k in range(4):
        index = np.random.default_rng(k).integers(3, size=4)
        grad, none = step(ndl.Tensor(points(k, (4, 3))), ndl.Tensor(index))
        np.testing.assert_array_equal(grad.numpy(), np.eye(3)[index])
        assert none is None


def test_of_several_inputs_and_of_several_results():
    def step(a, b):
        first, second = Both()(Divided()(a, b))
        (first * second).sum().backward()
        return a.grad, b.grad

    compiled = ndl.jit(step)
    for k in range(4):
        a, b = points(k), points(k + 10)
        got = compiled(ndl.Tensor(a), ndl.Tensor(b))
        outer = 3 * (a / b) ** 2 + 2 * a / b  # of q³ + q²
        for value, expected in zip(got, (outer / b, -outer * a / b**2), strict=True):
            np.testing.assert_allclose(value.numpy(), expected)


def test_its_own_gradient_is_its_rules():
    """What a rule takes from NumPy is a constant of it, compiled and eager."""

    def twice(a, b):
        return ndl.grad(lambda a, b: ndl.grad(lambda a, b: Divided()(a, b).sum(), 1)(a, b).sum())(
            a, b
        )

    compiled = ndl.jit(twice)
    for k in range(4):
        a, b = points(k), points(k + 10)
        expected = twice(ndl.Tensor(a), ndl.Tensor(b)).numpy()
        np.testing.assert_allclose(compiled(ndl.Tensor(a), ndl.Tensor(b)).numpy(), expected)


def test_calls_keep_the_order_of_the_program():
    """One operator for two batches, each with its own backward: its mask is the last call's."""
    op = Masked()

    @ndl.jit
    def step(a, b):
        op(a).sum().backward()
        op(b * 1.0 * 1.0).sum().backward()
        return a.grad, b.grad

    for k in range(4):
        a, b = points(k), points(k + 10)
        for grad, x in zip(step(ndl.Tensor(a), ndl.Tensor(b)), (a, b), strict=True):
            np.testing.assert_array_equal(grad.numpy(), x > 0)


def test_what_it_raises_and_a_rule_that_does_not_fit():
    class Wrong(Sinh):
        def gradient(self, out_grad, node):
            return 1

    class Failing(Sinh):
        def gradient(self, out_grad, node):
            raise ValueError("not today")

    for op, error, words in ((Wrong, ndl.GradientError, "Wrong: gradient returned int"),
                             (Failing, ValueError, "not today")):  # fmt: skip
        step = ndl.jit(lambda x, op=op: ndl.grad(lambda x: op()(x).sum())(x), warmup=0)
        with pytest.raises(error, match=words):
            step(ndl.Tensor(points(0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_operator_behind_a_float_argument_or_rate_has_the_dtype_of_the_tensor(dtype):
    """Numbers that change from call to call decide no dtype, where its result is learnt either."""

    class Rounded(ndl.TensorOp):
        def compute(self, x):
            return np.round(x, 1)

        def gradient(self, out_grad, node):
            return out_grad

    def run(jit):
        weight = ndl.nn.Parameter(np.array([0.13, 0.57], dtype))
        opt = ndl.optim.Adam([weight], lr=0.1)

        def step(x, k):
            (Rounded()(x * k) * weight).sum().backward()
            opt.step()
            opt.reset_grad()
            weight.data = Rounded()(weight)
            return Rounded()(weight * opt.lr)

        step = jit(step)
        x = ndl.Tensor([1.0, 2.0], dtype=dtype, requires_grad=False)
        return [step(x, k).tolist() for k in (0.5, 1.5, 2.5)], weight.dtype

    assert run(lambda f: ndl.jit(f, warmup=0)) == run(lambda f: f)


class Drifting(ndl.TensorOp):
    """What it gives depends on how often it was run."""

    def __init__(self):
        self.calls = 0
        self.rng = np.random.default_rng(0)

    def compute(self, x):
        self.calls += 1
        return x * self.calls + self.rng.random(x.shape)

    def gradient(self, out_grad, node):
        return out_grad * self.calls


class DriftingApart(ndl.TensorTupleOp):
    def __init__(self):
        self.calls = 0

    def compute(self, x):
        self.calls += 1
        return x * self.calls, x - self.calls

    def gradient(self, out_grad, node):
        return out_grad[0] * self.calls + out_grad[1]


def first_and_second(values):
    return values[0] * values[1]


@pytest.mark.parametrize(
    ("make", "joined"), [(Drifting, lambda value: value), (DriftingApart, first_and_second)]
)
def test_an_operator_is_not_run_again_for_a_gradient_from_outside(make, joined):
    def run(jit):
        op, found = make(), []
        call = jit(lambda x: (joined(op(x * 3)) ** 3).sum())
        for _ in range(3):
            x = ndl.Tensor([1.0, 2.0])
            call(x).backward()
            first = x.grad
            (first * first).sum().backward()
            found += [*first.tolist(), *x.grad.tolist(), op.calls]
        return found

    np.testing.assert_allclose(run(lambda f: ndl.jit(f, warmup=0)), run(lambda f: f), rtol=1e-12)


class Dropped(ndl.TensorOp):
    """Its rule and the rule's gradient read what `compute` drew."""

    def compute(self, x):
        self.mask = np.random.rand(*x.shape) > 0.5
        return x**2 * self.mask

    def gradient(self, out_grad, node):
        return out_grad * ndl.Tensor(self.mask * 2.0, requires_grad=False) * node.inputs[0]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_gradient_from_outside_reads_what_its_own_call_left_behind(order):
    """Other calls, and other gradients, came between."""

    def run(jit):
        np.random.seed(0)
        call = jit(lambda x: (Dropped()(x * 2) ** 2).sum())
        inputs = [ndl.Tensor(np.arange(1.0, 9.0) + k) for k in range(3)]
        values = [call(x) for x in inputs]
        for _ in range(order):
            for value in values:
                value.backward()
            values = [x.grad.sum() for x in inputs]
        return [x.grad.tolist() for x in inputs]

    np.testing.assert_allclose(run(lambda f: ndl.jit(f, warmup=0)), run(lambda f: f), rtol=1e-12)


def test_gradients_from_outside_in_threads():
    call = ndl.jit(lambda x: Masked()(x).sum(), warmup=0)

    def is_right(k):
        x = ndl.Tensor(points(k))
        call(x).backward()
        return (x.grad.numpy() == (x.numpy() > 0)).all()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(is_right, range(200)))


def test_what_a_rule_assigns_stays_after_a_gradient_from_outside():
    class Counted(Masked):
        gradients = 0

        def gradient(self, out_grad, node):
            self.gradients += 1
            return out_grad * self.mask

    def run(jit):
        op = Counted()
        call = jit(lambda x: op(x).sum())
        for _ in range(3):
            call(ndl.Tensor([1.0, -1.0])).backward()
        return op.gradients, op.mask.tolist()

    assert run(lambda f: ndl.jit(f, warmup=0)) == run(lambda f: f)


def test_what_an_operator_assigned_is_not_read_by_the_function():
    """Programs read state once, before they call operators."""

    class Averaged(ndl.TensorOp):
        def __init__(self):
            self.mean = ndl.Tensor([0.0, 0.0], requires_grad=False)

        def compute(self, x):
            self.mean.data = ndl.Tensor(self.mean.numpy() * 0.5 + x, requires_grad=False)
            return x * 1

        def gradient(self, out_grad, node):
            return out_grad

    op, expected = Averaged(), Averaged()
    x = ndl.Tensor([3.0, 4.0], requires_grad=False)
    with pytest.raises(ndl.TraceError, match=r"shape \(2,\) is read at .* after an operator"):
        ndl.jit(lambda x: op(x) + op.mean, warmup=0)(x)
    assert op.mean.tolist() == [0.0, 0.0]

    def step(op, x):
        before = op.mean * 2
        return before, op(x), op.mean

    compiled = ndl.jit(lambda x: step(op, x), warmup=0)
    for _ in range(3):
        found, wanted = compiled(x), step(expected, x)
        assert [part.tolist() for part in found] == [part.tolist() for part in wanted]
