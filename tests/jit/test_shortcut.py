"""The short way of a call in an unchanged world: who has it, and what sends a call the long way."""

import threading

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.context import ambient
from needle.jit.guards.guards import Guards

from .short_calls import leaf, taken, warm

pytestmark = pytest.mark.parametrize("backend", ["native"], indirect=True)


@pytest.fixture
def x() -> ndl.Tensor:
    return leaf(np.arange(6).reshape(2, 3))


def test_it_gives_a_new_tensor_at_each_call(x):
    scaled = warm(lambda x: x * 3 + 1, x)
    first, second = scaled(x), taken(scaled, x)
    np.testing.assert_array_equal(first.numpy(), np.arange(6).reshape(2, 3) * 3 + 1)
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert not np.shares_memory(first.numpy(), second.numpy())
    assert second.is_leaf()
    assert not second.requires_grad


def test_calls_on_it_are_counted(x):
    scaled = warm(lambda x: x * 3, x)
    (program,) = scaled.programs
    before = program.calls
    assert taken(scaled, x) is not None
    scaled(x)
    assert program.calls == before + 2


def test_a_model_without_gradients_has_it():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), leaf([[1, 2, 3]])
    with ndl.no_grad():
        compiled = warm(model, x)
        np.testing.assert_allclose(taken(compiled, x).numpy(), model(x).numpy(), rtol=1e-5)


def test_new_data_and_a_new_parameter_are_seen(x):
    linear = nn.Linear(3, 2, bias=False)
    with ndl.no_grad():
        compiled = warm(linear, x)
        for _ in range(3):
            linear.weight.data = linear.weight.data * 2
            assert taken(compiled, x) is None
            np.testing.assert_allclose(compiled(x).numpy(), linear(x).numpy(), rtol=1e-5)
            assert taken(compiled, x) is not None
        linear.weight = nn.Parameter(np.ones((3, 2), np.float32))
        np.testing.assert_allclose(compiled(x).numpy(), linear(x).numpy(), rtol=1e-5)


def test_a_parameter_as_the_argument_goes_the_long_way():
    w = leaf(np.ones((2, 2)))
    compiled = warm(lambda x: x @ w, leaf(np.eye(2)))
    assert taken(compiled, w) is None
    np.testing.assert_array_equal(compiled(w).numpy(), [[2, 2], [2, 2]])


def test_an_array_that_is_not_dense_goes_the_long_way(x):
    scaled = warm(lambda x: x * 3, x)
    strided = ndl.Tensor.wrap(np.arange(6, dtype=np.float32).reshape(3, 2).T)
    assert taken(scaled, strided) is None
    np.testing.assert_array_equal(scaled(strided).numpy(), strided.numpy() * 3)


def test_an_array_in_the_other_byte_order_is_converted():
    swapped = ndl.Tensor.wrap(np.arange(6, dtype=np.dtype(np.float32).newbyteorder()))
    scaled = warm(lambda x: x * 3, swapped)
    np.testing.assert_array_equal(scaled(swapped).numpy(), np.arange(6) * 3)


def test_an_index_out_of_range_raises_what_eager_code_does(x):
    rows = leaf(np.arange(12).reshape(4, 3))
    indices = ndl.Tensor(np.array([0, 3]), requires_grad=False)
    beyond = ndl.Tensor(np.array([0, 4]), requires_grad=False)

    def pick(i):
        return rows[i]

    compiled = warm(pick, indices)
    with pytest.raises(IndexError) as eager:
        pick(beyond)
    for _ in range(2):
        with pytest.raises(IndexError) as raised:
            compiled(beyond)
        assert str(raised.value) == str(eager.value)
        np.testing.assert_array_equal(compiled(indices).numpy(), rows.numpy()[[0, 3]])


def test_a_thread_inside_a_program_goes_the_long_way(x):
    scaled = warm(lambda x: x * 3, x)
    before, ambient.inside = ambient.inside, (object(),)
    try:
        assert taken(scaled, x) is None
    finally:
        ambient.inside = before
    assert taken(scaled, x) is not None
    assert ambient.inside == ()


def training(model, optimizer):
    loss_function = nn.SoftmaxLoss()

    def step(x, y):
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.reset_grad()
        return loss.detach()

    return step


def test_a_training_step_has_it_and_sees_what_changes():
    x = leaf(np.random.default_rng(0).standard_normal((8, 3)))
    y = ndl.Tensor([0, 1] * 4, requires_grad=False)
    states = []
    for compiling in (False, True):
        ndl.seed(0)
        layers = nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        model = nn.Sequential(*layers)
        optimizer = ndl.optim.Adam(model.parameters(), lr=0.1)
        step = training(model, optimizer)
        step = ndl.jit(step) if compiling else step
        losses = [step(x, y).item() for _ in range(4)]
        for lr in (0.2, 0.05):
            optimizer.lr = lr
            if compiling:
                assert step.programs[0].shortcut is not None
            losses.append(step(x, y).item())
        layers[0].weight.grad = ndl.Tensor(np.ones((3, 8), np.float32))
        losses += [step(x, y).item() for _ in range(2)]
        optimizer.params.remove(layers[3].bias)
        losses += [step(x, y).item() for _ in range(4)]
        states.append([*losses, *[value.sum() for value in model.state_dict().values()]])
    ndl.seed(None)
    assert len(step.programs) == 2
    np.testing.assert_allclose(states[1], states[0], rtol=1e-4)


def test_an_argument_that_is_passed_twice_goes_the_long_way(x):
    compiled = warm(lambda a, b: a * 2 + b, x, leaf(np.ones((2, 3))))
    assert taken(compiled, x, leaf(np.ones((2, 3)))) is not None
    assert taken(compiled, x, x) is None
    np.testing.assert_array_equal(compiled(x, x).numpy(), x.numpy() * 3)


def test_an_argument_that_lies_in_state_goes_the_long_way(x):
    total = nn.Parameter(np.ones((2, 3), np.float32))

    def add(x):
        total.data = total.data + x
        return x * 2

    compiled = warm(add, x)
    assert taken(compiled, x) is not None
    shown = total.cached_data
    lying_in_state = ndl.Tensor.wrap(shown)
    (program,) = compiled.programs
    assert id(shown.base) in program._binding.written
    assert taken(compiled, lying_in_state) is None
    before = shown.copy()
    np.testing.assert_array_equal(compiled(lying_in_state).numpy(), before * 2)
    np.testing.assert_array_equal(total.numpy(), before * 2)


def test_an_index_out_of_range_leaves_state_and_the_stream_as_eagerly():
    table, noise = nn.Parameter(np.arange(4.0)), nn.Dropout(0.5)
    good, bad = (ndl.Tensor(i, requires_grad=False) for i in ([1, 2], [1, 9]))
    drawn = []
    for compiling in (False, True):
        ndl.seed(3)
        buffer = nn.Parameter(np.zeros(2))

        def lookup(i, buffer=buffer):
            drawn = noise(table)
            buffer.data = buffer.data + drawn.take(i, 0).data
            return drawn.detach()

        compiled = warm(lookup, good) if compiling else lookup
        if not compiling:
            for _ in range(4):
                compiled(good)
        with pytest.raises(ndl.IndexRangeError):
            compiled(bad)
        drawn.append([*compiled(good).tolist(), *buffer.tolist()])
    ndl.seed(None)
    assert drawn[0] == drawn[1]
    assert compiled.programs[0].shortcut is not None


def test_who_runs_nothing_or_calls_an_operator_of_yours_has_none(x):
    class Twice(ndl.ops.TensorOp):
        def compute(self, a):
            return a * 2

        def gradient(self, out_grad, node):
            return out_grad * 2

    for function in (lambda x: x[:0] * 2, Twice()):
        compiled = warm(function, x)
        (program,) = compiled.programs
        assert program.shortcut is None


def test_threads_take_it_in_turn(x):
    inputs = [leaf(np.full((2, 3), k)) for k in range(4)]
    scaled = warm(lambda x: x * 3, x)
    wrong = []

    def work(k: int) -> None:
        results = [scaled(inputs[k]).numpy() for _ in range(300)]
        wrong.extend(result for result in results if (result != 3 * k).any())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_programs_in_turn_do_not_send_each_other_the_long_way(x):
    """As a training step, what prepares its batches, and what looks at the same model do."""
    y = ndl.Tensor([0, 1], requires_grad=False)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    step = ndl.jit(training(model, ndl.optim.Adam(model.parameters())))
    scaled, logits = ndl.jit(lambda x: x / 255), ndl.jit(lambda x: model(x).detach())

    def turn():
        loss = step(scaled(x), y).item()
        shown = logits(x).numpy()
        np.testing.assert_allclose(shown, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
        return loss

    first = turn()
    assert long_ways(lambda: (step(scaled(x), y), logits(x))) == 0
    assert turn() < first


def long_ways(turn):
    """How often programs looked at all of the world in five turns, once all is compiled."""
    for _ in range(6):
        turn()
    looks, difference = [], Guards.difference

    def counted(guards, leaves):
        found = difference(guards, leaves)
        if found is None:
            looks.append(guards)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guards, "difference", counted)
        for _ in range(5):
            turn()
    return len(looks)


def test_gradients_that_are_set_send_no_program_the_long_way(x):
    """As those that one function leaves and another one uses, or eager code's."""
    y = ndl.Tensor([0, 1], requires_grad=False)
    model, other = (
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
        nn.Linear(3, 1),
    )
    optimizer = ndl.optim.Adam(model.parameters())

    @ndl.jit
    def gradients(x):
        optimizer.reset_grad()
        loss = nn.SoftmaxLoss()(model(x), y)
        loss.backward()
        return loss.detach()

    update = ndl.jit(optimizer.step)

    def turn():
        loss = gradients(x).item()
        assert all(p.grad is not None for p in model.parameters())
        update()
        optimizer.reset_grad()
        other(x).sum().backward()
        return loss

    first = turn()
    assert long_ways(turn) == 0
    assert turn() < first
    assert len(gradients.programs) == len(update.programs) == 1


def test_what_is_set_to_what_it_was_sends_no_program_the_long_way(x):
    y = ndl.Tensor([0, 1], requires_grad=False)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    optimizer = ndl.optim.Adam(model.parameters())
    step = ndl.jit(training(model, optimizer))

    def turn():
        model.train()
        model.modules[0].weight.requires_grad = True
        optimizer.reset_grad()
        noise = ndl.init.randn(2, 3)
        step(noise, y)
        return noise

    assert long_ways(turn) == 0
    assert taken(step, turn(), y) is not None


def test_reading_parameters_sends_no_program_the_long_way(x):
    y = ndl.Tensor([0, 1], requires_grad=False)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = ndl.optim.Adam(model.parameters())
    step = ndl.jit(training(model, optimizer))
    predict = ndl.jit(model)
    seen = []

    def turn():
        step(x, y)
        for w in model.parameters():
            w.numpy()
            seen.append((w * w).sum().item())
            np.testing.assert_array_equal((w.data * 1).numpy(), w.numpy())
        predict(x).sum()
        optimizer.state_dict()

    assert long_ways(turn) == 0
    assert taken(step, x, y) is not None
    assert len(set(seen)) > len(seen) // 2


def test_tensors_that_no_program_uses_may_be_given_anything(x):
    """As the eager average of a model's parameters, and the parameters of another model."""
    y = ndl.Tensor([0, 1], requires_grad=False)
    model, other = nn.Linear(3, 2), nn.Linear(3, 1)
    step = ndl.jit(training(model, ndl.optim.Adam(model.parameters())))
    eager = ndl.optim.SGD(other.parameters(), lr=0.1)
    averages = [leaf(w.numpy()) for w in model.parameters()]

    def turn():
        step(x, y)
        other(x).sum().backward()
        eager.step()
        for average, w in zip(averages, model.parameters(), strict=True):
            average.data = average.data * 0.5 + w.data * 0.5
            average.requires_grad = not average.requires_grad

    assert long_ways(turn) == 0
    turn()
    pairs = list(zip(averages, model.parameters(), strict=True))
    before = [(average.numpy().copy(), w.numpy()) for average, w in pairs]
    assert all(not np.array_equal(*pair) for pair in before)
    step(x, y)
    for average, (values, w) in zip(averages, before, strict=True):
        np.testing.assert_array_equal(average.numpy(), values)
        assert not np.array_equal(w, values)


@pytest.mark.parametrize("one", [False, True])
def test_training_and_evaluation_in_turn_take_the_short_way(x, one):
    """Whether two functions do it or one, of which there are two programs."""
    y = ndl.Tensor([0, 1], requires_grad=False)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    step = ndl.jit(training(model, ndl.optim.Adam(model.parameters())))
    logits = ndl.jit(lambda x: model(x).detach())
    compiled = [logits] if one else [step, logits]

    def turn():
        model.train()
        noisy = logits(x) if one else step(x, y)
        model.eval()
        np.testing.assert_allclose(logits(x).numpy(), model(x).detach().numpy(), rtol=1e-4)
        return noisy

    drawn = [turn().numpy() for _ in range(3)]
    assert long_ways(turn) == 0
    assert [len(function.programs) for function in compiled] == ([2] if one else [1, 1])
    assert not np.array_equal(drawn[0], drawn[1])
    model.train()
    assert not np.array_equal(logits(x).numpy(), logits(x).numpy())  # of a dropout


def test_state_in_tuples_sends_no_other_program_the_long_way(x):
    cell = nn.Module()
    cell.state = leaf(np.zeros((2, 3))), leaf(np.zeros((2, 3)))
    cell.seen = []

    def forward(x):
        h, c = cell.state
        cell.state = h * 0.5 + x, c + h
        cell.seen = [c]
        return h * 1

    recur, scaled = ndl.jit(forward), ndl.jit(lambda x: x * 3)
    assert long_ways(lambda: (recur(scaled(x)), scaled(x))) == 0
    for change in (
        lambda: setattr(cell, "state", (leaf(np.ones((2, 3))), cell.state[1])),
        lambda: setattr(cell.state[0], "data", leaf(np.full((2, 3), 7))),
        lambda: setattr(cell.state[1], "cached_data", np.full((2, 3), 5, np.float32)),
        lambda: cell.state[1].cached_data.fill(4),
    ):
        change()
        h, c = (part.numpy().copy() for part in cell.state)
        np.testing.assert_array_equal(recur(x).numpy(), h)
        np.testing.assert_array_equal(cell.state[0].numpy(), h * 0.5 + x.numpy())
        np.testing.assert_array_equal(cell.state[1].numpy(), c + h)
        np.testing.assert_array_equal(cell.seen[0].numpy(), c)
    for part in cell.state:
        part.data = leaf(np.ones((2, 1)))
    with pytest.raises(ndl.ShapeError):
        recur(x)


def test_a_gradient_is_reset_whenever_it_was_set():
    """Also that of an argument, which may be another one at each call."""
    weights = [nn.Parameter(np.ones(3, np.float32)) for _ in range(2)]
    gradient = leaf(np.ones(3))

    def of_state(x):
        loss = (weights[0] * x).sum()
        loss.backward()
        weights[0].data = weights[0].data - weights[0].grad.data
        weights[0].grad = None
        return loss.detach()

    def of_argument(w):
        loss = (w * w).sum()
        loss.backward()
        w.grad = None
        return loss.detach()

    for function, arguments in ((of_state, [gradient, gradient * 2]), (of_argument, weights)):
        compiled = warm(function, arguments[0])
        for weight in weights[: 1 if function is of_state else 2]:
            weight.grad = gradient
        for argument in (*arguments, *arguments):
            compiled(argument)
        assert weights[0].grad is weights[1].grad is None


def test_a_look_costs_nothing_for_what_guards_are_told_of():
    """Of modules and an optimiser's moments they are told: each call looks at the function."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = ndl.optim.Adam(model.parameters(), lr=0.1)

    @ndl.jit
    def step(x):
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        optimizer.reset_grad()
        return loss.detach()

    for _ in range(4):
        step(ndl.ones(5, 3))
    (program,) = step.programs
    assert {type(look).__name__ for look in program.guards._cheap} == {"Identities", "Definitions"}
