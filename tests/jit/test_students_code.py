"""Programs as students write them: they work compiled as they do eagerly, or are told why not."""

import math

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Momentum(ndl.optim.Optimizer):
    """The course's form: dictionaries keyed by parameter, `self.t += 1`."""

    def __init__(self, params, lr=0.1, beta=0.9):
        super().__init__(params)
        self.lr, self.beta, self.u = lr, beta, {}

    def step(self):
        for p in self.params:
            if p.grad is None:
                continue
            grad = ndl.Tensor(p.grad.detach(), dtype=p.dtype, requires_grad=False)
            self.u[p] = self.beta * self.u.get(p, 0) + (1 - self.beta) * grad
            p.data = p.data - self.lr * self.u[p]


class CountingAdam(Momentum):
    def __init__(self, params, lr=0.01):
        super().__init__(params, lr)
        self.t, self.m, self.v = 0, {}, {}

    def step(self):
        self.t += 1
        for k, p in enumerate(self.params):
            g = p.grad.detach()
            self.m[k] = 0.9 * self.m.get(k, 0) + 0.1 * g
            self.v[k] = 0.999 * self.v.get(k, 0) + 0.001 * g**2
            m, v = self.m[k] / (1 - 0.9**self.t), self.v[k] / (1 - 0.999**self.t)
            p.data = p.data - self.lr * m / (v**0.5 + 1e-8)


class PlainSGD:
    """No base class at all."""

    def __init__(self, params, lr):
        self.params, self.lr = params, lr

    def step(self):
        for p in self.params:
            p.data = p.data - p.grad.detach() * self.lr

    def reset_grad(self):
        for p in self.params:
            p.grad = None


class TensorCountingAdam(CountingAdam):
    """What the message says: the count is a tensor."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, lr)
        self.t = ndl.Tensor(0.0, requires_grad=False)

    def step(self):
        self.t.data = self.t + 1
        for k, p in enumerate(self.params):
            g = p.grad.detach()
            self.m[k] = 0.9 * self.m.get(k, g * 0) + 0.1 * g
            self.v[k] = 0.999 * self.v.get(k, g * 0) + 0.001 * g**2
            m = self.m[k] / (1 - 0.9**self.t).broadcast_to(p.shape)
            v = self.v[k] / (1 - 0.999**self.t).broadcast_to(p.shape)
            p.data = p.data - self.lr * m / (v**0.5 + 1e-8)


def losses(optimizer, jit, steps=8, change=None, **options):
    np.random.seed(0)
    model = nn.Sequential(nn.Linear(3, 4, dtype="float64"), nn.Linear(4, 1, dtype="float64"))
    opt = optimizer(model.parameters(), **options)

    @jit
    def step(x, y):
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        opt.step()
        opt.reset_grad()
        return loss

    found = []
    for k in range(steps):
        if change is not None:
            change(opt, k)
        random = np.random.RandomState(k)
        x = ndl.Tensor(random.randn(5, 3), requires_grad=False)
        found.append(step(x, ndl.Tensor(random.randn(5, 1), requires_grad=False)).item())
    return found, step


@pytest.mark.parametrize(
    ("optimizer", "programs"), [(Momentum, 1), (PlainSGD, 1), (TensorCountingAdam, 1)]
)
def test_own_optimisers_work(optimizer, programs):
    eager, _ = losses(optimizer, lambda f: f, lr=0.05)
    compiled, step = losses(optimizer, ndl.jit, lr=0.05)
    np.testing.assert_allclose(compiled, eager, rtol=1e-9)
    assert len(step.programs) == programs


@pytest.mark.parametrize(("optimizer", "programs"), [(Momentum, 1), (PlainSGD, 4)])
def test_a_changed_learning_rate_is_never_stale(optimizer, programs):
    def change(opt, k):
        opt.lr = 0.05 / (1 + k // 2)

    eager, _ = losses(optimizer, lambda f: f, change=change, lr=0.05)
    compiled, step = losses(optimizer, ndl.jit, change=change, lr=0.05)
    np.testing.assert_allclose(compiled, eager, rtol=1e-9)
    assert len(step.programs) == programs  # a declared lr is read, any other makes a program


def test_an_optimiser_that_counts_is_told():
    with pytest.raises(
        ndl.TraceError, match=r"the Python number opt\.t changed .* ndl\.Tensor\(0\)"
    ):
        losses(CountingAdam, ndl.jit)


def test_momenta_that_are_cleared_start_anew():
    def change(opt, k):
        if k == 4:
            opt.u.clear()
        if k == 6:
            opt.u = {}

    eager, _ = losses(Momentum, lambda f: f, change=change)
    compiled, _ = losses(Momentum, ndl.jit, change=change)
    np.testing.assert_allclose(compiled, eager, rtol=1e-9)


def test_an_epoch_as_the_course_writes_it():
    """One function for training and evaluation, the mode set in it, a list of losses beside it."""

    def run(jit):
        np.random.seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2),
                              nn.Linear(8, 3))  # fmt: skip
        opt = ndl.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loss_fn, history = nn.SoftmaxLoss(), []

        @jit
        def forward(x, y, train):
            model.train() if train else model.eval()
            logits = model(x)
            loss = loss_fn(logits, y)
            if train:
                opt.reset_grad()
                loss.backward()
                opt.step()
            return logits.detach(), loss.detach()

        def epoch(data, train):
            wrong = 0
            for x, y in data:
                logits, loss = forward(x, y, train)
                history.append(loss.item())
                wrong += int((logits.numpy().argmax(1) != y.numpy()).sum())
            return wrong

        random = np.random.RandomState(1)
        data = [
            (
                ndl.Tensor(random.randn(n, 4).astype("float32"), requires_grad=False),
                ndl.Tensor(random.randint(0, 3, n), requires_grad=False),
            )
            for n in (6, 6, 6, 5)
        ]
        errors = [(epoch(data, True), epoch(data, False)) for _ in range(4)]
        return errors, history, forward

    eager, compiled = run(lambda f: f), run(ndl.jit)
    assert compiled[0] == eager[0]
    np.testing.assert_allclose(compiled[1], eager[1], rtol=1e-4)
    # Training and evaluation, whole and short batches; what was read of `training` at the start.
    assert len(compiled[2].programs) <= 8


def test_a_recurrent_model_that_carries_its_state():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(np.eye(3) * 0.5)
            self.state = None

        def forward(self, x):
            if self.state is None or self.state[0].shape != x.shape:
                self.state = (x.zeros_like(), x.zeros_like())
            h, c = self.state
            c = (c + x @ self.w).tanh()
            h = h * 0.5 + c
            self.state = (h.detach(), c.detach())
            return h

    def run(jit):
        cell = Cell()
        opt = ndl.optim.SGD(cell.parameters(), lr=0.1)

        @jit
        def step(x):
            loss = (cell(x) ** 2).sum()
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss

        found = []
        for k in range(10):
            if k == 6:
                cell.state = None
            n = 2 if k == 8 else 4
            x = ndl.Tensor(np.random.RandomState(k).randn(n, 3), requires_grad=False)
            found.append(step(x).item())
        return found

    np.testing.assert_allclose(run(ndl.jit), run(lambda f: f), rtol=1e-9)


def test_gradient_accumulation_over_micro_batches():
    def run(jit):
        np.random.seed(0)
        model = nn.Linear(3, 1, dtype="float64")
        opt = ndl.optim.SGD(model.parameters(), lr=0.1)

        @jit
        def accumulate(x):
            before = [p.grad for p in model.parameters()]
            loss = (model(x) ** 2).mean() / 2
            loss.backward()
            for p, old in zip(model.parameters(), before, strict=True):
                if old is not None:
                    p.grad = p.grad + old
            return loss.detach()

        found = []
        for k in range(8):
            x = ndl.Tensor(np.random.RandomState(k).randn(4, 3), requires_grad=False)
            found.append(accumulate(x).item())
            if k % 2:
                opt.step()
                opt.reset_grad()
        return found

    np.testing.assert_allclose(run(ndl.jit), run(lambda f: f), rtol=1e-9)


def test_a_weight_that_is_shared_and_a_frozen_teacher():
    def run(jit):
        np.random.seed(0)
        student, teacher = nn.Linear(3, 3, dtype="float64"), nn.Linear(3, 3, dtype="float64")
        twin = nn.Linear(3, 3, dtype="float64")
        twin.weight = student.weight
        opt = ndl.optim.Adam([*student.parameters(), *twin.parameters()], lr=0.01)

        @jit
        def step(x):
            target = teacher(x).detach()
            loss = ((twin(student(x)) - target) ** 2).mean()
            loss.backward()
            opt.step()
            opt.reset_grad()
            for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.data = mine * 0.9 + its * 0.1  # a moving average
            return loss

        found = []
        for k in range(8):
            x = ndl.Tensor(np.random.RandomState(k).randn(4, 3), requires_grad=False)
            found.append(step(x).item())
        return found

    np.testing.assert_allclose(run(ndl.jit), run(lambda f: f), rtol=1e-9)


def test_numbers_of_the_schedule_that_are_computed_in_python():
    def run(jit):
        w = nn.Parameter([1.0])
        opt = ndl.optim.SGD([w], lr=0.1)

        @jit
        def step(x, temperature):
            loss = (w * x / temperature).exp().sum()
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss

        found = []
        for k in range(8):
            opt.lr = 0.1 * math.cos(k / 10)
            found.append(step(ndl.Tensor([1.0], requires_grad=False), 1.0 + k / 4).item())
        return found, step

    compiled, step = run(ndl.jit)
    np.testing.assert_allclose(compiled, run(lambda f: f)[0], rtol=1e-9)
    assert len(step.programs) == 1


@pytest.mark.parametrize(
    "schedule",
    [
        lambda opt: ndl.optim.StepLR(opt, every=2),
        lambda opt: ndl.optim.CosineLR(opt, total=9),
        lambda opt: ndl.optim.Schedule(opt, warmup=1),
    ],
)
def test_a_schedule_that_is_stepped_inside_is_told(schedule):
    w = nn.Parameter([1.0])
    opt = ndl.optim.SGD([w], lr=0.1)
    rates = schedule(opt)

    @ndl.jit
    def step(x):
        loss = (w * x).sum()
        loss.backward()
        opt.step()
        rates.step()
        return loss

    step(ndl.Tensor([1.0]))
    before = opt.lr
    told = r"(rates.steps|opt.lr) changed .* outside .*, as with schedule.step\(\) after each"
    with pytest.raises(ndl.TraceError, match=told):
        step(ndl.Tensor([1.0]))
    assert (rates.steps, opt.lr) == (1, before)
