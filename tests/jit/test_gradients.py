"""Gradients: `.grad` inside compiled calls, and differentiation of compiled calls from outside."""

import numpy as np
import pytest

import needle as ndl
from needle import nn


def lists(tensors):
    return [None if t is None else t.tolist() for t in tensors]


# -- .grad in the function ----------------------------------------------------------------------


def test_a_grad_that_is_set_and_stays_is_an_output():
    w = nn.Parameter([3.0])

    @ndl.jit
    def step(x):
        loss = (x * w * w).sum()
        loss.backward()
        return loss

    for k in range(1, 5):
        step(ndl.Tensor([float(k)]))
        assert w.grad.tolist() == [6.0 * k]
    assert len(step.programs) == 1


def test_a_grad_that_is_reset_inside_costs_nothing():
    w = nn.Parameter([3.0])

    @ndl.jit(warmup=0)
    def step(x):
        loss = (x * w).sum()
        loss.backward()
        w.data = w - w.grad * 0.5
        w.grad = None
        return loss.detach()

    x = ndl.Tensor([1.0], requires_grad=False)
    step(x)
    (program,) = step.programs
    assert [node for _, node in program.trace.grads if node is not None] == []
    assert len(program.trace.wanted()) == 2  # the result and the parameter
    assert w.grad is None
    w.grad = ndl.Tensor([9.0])  # and the function would reset this one too
    step(x)
    assert w.grad is None
    assert w.tolist() == [2.0]


def test_a_grad_that_is_read_first_is_an_input():
    w = nn.Parameter([1.0, 2.0])
    opt = ndl.optim.SGD([w], lr=0.5)
    step = ndl.jit(opt.step, warmup=0)
    for k in range(1, 5):
        w.grad = ndl.Tensor([float(k), 0.0])
        before = w.numpy().copy()
        step()
        np.testing.assert_allclose(w.numpy(), before - [0.5 * k, 0.0])
    assert len(step.programs) == 1
    w.grad = None
    before = w.numpy().copy()
    step()
    np.testing.assert_array_equal(w.numpy(), before)
    assert len(step.programs) == 2
    assert "a .grad was read, and is None now" in step.programs[0].reason
    w.grad = ndl.Tensor([2.0, 0.0])
    step()
    assert len(step.programs) == 2
    assert w.numpy()[0] == before[0] - 1


def test_accumulation_of_gradients():
    def make():
        w = nn.Parameter([1.0])
        total = ndl.Tensor([0.0], requires_grad=False)

        def accumulate(x):
            before = w.grad
            (w * x * x).sum().backward()
            if before is not None:
                w.grad = w.grad + before
            total.data = total + w.grad
            return w.grad

        return w, accumulate

    (w, eager), (w2, function) = make(), make()
    compiled = ndl.jit(function)
    for k in range(8):
        if k == 5:
            w.grad = w2.grad = None
        x = ndl.Tensor([1.0 + k], requires_grad=False)
        assert compiled(x).tolist() == eager(x).tolist()
        assert w2.grad.tolist() == w.grad.tolist()


def test_arguments_get_their_grad():
    step = ndl.jit(lambda x, y: (x * x * y).sum().backward(), warmup=0)
    for k in range(1, 4):
        x, y = ndl.Tensor([float(k)]), ndl.Tensor([2.0])
        step(x, y)
        assert lists([x.grad, y.grad]) == [[4.0 * k], [float(k * k)]]
        z = ndl.Tensor([1.0], requires_grad=False)
        step(x, z)
        assert z.grad is None
        assert x.grad.tolist() == [2.0 * k]


def test_results_carry_the_grad_that_was_set():
    def step(x):
        h = x * 3
        loss = (h * h).sum()
        loss.backward()
        return loss, h, h.detach()

    compiled = ndl.jit(step, warmup=0)
    x = ndl.Tensor([2.0])
    for _ in range(2):
        ours, theirs = compiled(x), step(x)
        assert lists([r.grad for r in ours]) == lists([r.grad for r in theirs])


def test_a_grad_that_existed_before_is_read_at_each_call():
    a, b, kept = (ndl.Tensor([float(k)]) for k in (1, 2, 3))

    @ndl.jit(warmup=0)
    def step(x):
        b.grad = a.grad
        a.grad = kept
        y = x * 2
        y.grad = kept
        return y

    a.grad = ndl.Tensor([10.0])
    for value in (3.0, 4.0, 5.0):
        kept.data = ndl.Tensor([value])
        before = a.grad.item()
        y = step(ndl.Tensor([1.0]))
        assert (b.grad.item(), a.grad.item(), y.grad.item()) == (before, value, value)
    assert len(step.programs) == 1


def test_backward_that_would_go_beyond_an_argument_raises():
    w = nn.Parameter([2.0])
    step = ndl.jit(lambda h: (h * h).sum().backward(), warmup=0)
    x = ndl.Tensor([3.0])
    step(x)
    message = r"reaches an argument of shape \(1,\) that was computed .* Pass detach\(\)"
    with pytest.raises(ndl.TraceError, match=message):
        step(x * w)
    step(ndl.Tensor(x * w))
    assert w.grad is None


def test_backward_goes_on_into_captured_graphs():
    w = nn.Parameter([2.0])
    h = w * w

    def step(x):
        (h * x).sum().backward()
        return w.grad

    compiled = ndl.jit(step, warmup=0)
    for k in range(1, 4):
        assert compiled(ndl.Tensor([float(k)], requires_grad=False)).tolist() == [4.0 * k]
        assert w.grad.tolist() == [4.0 * k]


# -- differentiation from outside ---------------------------------------------------------------


def test_a_call_without_state_is_one_node():
    w = nn.Parameter([3.0])
    f = ndl.jit(lambda x: (x * w).tanh().sum(), warmup=0)
    for k in (0.1, 0.2, 0.3):
        x = ndl.Tensor([k])
        y = f(x) * 2
        y.backward()
        slope = 2 * (1 - np.tanh(3 * k) ** 2)
        np.testing.assert_allclose(w.grad.numpy(), [slope * k], rtol=1e-6)
        np.testing.assert_allclose(x.grad.numpy(), [slope * 3], rtol=1e-6)
    assert len(ndl.autograd.find_topo_sort([f(x)])) <= 5


def test_several_results_and_inputs():
    def f(a, pair):
        b, c = pair
        return {"sum": a + b, "parts": (a * b * c, c.detach(), a.argmax(0))}

    g = ndl.jit(f, warmup=0)
    for _ in range(2):
        sets = []
        for function in (f, g):
            a, b, c = (ndl.Tensor([k, k + 0.5]) for k in (1.0, 2.0, 3.0))
            result = function(a, (b, c))
            (result["sum"].sum() + result["parts"][0].sum()).backward()
            assert not result["parts"][1].requires_grad
            assert not result["parts"][2].requires_grad
            sets.append(lists([a.grad, b.grad, c.grad]))
        assert sets[0] == sets[1]


def test_results_that_are_tensor_tuples():
    f = ndl.jit(lambda x: ndl.make_tuple(x * 2, x * x), warmup=0)
    x = ndl.Tensor([3.0])
    for _ in range(2):
        pair = f(x)
        assert isinstance(pair, ndl.TensorTuple)
        assert lists(pair) == [[6.0], [9.0]]
    (pair[0] + pair[1]).sum().backward()
    assert x.grad.tolist() == [8.0]


def test_unused_inputs_and_results_get_zeros_or_nothing():
    f = ndl.jit(lambda x, y: (x * 2, y * 3), warmup=0)
    x, y = ndl.Tensor([1.0]), ndl.Tensor([1.0])
    f(x, y)[0].sum().backward()
    assert x.grad.tolist() == [2.0]
    assert y.grad is None or y.grad.tolist() == [0.0]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_of_gradients(order):
    def f(x):
        return (x**4).sum() / 24

    derivative = ndl.jit(f, warmup=0)
    for _ in range(order):
        derivative = ndl.grad(derivative)
    expected = {1: 8.0 / 6, 2: 2.0, 3: 2.0}[order]
    for _ in range(2):
        np.testing.assert_allclose(derivative(ndl.Tensor(2.0)).numpy(), expected, rtol=1e-6)


def test_gradients_of_gradients_by_backward():
    w = nn.Parameter([0.5])
    f = ndl.jit(lambda x: (x * x * w).sin().sum(), warmup=0)
    x = ndl.Tensor([0.7])
    for _ in range(2):
        f(x).backward()
        slope = x.grad
        slope.backward()
        a = 0.7 * 0.7 * 0.5
        second = np.cos(a) * 2 * 0.5 - np.sin(a) * (2 * 0.7 * 0.5) ** 2
        np.testing.assert_allclose(x.grad.numpy(), [second], rtol=1e-5)


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_tensor_that_is_passed_twice_gets_the_sum_of_its_gradients_once(warmup):
    product = ndl.jit(lambda pair, a: (pair[0].sin() * pair[1] * a).sum(), warmup=warmup)
    for _ in range(3):
        x = ndl.Tensor([1.0, 2.0])
        y = x * 1
        product([y, y], y).backward()
        v = x.numpy()
        np.testing.assert_allclose(x.grad.numpy(), np.cos(v) * v * v + np.sin(v) * 2 * v)
        slope = ndl.grad(lambda x: product([x, x], x))
        np.testing.assert_allclose(slope(x).numpy(), x.grad.numpy())
        curvature = ndl.grad(lambda x, slope=slope: slope(x).sum())(x)
        expected = -np.sin(v) * v * v + 4 * np.cos(v) * v + 2 * np.sin(v)
        np.testing.assert_allclose(curvature.numpy(), expected)


def test_two_tensors_over_one_node_are_one_variable():
    product = ndl.jit(lambda a, b: (a * b).sum(), warmup=0)
    a, b = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])
    b.rebind(a.node)
    product(a, b).backward()
    assert lists([a.grad, b.grad]) == [None, [2, 4]]  # as outside: it is the node of b


def test_backward_under_no_grad_is_not_recorded_and_right():
    square = ndl.jit(lambda a: (a * a).sum(), warmup=0)
    x = ndl.Tensor([1.0, 2.0])
    y = square(x)
    with ndl.no_grad():
        y.backward()
    assert x.grad.tolist() == [2, 4]
    assert not x.grad.requires_grad


def test_against_finite_differences():
    w = ndl.Tensor(np.linspace(-1, 1, 12).reshape(4, 3))
    f = ndl.jit(lambda x: ((x @ w).tanh() * 2).logsumexp(1).sum(), warmup=0)
    ndl.check_gradients(f, np.linspace(-0.5, 0.5, 8).reshape(2, 4), order=2)


def test_compiled_calls_inside_grad_and_value_and_grad():
    f = ndl.jit(lambda x, k: (x**3).sum() * k)
    x = ndl.Tensor([2.0])
    for k in (1.0, 2.0, 3.0):
        assert ndl.grad(f)(x, k).tolist() == [12.0 * k]
        value, slope = ndl.value_and_grad(f)(x, k)
        assert (value.item(), slope.tolist()) == (8.0 * k, [12.0 * k])
        assert x.grad is None


def test_grad_inside_compiled_calls():
    f = ndl.jit(ndl.grad(lambda x: (x**3).sum()), warmup=0)
    g = ndl.jit(ndl.grad(ndl.grad(lambda x: x**3)), warmup=0)
    both = ndl.jit(ndl.value_and_grad(lambda x: (x**3).sum()), warmup=0)
    for k in (1.0, 2.0):
        x = ndl.Tensor([k])
        assert f(x).tolist() == [3 * k * k]
        assert g(ndl.Tensor(k)).item() == 6 * k
        assert lists(both(x)) == [k**3, [3 * k * k]]
        assert x.grad is None


def test_a_jitted_function_inside_another_is_inlined():
    inner = ndl.jit(lambda x: x * 2, warmup=0)
    outer = ndl.jit(lambda x: inner(inner(x)) + 1, warmup=0)
    for _ in range(3):
        assert outer(ndl.Tensor([1.0])).tolist() == [5.0]
    assert inner.programs == []
    assert len(outer.programs[0].trace.nodes) == 3


def test_dropout_draws_once_for_forward_and_backward():
    drop = nn.Dropout(0.5)
    f = ndl.jit(lambda x: drop(x) * 3, warmup=0)
    for _ in range(3):
        x = ndl.Tensor(np.ones(200), requires_grad=True)
        y = f(x)
        y.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), y.numpy())
    assert set(np.unique(y.numpy())) == {0.0, 6.0}


def test_dropout_is_the_same_in_gradients_of_gradients():
    drop = nn.Dropout(0.5)
    x0 = np.linspace(0.5, 1.5, 50)

    def slopes(function):
        np.random.seed(5)
        x = ndl.Tensor(x0)
        first = ndl.grad(lambda x: function(x).sum())(x)
        second = ndl.grad(lambda x: (ndl.grad(lambda z: function(z).sum())(x) ** 2).sum())(x)
        return first.numpy(), second.numpy()

    def f(x):
        return drop(x * x * x)

    g = ndl.jit(f, warmup=0)
    g(ndl.Tensor(x0))
    for ours, theirs in zip(slopes(g), slopes(f), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_under_no_grad_nothing_is_recorded():
    w = nn.Parameter([3.0])
    f = ndl.jit(lambda x: (x * w).sum(), warmup=0)
    with ndl.no_grad():
        assert not f(ndl.Tensor([1.0])).requires_grad
    assert f(ndl.Tensor([1.0])).requires_grad
    g = ndl.jit(ndl.no_grad()(lambda x: (x * w).sum()), warmup=0)
    assert not g(ndl.Tensor([1.0])).requires_grad


@pytest.mark.parametrize("counts", [False, True])
def test_what_is_recorded_inside_of_no_grad_is_recorded_compiled_too(counts):
    count, x = ndl.Tensor([0.0], requires_grad=False), ndl.Tensor([2.0])

    @ndl.jit(warmup=0)
    def f(x):
        if counts:
            count.data = count + 1
        return x * 2, ndl.enable_grad()(lambda: x**3)()

    double, cube = ndl.no_grad()(f)(x)
    assert (double.requires_grad, cube.requires_grad) == (False, True)
    if counts:
        with pytest.raises(ndl.GradientError, match="assigned state"):
            cube.backward()
    else:
        cube.backward()
        assert x.grad.tolist() == [12.0]


# -- calls that assign state --------------------------------------------------------------------


def test_backward_through_a_call_that_assigned_state_raises():
    w = nn.Parameter([3.0])
    count = ndl.Tensor([0.0], requires_grad=False)

    @ndl.jit(warmup=0)
    def f(x):
        count.data = count + 1
        return (x * w).sum()

    message = r"result of a jitted call that assigned state, .* Call backward inside"
    y = f(ndl.Tensor([1.0]))
    with pytest.raises(ndl.GradientError, match=message):
        y.backward()
    head = nn.Parameter([2.0])
    with pytest.raises(ndl.GradientError, match=message):
        (f(ndl.Tensor([1.0])) * head.sum()).backward()
    (f(ndl.Tensor([1.0])).detach() * head.sum()).backward()
    assert head.grad.tolist() == [3.0]
    assert count.tolist() == [3.0]


def test_batch_normalisation_in_training_is_such_a_call():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    predict = ndl.jit(model)
    x = ndl.init.randn(4, 3)
    predict(x)
    with pytest.raises(ndl.GradientError, match="assigned state"):
        predict(x).sum().backward()
    model.eval()
    for _ in range(2):
        predict(x).sum().backward()
    assert model.modules[0].weight.grad is not None


def test_a_grad_that_is_a_tensor_used_besides():
    for make in (lambda p: p, lambda p: ndl.Tensor([3.0, 4.0], requires_grad=False)):
        p = ndl.Tensor([1.0, 2.0])
        g = make(p)
        p.grad = g

        @ndl.jit(warmup=0)
        def step(p=p, g=g):
            return p.grad * 10 + g

        first = g.numpy().copy()
        np.testing.assert_array_equal(step().numpy(), first * 11)
        p.grad = ndl.Tensor([5.0, 6.0], requires_grad=False)
        np.testing.assert_array_equal(step().numpy(), np.add([50, 60], first))
        p.grad = g
        np.testing.assert_array_equal(step().numpy(), first * 11)
        p.grad = None
        with pytest.raises(TypeError, match="NoneType"):
            step()


def test_parameters_of_results_that_nobody_uses_get_no_gradient():
    """A gradient of zeros would let weight decay and moments go on, and overwrite another."""
    weights = {name: ndl.Tensor(np.ones(2)) for name in "abc"}
    other = ndl.Tensor(np.ones(2))
    heads = ndl.jit(lambda x: {name: x * w for name, w in weights.items()}, warmup=0)
    for used in ("a", "b", "ac", "a"):
        for w in weights.values():
            w.grad = None
        out = heads(other)
        sum((out[name] * 2).sum() for name in used).backward()
        assert {name for name, w in weights.items() if w.grad is not None} == set(used)
        assert other.grad.tolist() == [2.0 * len(used)] * 2
    out = heads(other)
    for name in "abc":
        out[name].sum().backward()
        assert weights[name].grad.tolist() == [1.0, 1.0]
    assert [w.grad.tolist() for w in weights.values()] == [[1.0, 1.0]] * 3


def test_a_parameter_whose_branch_is_detached_gets_no_gradient():
    a, b = ndl.Tensor(np.ones(2)), ndl.Tensor(np.ones(2))
    gated = ndl.jit(lambda x: x * a * (x * b).detach(), warmup=0)
    for _ in range(2):
        gated(np.ones(2)).backward()
        assert a.grad is not None
        assert b.grad is None


def test_no_gradient_from_outside_passes_what_was_computed_under_no_grad():
    a, b = ndl.Tensor(np.ones(2)), ndl.Tensor(np.ones(2))

    @ndl.jit(warmup=0)
    def gated(x):
        with ndl.no_grad():
            gate = (x * b).tanh()
        return x * a * gate

    for _ in range(2):
        gated(np.ones(2)).backward()
        assert a.grad is not None
        assert b.grad is None


def test_a_tensor_that_is_passed_twice_gets_its_gradient_once():
    @ndl.jit(warmup=0)
    def f(a, b, scale):
        return (a * b * b).sum() * scale["by"] * scale["and"]

    for number in (2.0, 3.0):
        x, k = ndl.Tensor([number]), ndl.Tensor(0.5)
        f(x, x, {"by": k, "and": k}).backward()
        assert x.grad.tolist() == [3 * number**2 / 4]
        assert k.grad.item() == number**3
        np.testing.assert_allclose(
            ndl.grad(lambda v, by=k: f(v, v, {"by": by, "and": by}))(x), x.grad
        )
