"""Graphs over calls keep the values that captured tensors had, whoever changes them later."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import needle as ndl
from needle import nn

from .short_calls import taken

EVENTS = (
    "call",
    "train",
    "train otherwise",
    "assign",
    "write through the array",
    "freeze",
    "backward",
    "twice backward",
)


class World:
    """A model, two training steps over it, results that wait, and what may happen to all of them.

    Args:
        jit: What makes functions of functions.
    """

    def __init__(self, jit) -> None:
        self.model = nn.Sequential(
            nn.Linear(3, 4, dtype="float64"), nn.Tanh(), nn.Linear(4, 2, dtype="float64")
        )
        for k, parameter in enumerate(self.model.parameters()):
            values = np.cos(np.arange(parameter.size) + k).reshape(parameter.shape)
            parameter.data = ndl.Tensor(values, dtype="float64", requires_grad=False)
        self.forward = jit(lambda x: self.model(x) * self.model(x))
        slow, quick = (ndl.optim.SGD(self.model.parameters(), lr=lr) for lr in (0.01, 0.03))
        self.train, self.train_otherwise = jit(self._step_of(slow)), jit(self._step_of(quick))
        self.waiting: list[tuple[ndl.Tensor, ndl.Tensor]] = []
        self.calls = 0

    def _step_of(self, optimizer):
        def step(x):
            optimizer.reset_grad()
            loss = self.model(x).sum()
            loss.backward()
            optimizer.step()
            optimizer.reset_grad()
            return loss.detach()

        return step

    def happen(self, event) -> list[np.ndarray]:
        """Let something happen; what can be seen of it."""
        self.calls += 1
        data = np.sin(np.arange(6.0) + self.calls).reshape(2, 3)
        x, first = ndl.Tensor(data, dtype="float64"), self.model.parameters()[0]
        if event == "call":
            self.waiting.append((x, self.forward(x)))
            return [self.waiting[-1][1].numpy()]
        if event.startswith("train"):
            return [(self.train if event == "train" else self.train_otherwise)(x).numpy()]
        if event == "assign":
            first.data = first.data * 1.25
        elif event == "write through the array":
            self.waiting.clear()  # eagerly their graphs would see it
            first.cached_data[0] += 0.5
        elif event == "freeze":
            self.waiting.clear()  # a graph asks for the flag as late as in reverse mode
            first.requires_grad = not first.requires_grad
        elif self.waiting:
            return self._gradients(*self.waiting.pop(0), twice=event.startswith("twice"))
        return []

    def _gradients(self, x, result, *, twice) -> list[np.ndarray]:
        result.sum().backward()
        if twice and x.grad.requires_grad:
            (x.grad * x.grad).sum().backward()
        tensors = [x, *self.model.parameters()]
        found = [t.grad.numpy().copy() for t in tensors if t.grad is not None]
        for tensor in tensors:
            tensor.grad = None
        return found


@settings(max_examples=settings().max_examples // 8)  # each compiles three functions
@given(events=st.lists(st.sampled_from(EVENTS), max_size=12))
def test_whatever_happens_between_calls(events):
    eager, compiled = World(lambda function: function), World(ndl.jit)
    settled = ["train", "call"] * 3 + ["backward"] * 2
    trained = ["call", "call", "train", "call", *["backward"] * 9]
    written = ["call", "call", "write through the array", "call", "backward"] * 2
    for event in [*settled, *events, *trained, *written]:
        for ours, theirs in zip(compiled.happen(event), eager.happen(event), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", ["native"], indirect=True)
def test_a_result_that_needs_a_gradient_has_the_short_way():
    w = nn.Parameter(np.array([2.0, 3.0]))
    x = ndl.Tensor([4.0, 5.0], dtype="float64", requires_grad=False)
    product = ndl.jit(lambda x: x * w)
    for _ in range(4):
        product(x)
    result = taken(product, x)
    assert result is not None
    assert result.requires_grad
    w.data = ndl.Tensor([7.0, 8.0], dtype="float64", requires_grad=False)
    result.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [4.0, 5.0])
    assert taken(product, x) is None
    np.testing.assert_array_equal(product(x).numpy(), [28.0, 40.0])
    assert taken(product, x) is not None


@pytest.mark.parametrize("backend", ["native"], indirect=True)
def test_calls_in_an_unchanged_world_share_the_nodes_of_what_is_captured():
    w = nn.Parameter(np.ones(3))
    scaled = ndl.jit(lambda x: x * w)
    x = ndl.Tensor(np.ones(3), requires_grad=False)
    for _ in range(3):
        scaled(x)
    snapshot = scaled.programs[0].inputs.snapshot
    before = snapshot.nodes([x])
    scaled(x)
    assert snapshot.nodes([x]) is before
    w.data = w.data * 2
    scaled(x)
    assert snapshot.nodes([x])[0] is w.node


@pytest.fixture
def trained():
    """A parameter, a step that takes 1 from its elements, and a call with gradients over it."""
    w = nn.Parameter(np.array([5.0, 6.0]))
    optimizer = ndl.optim.SGD([w], lr=1.0)
    x = ndl.Tensor(np.ones(2), requires_grad=False)

    @ndl.jit
    def step():
        (w * x).sum().backward()
        optimizer.step()
        optimizer.reset_grad()

    square = ndl.jit(lambda x: (w * w * x).sum())
    for _ in range(4):
        step()
        square(x)
    return w, [step], lambda: square(x)


def test_what_a_program_did_before_it_went_is_seen(trained):
    w, steps, square = trained
    square()
    steps[0]()
    steps.clear()
    gc.collect()
    square().backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * w.numpy())


def test_what_is_written_into_memory_that_a_user_holds_is_seen(trained):
    w, _, square = trained
    memory = w.cached_data
    square()
    memory[:] = [10.0, 20.0]
    square().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [20.0, 40.0])


def test_no_call_keeps_a_captured_tensor_alive():
    model = nn.Linear(3, 4)
    forward = ndl.jit(lambda x: model(x))
    x = ndl.Tensor(np.ones((2, 3)), dtype="float32", requires_grad=False)
    for _ in range(4):
        forward(x)
    gone = weakref.ref(model.weight)
    gc.disable()
    try:
        model.weight = nn.Parameter(np.ones((3, 4)), dtype="float32")
        assert gone() is None
    finally:
        gc.enable()


def _frozen_before(w, v):
    loss = (w * v).sum()
    w.requires_grad = False
    loss.backward()
    w.requires_grad = True


def _frozen_while_used(w, v):
    w.requires_grad = False
    loss = (w * v).sum()
    w.requires_grad = True
    (loss + w.sum()).backward()


def _frozen_in_between(w, v):
    loss = (w * v).sum()
    w.requires_grad = False
    loss = loss + (w * v * 2).sum()
    w.requires_grad = True
    (loss + w.sum()).backward()


def _frozen_after_a_step(w, v):
    loss = (w * v).sum()
    w.data = w - 1
    w.requires_grad = False
    loss.backward()
    w.requires_grad = True


@pytest.mark.parametrize(
    "use", [_frozen_before, _frozen_while_used, _frozen_in_between, _frozen_after_a_step]
)
def test_what_is_frozen_for_a_while_gets_the_gradient_it_has_without_programs(trained, use):
    w, _, _ = trained
    v = nn.Parameter([3.0, 4.0])
    plain, beside = nn.Parameter(w.numpy()), nn.Parameter([3.0, 4.0])
    for _ in range(2):
        use(plain, beside)
        use(w, v)
        for ours, theirs in ((w, plain), (v, beside)):
            assert (ours.grad is None) == (theirs.grad is None)
            if theirs.grad is not None:
                np.testing.assert_array_equal(ours.grad.numpy(), theirs.grad.numpy())
            ours.grad = theirs.grad = None


def test_what_a_step_changed_is_no_more_what_is_frozen(trained):
    w, (step,), _ = trained
    loss = (w * w).sum()
    before = w.numpy()
    step()
    w.requires_grad = False
    loss.backward()
    np.testing.assert_array_equal(w.grad.numpy(), 2 * before)
