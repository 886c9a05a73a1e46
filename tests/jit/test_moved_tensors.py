"""Tensors that go from one slot to another stay themselves, and may come to be at two places."""

import numpy as np
import pytest

import needle as ndl
from needle import nn


def param(*numbers):
    return nn.Parameter(np.array(numbers))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.order = param(1.0, 2.0), param(0.5, 0.3), [param(0.1, 0.2), param(0.7)]

    def rotate(self):
        self.order.append(self.order.pop(0))
        return self.order[0].sum() ** 2 + (self.order[1] * 3).sum()

    def swap(self):
        self.a, self.b = self.b, self.a
        return (self.a**2).sum() + self.b.sum()

    def pass_on(self):
        self.b = self.a
        self.a = nn.Parameter(self.a.detach() * 0.9)
        return (self.a * self.b).sum()


def places(pair):
    """Which of the tensors are one."""
    tensors = [pair.a, pair.b, *pair.order]
    return [[one is other for other in tensors] for one in tensors]


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("change", [Pair.rotate, Pair.swap])
def test_an_optimizer_updates_parameters_wherever_they_are(change, warmup):
    def run(jit):
        pair = Pair()
        opt = ndl.optim.SGD(pair.parameters(), lr=0.1, momentum=0.9)

        @jit
        def step(x):
            loss = change(pair) * x
            opt.reset_grad()
            loss.backward()
            opt.step()
            return loss

        def call(k):
            loss = step(ndl.Tensor(1.0 + k, requires_grad=False)).item()
            params = pair.parameters()
            return [loss, *[p.tolist() for p in params], [params.index(p) for p in opt.params]]

        return [call(k) for k in range(8)]

    assert str(run(lambda f: ndl.jit(f, warmup=warmup))) == str(run(lambda f: f))


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_tensor_that_is_passed_on_is_the_one_that_was_there(warmup):
    pair = Pair()
    step = ndl.jit(pair.pass_on, warmup=warmup)
    for _ in range(5):
        before = pair.a
        step()
        assert pair.b is before
        before.data = before * 2
        assert pair.b.tolist() == before.tolist()


@pytest.mark.parametrize("warmup", [0, 1])
def test_the_tensor_that_was_in_a_slot_is_returned_itself(warmup):
    pair = Pair()

    @ndl.jit(warmup=warmup)
    def step():
        old, pair.a = pair.a, (pair.a * 0.5).detach()
        return {"old": old}

    for k in range(5):
        before = pair.a
        assert step()["old"] is before
        assert before.tolist() == [0.5**k, 2 * 0.5**k]


def doubled(pair):
    pair.a.data = pair.a * 2
    read = (pair.b * 1).detach()
    pair.b = pair.a
    return read


def doubled_and_read_by_another_name(pair):
    pair.order[0].data = pair.order[0] * 2
    read = (pair.b * 1).detach()
    pair.order[0] = pair.b
    return read


def one_new_tensor_at_two_places(pair):
    pair.a.data = pair.a * 2
    read = (pair.b * 1).detach()
    pair.a = pair.b = nn.Parameter(read.detach())
    return read


def swapped(pair):
    pair.a.data = pair.a * 2
    read = (pair.order[0] * 1).detach()
    pair.a, pair.order[0] = pair.order[0], pair.b
    return read


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize(
    "function",
    [doubled, doubled_and_read_by_another_name, one_new_tensor_at_two_places, swapped],
)
def test_a_tensor_that_comes_to_be_at_two_places(function, warmup):
    def run(jit):
        pair = Pair()
        step = jit(lambda: function(pair))

        def call():
            return [step().tolist(), *[p.tolist() for p in pair.parameters()], places(pair)]

        return [call() for _ in range(6)]

    assert run(lambda f: ndl.jit(f, warmup=warmup)) == run(lambda f: f)


def test_a_program_says_that_a_tensor_came_to_be_at_two_places():
    pair = Pair()
    step = ndl.jit(lambda: doubled(pair), warmup=0)
    for _ in range(3):
        step()
    places = "a tensor of shape (2,) is found at two places, and was not"
    assert [p.reason for p in step.programs] == [places, "first call with this signature"]


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("kind", [dict, list, nn.Module])
def test_a_tensor_that_another_program_puts_at_a_second_place(kind, warmup):
    """`keep` makes them one: the program without it was made for two."""
    pair, best = Pair(), kind()
    if isinstance(best, list):
        best.append(None)
    slots, name = (vars(best), "w") if isinstance(best, nn.Module) else (best, 0)
    slots[name] = param(0.0, 0.0)

    @ndl.jit(warmup=warmup)
    def step(keep):
        pair.a.data = pair.a * 2
        read = (slots[name] * 1).detach()
        slots[name] = pair.a if keep else nn.Parameter(read + 1)
        return read

    keeps = (False, False, True, True, False, True, False)
    reads = [step(keep).tolist()[0] for keep in keeps]
    assert reads == [0.0, 1.0, 2.0, 16.0, 32.0, 33.0, 128.0]


def changed_and_replaced(pair, x):
    pair.a.data = pair.a * 2
    pair.a = nn.Parameter(pair.b.detach())
    return x * 1


def derived_and_replaced(pair, x):
    (pair.a * pair.a * x).sum().backward()
    slope, pair.a = pair.a.grad, nn.Parameter(pair.a.detach() * 0.5)
    return slope


def replaced_beside_a_changed_argument(pair, x):
    x.data = x * 2
    result = pair.a * 1
    pair.a = nn.Parameter(pair.a.detach() + 1)
    return result


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize(
    "act", [changed_and_replaced, derived_and_replaced, replaced_beside_a_changed_argument]
)
def test_what_a_slot_holds_may_be_passed_once_there_is_a_program(act, warmup):
    """The tensor in the slot is another one at each call, and may be the argument all the same."""
    ours, theirs = Pair(), Pair()
    compiled = ndl.jit(lambda x: act(ours, x).detach(), warmup=warmup)
    for passed in "xxxaaxa":
        mine, its = (pair.a if passed == "a" else param(0.1, 0.2) for pair in (ours, theirs))
        expected = act(theirs, its).detach()
        np.testing.assert_allclose(compiled(mine).numpy(), expected.numpy(), rtol=1e-12)
        for one, other in ((mine, its), (ours.a, theirs.a), (ours.b, theirs.b)):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)
