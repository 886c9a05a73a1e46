"""What calls on the short way hand out, and leave behind."""

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.context import ambient

from .interrupting import interrupt
from .short_calls import leaf, taken, warm

pytestmark = pytest.mark.parametrize("backend", ["native"], indirect=True)


@pytest.fixture
def x() -> ndl.Tensor:
    return leaf(np.arange(6).reshape(2, 3))


def test_arrays_are_arguments_as_tensors_are(x):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    product = warm(lambda x, y: x * y, x, array)
    np.testing.assert_array_equal(taken(product, x, array).numpy(), array * array)
    np.testing.assert_array_equal(taken(product, x, array + 1).numpy(), array * (array + 1))
    for other in (array[::-1], array.T.copy().T, array.astype(">f4"), array.astype(np.float64)):
        assert taken(product, x, other) is None
    for other in (array[:1], x, array.astype(object), array.view(np.ma.MaskedArray), 2.0):
        assert taken(product, x, other) is None
    np.testing.assert_array_equal(product(x, array[::-1]).numpy(), array * array[::-1])
    np.testing.assert_array_equal(product(x, array.astype(">f4")).numpy(), array * array)


def test_a_graph_keeps_the_values_that_an_array_had():
    w, array = nn.Parameter(np.ones(3)), np.arange(3.0)
    product = warm(lambda x: x * w, array)
    result = taken(product, array)
    array += 10
    result.sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [0.0, 1.0, 2.0])


def test_an_array_that_lies_in_state_is_copied():
    w, array = nn.Parameter(np.ones(3)), np.ones(3)

    def step(x):
        w.data = w + x
        return (w * x).sum().detach()

    compiled = warm(step, array)
    inside = w.cached_data[:]
    assert taken(compiled, inside) is None
    before = w.numpy()
    total = compiled(inside)
    np.testing.assert_array_equal(w.numpy(), 2 * before)
    np.testing.assert_allclose(total.numpy(), (2 * before * before).sum())


def test_trees_of_results_have_it(x):
    def parts(x):
        double = x * 2
        return {"x": x, "two": [double, (double + x, 5)], "again": double}

    result = taken(warm(parts, x), x)
    assert result["x"] is x
    assert result["two"][0] is result["again"]
    np.testing.assert_array_equal(result["again"].numpy(), x.numpy() * 2)
    np.testing.assert_array_equal(result["two"][1][0].numpy(), x.numpy() * 3)
    assert result["two"][1][1] == 5


def test_a_step_that_returns_nothing_has_it_and_runs_once(x):
    model = nn.Linear(3, 2)
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.5)

    def step(x):
        model(x).sum().backward()
        optimizer.step()
        optimizer.reset_grad()

    compiled = warm(step, x)
    before = model.bias.numpy()
    (program,) = compiled.programs
    assert program.shortcut(program, (x,), ambient.__dict__) is None
    assert compiled(x) is None
    np.testing.assert_allclose(model.bias.numpy(), before - 2 * 0.5 * len(x.numpy()), rtol=1e-6)


@pytest.mark.parametrize("order", ["reset first", "reset last"])
def test_a_loss_with_its_graph_and_gradients_that_stay_have_it(x, order):
    def make(jit):
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        for k, parameter in enumerate(model.parameters()):
            parameter.data = leaf(np.cos(np.arange(parameter.size) + k).reshape(parameter.shape))
        optimizer = ndl.optim.Adam(model.parameters(), lr=0.1)

        def step(x):
            if order == "reset first":
                optimizer.reset_grad()
            loss = (model(x) * model(x)).sum()
            loss.backward()
            optimizer.step()
            if order == "reset last":
                optimizer.reset_grad()
            return loss, {"grad": loss.grad}

        return jit(step), model

    (step, model), (eager, other) = make(ndl.jit), make(lambda function: function)
    for call in range(8):
        ours, theirs = step(x), eager(x)
        np.testing.assert_allclose(ours[0].numpy(), theirs[0].numpy(), rtol=1e-4)
        assert ours[0].requires_grad
        assert ours[0].grad is ours[1]["grad"]
        if call > 1:  # compiled
            with pytest.raises(ndl.errors.GradientError, match="assigned state"):
                ours[0].backward()
        for mine, its in zip(model.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(mine.numpy(), its.numpy(), rtol=1e-4, atol=1e-5)
            assert (mine.grad is None) == (its.grad is None)
            if its.grad is not None:
                np.testing.assert_allclose(
                    mine.grad.numpy(), its.grad.numpy(), rtol=1e-3, atol=1e-4
                )
        if call == 5:  # what is set outside is replaced, or reset
            for model_ in (model, other):
                model_.parameters()[0].grad = leaf(np.ones((3, 4)))
    assert taken(step, x) is not None


@pytest.mark.parametrize("where", ["_set_gradients", "_new"])
def test_gradients_that_an_interrupted_call_did_not_reset_are_reset_by_the_next(x, where):
    w = nn.Parameter(np.ones(3))

    def scaled(x):
        w.grad = None
        return x * 2

    compiled = warm(scaled, x)
    w.grad = leaf(np.ones(3))
    interrupt(lambda: compiled(x), where)
    compiled(x)
    assert w.grad is None


def test_gradients_that_an_interrupted_call_has_set_are_reset_by_others(x):
    first, second = (nn.Parameter(np.ones((2, 3)), dtype="float32") for _ in range(2))

    def gradients(x):
        first.grad = second.grad = None
        ((first + second * second) * x).sum().backward()

    def scaled(x):
        first.grad = second.grad = None
        return x * 2

    setting, resetting = warm(gradients, x), warm(scaled, x)
    interrupt(lambda: setting(x), "_leaf", 2)  # of the second gradient
    assert (first.grad is None) != (second.grad is None)
    resetting(x)
    assert first.grad is None
    assert second.grad is None


def test_gradients_that_are_kept_stay_as_they_are():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)

    @ndl.jit
    def step(x):
        optimizer.reset_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    kept, copies = [], []
    for k in range(9):
        step(ndl.Tensor(np.full((2, 3), k + 1.0), dtype="float32", requires_grad=False))
        weight = model.parameters()[k % 4]
        if k % 3 == 0:
            kept.append(weight.grad.cached_data[-1:])
        elif k % 3 == 1:
            kept.append(weight.grad.numpy())
        else:
            kept.append(weight.grad)
        copies.append(np.array(kept[-1] if k % 3 < 2 else kept[-1].numpy()))
    for held, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(held.numpy() if isinstance(held, ndl.Tensor) else held, copy)
