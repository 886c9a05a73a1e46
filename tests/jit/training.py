"""A small training, eager or compiled, and what is expected of both."""

import numpy as np

import needle as ndl
from needle import nn


def network(dtype="float64"):
    return nn.Sequential(
        nn.Linear(4, 6, dtype=dtype), nn.BatchNorm1d(6, dtype=dtype), nn.ReLU(),
        nn.Dropout(0.25), nn.Linear(6, 3, dtype=dtype),
    )  # fmt: skip


class Training:
    """A model, its optimiser, and a step: eager, or compiled."""

    def __init__(self, optimizer=ndl.optim.Adam, compiled=False, **options):
        np.random.seed(3)
        self.model = model = network()
        self.opt = opt = optimizer(model.parameters(), **options)
        self.loss = nn.SoftmaxLoss()

        def step(x, y):
            loss = self.loss(model(x), y)
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss.detach()

        self.step = ndl.jit(step) if compiled else step

    def run(self, steps, start=0):
        """Losses of steps on batches that depend on their number alone."""
        losses = []
        for k in range(start, start + steps):
            random = np.random.RandomState(k)
            x = ndl.Tensor(random.randn(8, 4), requires_grad=False)
            y = ndl.Tensor(random.randint(0, 3, 8), requires_grad=False)
            np.random.seed(k)
            losses.append(self.step(x, y).item())
        return losses

    def state(self):
        return {**self.model.state_dict(), **self.opt.state_dict()}


def expect_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        # The gradient of a bias in front of a batch norm is 0 but for rounding, which Adam divides
        # by its own size: such a bias agrees to about 1e-10 only.
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-9, err_msg=name)


def expect_honoured(change, programs, optimizer=ndl.optim.Adam, **options):
    """Train, change something, train on: compiled as eagerly. Returns the compiled training."""
    eager = Training(optimizer, **options)
    compiled = Training(optimizer, compiled=True, **options)
    for training in (eager, compiled):
        training.losses = training.run(4)
        change(training)
        training.losses += training.run(4, start=4)
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-9)
    expect_same(compiled.state(), eager.state())
    assert len(compiled.step.programs) == programs
    return compiled
