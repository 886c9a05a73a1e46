"""What Ctrl-C ends halfway: programs see what was done of it."""

import numpy as np
import pytest

import needle as ndl
from needle import nn

from .interrupting import interrupt


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
