"""Methods: the programs live with the instance."""

import copy
import gc
import weakref

import numpy as np
import pytest

import needle as ndl
from needle import nn


class Recurrent(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter([factor])
        self.h = ndl.Tensor([1.0], requires_grad=False)

    @ndl.jit
    def advance(self, x):
        self.h = (self.h * self.factor + x).detach()
        return self.h * 1


def test_the_programs_of_a_method_belong_to_its_instance():
    doubling, tripling = Recurrent(2.0), Recurrent(3.0)
    x = ndl.Tensor([1.0], requires_grad=False)
    assert [doubling.advance(x).item() for _ in range(4)] == [3.0, 7.0, 15.0, 31.0]
    assert [tripling.advance(x).item() for _ in range(3)] == [4.0, 13.0, 40.0]
    assert len(doubling.advance.programs) == len(tripling.advance.programs) == 1
    assert Recurrent.advance.programs == []
    assert doubling.advance is doubling.advance


def test_an_instance_is_freed_with_its_programs_without_the_cycle_collector():
    x = ndl.Tensor([1.0], requires_grad=False)
    gc.collect()
    gc.disable()
    try:
        module = Recurrent(2.0)
        for _ in range(4):
            module.advance(x)
        gone = [weakref.ref(thing) for thing in (module, module.factor, module.h)]
        program = weakref.ref(module.advance.programs[0])
        del module
        assert [reference() for reference in gone] == [None] * 3
        assert program() is None
    finally:
        gc.enable()


def test_methods_of_other_objects():
    class Trainer:
        __hash__ = None

        def __init__(self):
            self.model = nn.Linear(2, 1)
            self.opt = ndl.optim.SGD(self.model.parameters(), lr=0.1)
            self.losses, self.steps = [], 0

        @ndl.jit
        def train_step(self, x):
            loss = (self.model(x) ** 2).mean()
            loss.backward()
            self.opt.step()
            self.opt.reset_grad()
            return loss

        def fit(self, x, steps):
            for _ in range(steps):
                self.losses.append(float(self.train_step(x)))
                self.steps += 1

    trainer = Trainer()
    trainer.fit(ndl.init.randn(8, 2), 20)
    assert len(trainer.train_step.programs) == 1
    assert trainer.losses == sorted(trainer.losses, reverse=True)
    trainer.opt.lr = 0.0
    trainer.fit(ndl.init.randn(8, 2), 2)
    gone = weakref.ref(trainer.model)
    del trainer
    gc.collect()
    assert gone() is None


def test_jitted_forward_of_a_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        @ndl.jit
        def forward(self, x):
            return self.layer(x)

    net = Net()
    x = ndl.init.randn(3, 2)
    for _ in range(3):
        result = net(x)
        np.testing.assert_allclose(result.numpy(), net.layer(x).numpy(), rtol=1e-5, atol=1e-6)
    result.sum().backward()
    np.testing.assert_allclose(net.layer.bias.grad.numpy(), [[3.0, 3.0]])
    assert len(net.forward.programs) == 1


def test_static_methods_and_instances_that_cannot_be_held_weakly():
    class Scale:
        __slots__ = ("factor",)

        @ndl.jit
        def scaled(self, x):
            return x * self.factor

        @ndl.jit
        @staticmethod
        def doubled(x):
            return x * 2

    scale, x = Scale(), ndl.Tensor([1.0])
    scale.factor = 3.0
    for _ in range(3):
        assert scale.scaled(x).item() == 3.0
        assert scale.doubled(x).item() == Scale.doubled(x).item() == 2.0
    scale.factor = 4.0
    assert scale.scaled(x).item() == 4.0


def test_a_deep_copy_has_programs_of_its_own():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter([2.0])
            self.fast = ndl.jit(self.forward, warmup=0)

        def forward(self, x):
            return x * self.factor

    scale, x = Scale(), ndl.Tensor([1.0])
    assert scale.fast(x).item() == 2.0
    twin = copy.deepcopy(scale)
    twin.factor.data = ndl.Tensor([5.0])
    assert [scale.fast(x).item(), twin.fast(x).item()] == [2.0, 5.0]


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_method_of_an_object_that_is_gone_says_so(warmup):
    class Double:
        @ndl.jit(warmup=warmup)
        def twice(self, x):
            return x * 2

    with pytest.raises(ndl.ArgumentError, match=r"twice was called when .* a name: model"):
        Double().twice(ndl.Tensor([1.0]))
