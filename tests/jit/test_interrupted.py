"""What Ctrl-C ends halfway: programs see what was done of it."""

import itertools
import signal
import time
import types

import numpy as np
import pytest

import needle as ndl
from needle import nn

from .interrupting import interrupt, interrupt_line


def leaf(values) -> ndl.Tensor:
    return ndl.Tensor(np.asarray(values, float), requires_grad=False)


class World:
    """A module that programs use."""

    def __init__(self):
        self.module = nn.Module()
        self.module.training, self.module.extra = True, 1.0
        self.module.w = nn.Parameter([1.0, 2.0])
        self.module.h, self.module.b = leaf([1.0, 1.0]), leaf([2.0, 2.0])

    def used(self, x):
        module = self.module
        scale = 2.0 if module.training else 3.0
        return (x * (module.w + module.h + module.b * 2)).sum() * (scale + len(vars(module)))

    def moved(self, x):
        """New data for a tensor that moves, so that it is not written in place."""
        module = self.module
        module.h.data = x * 5
        module.h, module.b = module.b, module.h


CHANGES = {
    "data": lambda world: setattr(world.module.w, "data", leaf([5.0, 7.0])),
    "flag": lambda world: setattr(world.module.w, "requires_grad", False),
    "attribute": lambda world: setattr(world.module, "training", False),
    "no attribute": lambda world: delattr(world.module, "extra"),
}


@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_that_is_interrupted_before_or_after_it_was_made(change, time):
    world = World()
    compiled = ndl.jit(world.used)
    x = leaf([1.0, 1.0])
    for _ in range(4):
        compiled(x)
    interrupt(lambda: change(world), "note", time)
    result = compiled(x)
    assert result.item() == world.used(x).item()
    assert result.requires_grad == world.module.w.requires_grad


@pytest.mark.parametrize("time", range(1, 7))
def test_a_program_that_is_interrupted_while_it_gives_tensors_new_data(time):
    world = World()
    compiled, moved = ndl.jit(world.used), ndl.jit(world.moved)
    x = leaf([1.0, 1.0])
    for _ in range(4):
        compiled(x)
        moved(x)
        compiled(x)
    interrupt(lambda: moved(leaf([2.0, 3.0])), "note", time)
    assert compiled(x).item() == world.used(x).item()
    moved(x)
    assert compiled(x).item() == world.used(x).item()


FILE = """
numbers, factor, file = iter([2.0]), 3.0, types.ModuleType("file")
space = vars(file)["space"] = globals()

def scaled(x):
    return x * factor * space["factor"] * file.space["factor"] if x.shape else next(numbers)
"""


@pytest.mark.parametrize("name", ["_add_globals", "_see", "module"])
def test_a_trace_that_is_interrupted_while_it_finds_variables(name):
    space = {"types": types}
    exec(FILE, space)
    before, x = dict(space), leaf([1.0])
    for line in itertools.count(1):
        step = ndl.jit(space["scaled"], warmup=0)
        if not interrupt_line(lambda step=step: step(x), name, line):
            break
        assert space == before
        assert type(space["file"]) is types.ModuleType
    assert line > 5
    assert step(x).item() == 27.0


class Training:
    """A step of Adam that also keeps what the model gave."""

    def __init__(self, size):
        self.weight = nn.Parameter(np.full((size, size), 1e-3))
        self.opt = ndl.optim.Adam([self.weight], lr=0.1)
        self.last = leaf(0.0)
        self.x = leaf(np.ones((size, size)))

    def step(self):
        y = self.x
        for _ in range(8):
            y = (y @ self.weight).tanh()
        loss = y.mean()
        loss.backward()
        self.opt.step()
        self.opt.reset_grad()
        self.last = loss.detach()

    def in_place(self):
        """Copies of what a step writes in place."""
        moments = self.opt.state[self.weight].values()
        return [tensor.numpy() for tensor in [self.weight, *moments]]


def expect_in_place(training, steps):
    """What is written in place is as after so many steps as written."""
    plain = Training(4)
    for _ in range(steps):
        plain.step()
    for ours, theirs in zip(training.in_place(), plain.in_place(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    return plain.last.item()


def test_an_interrupt_between_machine_code_and_what_python_writes():
    training = Training(4)
    step = ndl.jit(training.step)
    for _ in range(3):
        step()
    last = training.last.item()
    interrupt(step, "write")
    done = 4 if step.programs[0].backend == "native" else 3
    expect_in_place(training, done)
    assert training.last.item() == last
    assert training.weight.grad is None
    step()
    assert training.last.item() == pytest.approx(expect_in_place(training, done + 1))


def interrupting(*_):
    raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such timers")
def test_an_interrupt_while_machine_code_runs():
    """It comes at any time; all that is written in place is from before the call, or from after."""
    training = Training(300)
    step = ndl.jit(training.step)
    for _ in range(4):
        step()

    def call(delay):
        signal.setitimer(signal.ITIMER_REAL, delay)
        step()
        time.sleep(1)  # where it was quicker

    handler = signal.signal(signal.SIGALRM, interrupting)
    try:
        for delay in np.geomspace(1e-4, 2e-2, 12):
            before = training.in_place()
            with pytest.raises(KeyboardInterrupt):
                call(delay)
            changed = [
                not np.array_equal(old, new)
                for old, new in zip(before, training.in_place(), strict=True)
            ]
            assert len(set(changed)) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    step()
    assert np.isfinite(training.last.item())
