"""Tensors that a function makes anew: leaves stay leaves, and slots keep tensors as written."""

from copy import copy, deepcopy

import numpy as np
import pytest

import needle as ndl
from needle import nn

from .worlds import expect_like_eager


def param(*numbers):
    return ndl.Tensor(np.array(numbers))


class Holder:
    """An object of a user's own, with whatever state it is given."""

    def __init__(self, **state):
        vars(self).update(state)


def grads_of(tensors):
    return [None if tensor.grad is None else tensor.grad for tensor in tensors]


def replaced_attribute():
    model = Holder(w=param(1.0, 2.0))

    def step(x):
        loss = ((model.w * x) ** 2).sum()
        loss.backward()
        model.w = ndl.Tensor(model.w - 0.01 * model.w.grad)
        return loss.detach()

    return step, lambda: [model.w, *grads_of([model.w]), model.w.requires_grad, model.w.is_leaf()]


def replaced_list():
    model = Holder(ws=[param(1.0, 2.0), param(3.0, 4.0)])

    def step(x):
        loss = ((model.ws[0] * x + model.ws[1]) ** 2).sum()
        loss.backward()
        model.ws = [nn.Parameter(w - 0.01 * w.grad) for w in model.ws]
        return loss.detach()

    return step, lambda: [*model.ws, *[(type(w), w.is_leaf()) for w in model.ws]]


def replaced_while_held():
    model, held = Holder(w=param(1.0, 2.0)), []

    def step(x):
        loss = ((model.w * x) ** 2).sum()
        loss.backward()
        model.w = ndl.Tensor(model.w - 0.01 * model.w.grad)
        return loss.detach()

    def state():
        held.append(model.w)
        return [*held, *grads_of(held)]

    return step, state


def replaced_and_tied():
    model = nn.Module()
    model.enc = model.dec = nn.Parameter(np.ones(2))

    def step(x):
        loss = ((model.enc * x + model.dec) ** 2).sum()
        loss.backward()
        model.enc = model.dec = nn.Parameter(model.enc - 0.01 * model.enc.grad)
        return loss.detach()

    return step, lambda: [model.enc is model.dec, model.enc, len(model.parameters())]


def intermediate():
    model = Holder(w=param(1.0, 2.0), hidden=None, layers=[None, None])

    def step(x):
        model.hidden = model.layers[0] = x * model.w
        model.layers[1] = model.hidden.tanh()
        loss = (model.layers[1] ** 2).sum()
        loss.backward()
        return loss.detach()

    return step, lambda: [model.hidden, *grads_of([model.hidden, *model.layers])]


def moved_on():
    model = Holder(w=param(1.0, 2.0), now=param(0.0, 0.0), before=param(0.0, 0.0))

    def step(x):
        model.before = model.now
        model.now = x * model.w
        loss = (model.now**2).sum()
        loss.backward()
        return loss.detach()

    return step, lambda: [model.before, model.now, *grads_of([model.before, model.now])]


def perturbed():
    w, seen = nn.Parameter(np.ones(2)), Holder(leaves=None)

    def step(x):
        ((w * x) ** 2).sum().backward()
        with ndl.no_grad():
            moved = w + 0.1 * w.grad.sign()
        moved.requires_grad = True
        ((moved * x) ** 3).sum().backward()  # of `moved` alone
        w.data = w - 0.01 * (w.grad + moved.grad)
        seen.leaves = [t.is_leaf() for t in (w, moved, moved * 2, moved.detach(), x * 2)]
        return moved.detach()

    return step, lambda: [w, w.grad, seen.leaves]


def learner_in_the_step():
    """Meta-learning of first order: a copy of the model is trained, its gradient is taken over."""
    model = nn.Linear(2, 1, dtype="float64")
    model.load_state_dict({"weight": np.ones((2, 1)), "bias": np.zeros((1, 1))})

    def step(x):
        learner = deepcopy(model)
        opt = ndl.optim.SGD(learner.parameters(), lr=0.01)
        for _ in range(3):
            (learner(x.reshape((1, 2))) ** 2).sum().backward()
            opt.step()
        for mine, theirs in zip(model.parameters(), learner.parameters(), strict=True):
            mine.data = mine - 0.1 * theirs.grad

    return step, lambda: [*model.parameters(), *grads_of(model.parameters())]


def snapshot():
    model = Holder(w=param(1.0, 2.0), best=None, twins=None)

    def step(x):
        (model.w * x).sum().backward()
        model.best = deepcopy(model.w)
        first, second = deepcopy([model.w * 2] * 2)
        model.twins = [first is second, first.is_leaf(), first.requires_grad]
        model.w.data = model.w - 0.1 * model.w.grad

    return step, lambda: [model.w, model.best, model.best.grad, model.best.is_leaf(), model.twins]


def shallow_copies():
    """Each is a leaf of its own: the gradient of what is copied does not come from it."""
    kept = Holder(w=param(1.0, 2.0), copies=None, seen=None)

    def step(x):
        kept.copies = [copy(kept.w), copy(x), copy(kept.w * 2)]
        (kept.copies[0] * kept.copies[1] * kept.copies[2] * kept.w).sum().backward()
        kept.seen = [(type(t), t.is_leaf(), t.requires_grad) for t in kept.copies]
        kept.w.data = kept.w - 0.1 * kept.w.grad

    return step, lambda: [kept.w, kept.seen, *kept.copies, *grads_of([kept.w, *kept.copies])]


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize(
    "make",
    [
        learner_in_the_step,
        snapshot,
        shallow_copies,
        replaced_attribute,
        replaced_list,
        replaced_while_held,
        replaced_and_tied,
        intermediate,
        moved_on,
        perturbed,
    ],
)
def test_new_tensors_are_those_of_the_function_as_written(make, warmup):
    step = expect_like_eager(make, warmup=warmup)
    assert len(step.programs) <= 3  # `.grad` may be None at first


def test_a_replaced_parameter_and_its_gradient_in_another_function():
    def run(jit):
        model = Holder(w=param(1.0, 2.0))

        @jit
        def differentiate(x):
            ((model.w * x) ** 2).sum().backward()

        @jit
        def update(rate):
            model.w = ndl.Tensor(model.w - rate * model.w.grad)

        @jit
        def shrink():
            model.w = ndl.Tensor(model.w * 0.9)

        for k in range(6):
            differentiate(ndl.Tensor([1.0, 2.0 + k], requires_grad=False))
            (update if k % 2 else shrink)(*[0.01] * (k % 2))
            assert model.w.grad is None
        return model.w.numpy()

    np.testing.assert_allclose(run(ndl.jit), run(lambda f: f), rtol=1e-12)


@pytest.mark.parametrize("backward", [False, True])
def test_parameters_that_are_returned_are_leaves(backward):
    """As in functional programs: the new ones are passed to the next call."""

    def step(params, x):
        if backward:
            ((params[0] * x) ** 2).sum().backward()
            grads = [params[0].grad]
        else:
            grads = [ndl.grad(lambda w: ((w * x) ** 2).sum())(params[0])]
        return [ndl.Tensor(p - 0.01 * g) for p, g in zip(params, grads, strict=True)]

    compiled = ndl.jit(step)
    ours, theirs = [param(1.0, 2.0)], [param(1.0, 2.0)]
    for k in range(5):
        x = ndl.Tensor([1.0 + k, 2.0], requires_grad=False)
        ours, theirs = compiled(ours, x), step(theirs, x)
        np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-12)
        assert ours[0].is_leaf()
        assert ours[0].requires_grad
    assert len(compiled.programs) == 1


def test_a_single_leaf_that_is_returned_requires_a_gradient():
    w = param(1.0, 2.0)
    leaf_of = ndl.jit(lambda x: ndl.Tensor(x * w, dtype="float32"), warmup=0)
    for _ in range(3):
        leaf = leaf_of(np.ones(2))
        (leaf * 3).sum().backward()
        assert leaf.is_leaf()
        assert leaf.grad.tolist() == [3.0, 3.0]
        assert w.grad is None


def test_check_knows_replaced_parameters():
    step, state = replaced_while_held()
    checked = ndl.jit(step, check=True)
    for k in range(4):
        checked(ndl.Tensor([1.0 + k, 2.0], requires_grad=False))
        state()


def test_backward_from_state_that_has_a_graph_is_refused():
    model = Holder(w=param(1.0, 2.0), penalty=None)

    @ndl.jit(warmup=0)
    def forward(x):
        model.penalty = (model.w**2).sum()
        return (x * model.w).detach()

    forward(np.ones(2))  # as written: there was no penalty
    for _ in range(3):
        forward(np.ones(2))
        with pytest.raises(ndl.errors.GradientError, match="jitted call that assigned state"):
            model.penalty.backward()
    assert model.penalty.item() == 5.0


def read_and_assigned():
    first = ndl.Tensor(np.zeros(2), requires_grad=False)
    model, other = Holder(now=first), Holder(best=first)

    def step(x):
        other.best = (model.now + x).detach()
        return model.now * 2

    return step, lambda: [model.now, other.best]


def assigned_together():
    first = ndl.Tensor(np.zeros(2), requires_grad=False)
    model, other = Holder(now=first), Holder(best=first)
    calls = []

    def step(x):
        model.now = other.best = (model.now + x).detach()
        return model.now * 2

    def state():
        calls.append(model.now is other.best)
        if len(calls) == 3:
            other.best = ndl.Tensor(np.ones(2), requires_grad=False)
        return [*calls, model.now, other.best]

    return step, state


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("make", [read_and_assigned, assigned_together])
def test_a_tensor_in_two_attributes_is_read_where_the_function_reads_it(make, warmup):
    expect_like_eager(make, warmup=warmup)


class Named(ndl.Tensor):
    """A tensor of a user's own class."""

    def __init__(self, array, name):
        super().__init__(array)
        self.name = name


def named():
    model = Holder(w=Named(np.ones(2), "first"), mean=ndl.Tensor(0.0, requires_grad=False))

    def step(x):
        ((model.w * x) ** 2).sum().backward()
        model.w = Named(model.w - 0.01 * model.w.grad, f"of shape {x.shape}")
        model.mean = model.w.mean().detach()
        model.mean.unit = "m"
        result = model.w.detach()
        result.tags = ["result"]
        return result

    return step, lambda: [model.w, model.w.name, model.mean, model.mean.unit, type(model.w)]


def test_new_tensors_have_the_attributes_that_the_function_gave_them():
    step = expect_like_eager(named)
    assert step(ndl.Tensor([1.0, 2.0], requires_grad=False)).tags == ["result"]


def momentum_on_parameters():
    w = param(1.0, 2.0)

    def step(x):
        ((w * x) ** 2).sum().backward()
        w.momentum = w.grad * 1 if not hasattr(w, "momentum") else 0.9 * w.momentum + w.grad
        w.data = w - 0.01 * w.momentum

    return step, lambda: [w, w.momentum]


@pytest.mark.parametrize("warmup", [0, 1])
def test_parameters_may_be_given_their_first_attributes(warmup):
    step = expect_like_eager(momentum_on_parameters, warmup=warmup)
    assert len(step.programs) <= 2  # `.grad` may be None at first


def test_a_tensor_in_an_attribute_of_a_new_tensor_is_told():
    @ndl.jit(warmup=0)
    def step(x):
        result = x * 2
        result.twin = x * 3
        return result

    with pytest.raises(ndl.TraceError, match="was kept outside the jitted function"):
        step(np.ones(2))


@pytest.mark.parametrize("warmup", [0, 1])
def test_backward_goes_into_a_graph_whose_tensors_are_gone(warmup):
    """Nobody can change those: they are constants of the program."""
    w = nn.Parameter([3.0])
    loss = (w * w * ndl.Tensor([2.0], requires_grad=False)).tanh().sum()

    @ndl.jit(warmup=warmup)
    def differentiate():
        w.grad = None
        loss.backward()
        return w.grad

    slope = 12 * (1 - np.tanh(18.0) ** 2)
    assert [differentiate().item() for _ in range(3)] == pytest.approx([slope] * 3)
    assert len(differentiate.programs) == 1
