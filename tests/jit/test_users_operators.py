"""A user's own operator: learnt during the trace, called back in programs, checked at each call."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Cube(ndl.TensorOp):
    def __init__(self):
        self.calls = []

    def compute(self, x):
        self.calls.append(x.copy())
        return x * x * x

    def gradient(self, out_grad, node):
        return out_grad * node.inputs[0] * node.inputs[0] * 3


class Sorted(ndl.TensorTupleOp):
    """Two results: sorted, and the order."""

    def compute(self, x):
        return np.sort(x), np.argsort(x)


class Growing(ndl.TensorOp):
    def __init__(self):
        self.n = 1

    def compute(self, x):
        return np.ones(self.n, x.dtype)


def test_it_is_run_once_on_real_arguments_to_learn_its_result():
    op = Cube()
    step = ndl.jit(lambda x: op(x + 1) * 2, warmup=0)
    x = ndl.Tensor([1.0, 2.0], dtype="float32", requires_grad=False)
    result = step(x)
    assert result.tolist() == [16.0, 54.0]
    assert result.dtype == np.float32
    assert [call.tolist() for call in op.calls] == [[2.0, 3.0]]  # what it learnt was undone
    for k in range(3):
        np.testing.assert_allclose(step(x + k).numpy(), 2 * (x.numpy() + k + 1) ** 3, rtol=1e-6)
    assert len(op.calls) == 4
    assert len(step.programs) == 1


class Shifted(ndl.TensorOp):
    """By what a tensor of its own holds."""

    def __init__(self, shift):
        self.shift = shift

    def compute(self, x):
        return x + 1


def test_a_tensor_that_it_keeps_may_be_given_new_data_by_the_function():
    def world():
        shift = ndl.Tensor([1.0, 2.0], requires_grad=False)
        op = Shifted(shift)

        def step(x):
            shift.data = shift * 2
            return op(x) * shift

        return step, shift

    (eager, expected), (step, shift) = world(), world()
    step = ndl.jit(step, warmup=0)
    x = ndl.Tensor([3.0, 4.0], requires_grad=False)
    for _ in range(3):
        assert step(x).tolist() == eager(x).tolist()
        assert shift.tolist() == expected.tolist()


def test_behind_random_numbers_and_hyperparameters():
    op = Cube()
    state = ndl.Tensor([0.0], requires_grad=False)

    def step(x, k):
        state.data = op(x * k + ndl.init.rand(1, dtype="float64"))
        return state * 2

    compiled = ndl.jit(step, warmup=0)
    for k in (1.0, 2.0, 3.0):
        np.random.seed(1)
        eager = step(ndl.Tensor([2.0], requires_grad=False), k).tolist()
        np.random.seed(1)
        assert compiled(ndl.Tensor([2.0], requires_grad=False), k).tolist() == eager


def test_its_gradient_works():
    op = Cube()
    f = ndl.jit(lambda x: op(x).sum(), warmup=0)
    for k in (1.0, 2.0):
        x = ndl.Tensor([k])
        f(x).backward()
        assert x.grad.tolist() == [3 * k * k]
    g = ndl.jit(ndl.grad(ndl.grad(lambda x: op(x).sum())), warmup=0)
    assert g(ndl.Tensor([2.0])).tolist() == [12.0]


def test_in_a_compiled_training_step():
    def train(jit):
        np.random.seed(0)
        model = nn.Sequential(nn.Linear(3, 4, dtype="float64"), nn.Linear(4, 1, dtype="float64"))
        opt = ndl.optim.Adam(model.parameters(), lr=0.05)
        op = Cube()

        def step(x):
            loss = (op(model.modules[0](x)) @ model.modules[1].weight).mean()
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss.detach()

        step = jit(step)
        x = ndl.Tensor(np.linspace(-1, 1, 12).reshape(4, 3), requires_grad=False)
        return [step(x).item() for _ in range(6)], model.state_dict()

    (ours, state), (theirs, expected) = train(ndl.jit), train(lambda f: f)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    for name in expected:
        np.testing.assert_allclose(state[name], expected[name], rtol=1e-9)


def test_several_results():
    op = Sorted()

    @ndl.jit(warmup=0)
    def step(x):
        values, order = op(x)
        return values * 2, order

    for array in ([3.0, 1.0, 2.0], [1.0, 5.0, -1.0]):
        values, order = step(ndl.Tensor(array, requires_grad=False))
        assert values.tolist() == [2 * v for v in sorted(array)]
        assert order.tolist() == np.argsort(array).tolist()


def test_shape_and_dtype_are_checked_at_each_call():
    op = Growing()
    state = ndl.Tensor([0.0], requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        state.data = state + 1
        return op(x) + 1

    step(ndl.Tensor([1.0], requires_grad=False))
    op.n = 2
    with pytest.raises(ndl.ShapeError, match=r"Growing: gave float64 \(1,\) when it was traced and "
                       r"float64 \(2,\) now.*state the rule in infer"):  # fmt: skip
        step(ndl.Tensor([1.0], requires_grad=False))
    assert state.tolist() == [1.0]
    op.n = 1
    step(ndl.Tensor([1.0], requires_grad=False))
    assert state.tolist() == [2.0]


def test_shapes_of_several_results_are_checked_at_each_call():
    class Front(Sorted):
        n = 1

        def compute(self, x):
            return x[: self.n], x[: self.n] > 0

    op = Front()
    step = ndl.jit(lambda x: op(x)[0] + 1, warmup=0)
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    assert step(x).tolist() == [2.0]
    op.n = 2
    message = (
        r"Front: gave \(float64 \(1,\), bool \(1,\)\) when it was traced and "
        r"\(float64 \(2,\), bool \(2,\)\) now\. .*state the rule in infer"
    )
    with pytest.raises(ndl.ShapeError, match=message):
        step(x)


def test_it_is_learnt_on_state_as_compiled_calls_left_it():
    class Repeated(ndl.TensorOp):
        def compute(self, x):
            return np.full(int(x[0]), x[0])

    state = ndl.Tensor([1.0], requires_grad=False)

    def add():
        state.data = state + 1

    step = ndl.jit(add, warmup=0)
    step()
    step()
    repeated = ndl.jit(lambda: Repeated()(state) * 2, warmup=0)
    assert repeated().tolist() == [6.0, 6.0, 6.0]
    step()
    with pytest.raises(ndl.ShapeError, match=r"Repeated: gave float64 \(3,\).*float64 \(4,\) now"):
        repeated()


def test_with_a_shape_rule_it_is_not_run_during_the_trace():
    class Ruled(Cube):
        def infer(self, x):
            return x

    op = Ruled()
    step = ndl.jit(lambda x: op(x), warmup=0)
    step(ndl.Tensor([2.0]))
    assert len(op.calls) == 1


def test_what_it_raises_passes_through_and_leaves_state():
    class Refusing(ndl.TensorOp):
        def compute(self, x):
            if x[0] < 0:
                raise ZeroDivisionError("negative")
            return x * 1

    op, state = Refusing(), ndl.Tensor([0.0], requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        state.data = state + 1
        return op(x) * 2

    assert step(ndl.Tensor([1.0], requires_grad=False)).tolist() == [2.0]
    with pytest.raises(ZeroDivisionError, match="negative"):
        step(ndl.Tensor([-1.0], requires_grad=False))
    assert state.tolist() == [1.0]
    assert step(ndl.Tensor([3.0], requires_grad=False)).tolist() == [6.0]
    assert state.tolist() == [2.0]


@dataclass
class Power(ndl.TensorOp):
    """It is equal to others, and has no hash."""

    exponent: int
    results: list = field(default_factory=list)

    def compute(self, x):
        self.results.append(x[0] ** self.exponent)
        return x**self.exponent

    def gradient(self, out_grad, node):
        return out_grad * self.exponent * node.inputs[0] ** (self.exponent - 1)


def test_it_may_be_a_dataclass():
    first, second = Power(2), Power(2)

    @ndl.jit(warmup=0)
    def step(x):
        (first(x) + second(x)).sum().backward()
        return x.grad

    for k in range(1, 4):
        assert step(ndl.Tensor([k], dtype="float64")).tolist() == [4 * k]
        assert first.results == second.results == [n**2 for n in range(1, k + 1)]


def test_several_are_called_in_the_order_of_the_program():
    class Noise(ndl.TensorOp):
        def compute(self, x):
            return x + np.random.rand(*x.shape)

    def step(x):
        first = Noise()(x)
        second = Noise()((x * 2).sum())  # has to wait for the sum
        return first, second, Noise()(x)

    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    found = []
    for function in (step, ndl.jit(step, warmup=0)):
        np.random.seed(0)
        found.append([part.tolist() for part in function(x)])
    assert found[0] == found[1]


def test_entering_the_program_again_from_inside_raises():
    class Recursive(ndl.TensorOp):
        def __init__(self):
            self.again = False

        def infer(self, x):
            return x

        def compute(self, x):
            if self.again:
                entered.append(len(x))
                step(ndl.Tensor(x))
            return x

    op, entered = Recursive(), list[int]()
    step = ndl.jit(lambda x: op(x) * 2, warmup=0)
    step(ndl.Tensor([1.0]))
    op.again = True
    with pytest.raises(ndl.TraceError, match="entered again from one of its own operators"):
        step(ndl.Tensor([1.0]))
    assert len(entered) == 1  # not as deep as Python goes
    op.again = False
    assert step(ndl.Tensor([1.0])).tolist() == [2.0]


def test_an_operator_whose_result_is_unused_is_called_as_eagerly():
    op = Cube()

    def step(x):
        op(x + 1)
        op(ndl.Tensor([7.0, 8.0], requires_grad=False))
        return (x * x).sum()

    compiled = ndl.jit(step)
    x = ndl.Tensor([1.0, 2.0])
    for _ in range(2):
        compiled(x)
    for _ in range(3):
        op.calls.clear()
        compiled(x).backward()  # which does not call them again
        assert [call.tolist() for call in op.calls] == [[2.0, 3.0], [7.0, 8.0]]
    assert x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("rows", [3, 0])
def test_it_takes_what_the_function_returns_too(rows):
    """A product that is written to the result at once has no place among temporaries."""
    weight = np.arange(20, dtype="float32").reshape(4, 5)

    def step(x, weight):
        product = x @ weight
        return product, Cube()(product)

    compiled = ndl.jit(step, warmup=0)
    for k in range(3):
        x = np.full((rows, 4), k, "float32")
        product, cube = compiled(x, weight)
        np.testing.assert_array_equal(product.numpy(), x @ weight)
        np.testing.assert_array_equal(cube.numpy(), (x @ weight) ** 3)
    assert len(compiled.programs) == 1
