"""In place: programs update state in memory of their own; what was read before stays as it was."""

import sys

import numpy as np
import pytest

import needle as ndl
from needle import nn


class World:
    """A parameter and a moment, which each step changes."""

    def __init__(self):
        self.w = nn.Parameter([1.0, 2.0])
        self.module = nn.Module()
        self.module.m = ndl.Tensor([0.0, 0.0], requires_grad=False)
        w, module = self.w, self.module

        @ndl.jit
        def step(x):
            module.m = module.m * 0.5 + x
            w.data = w - module.m
            return (w * x).sum()

        self.step = step
        self.x = ndl.Tensor([1.0, 1.0], requires_grad=False)
        self.run(4)

    def run(self, steps=1):
        for _ in range(steps):
            self.step(self.x)


@pytest.fixture
def world():
    return World()


def test_snapshots_stay(world):
    tensors = (world.w, world.module.m)
    snapshots = [t.numpy() for t in tensors]
    detached = [t.detach() for t in tensors]
    data = [t.data for t in tensors]
    copies = [t.numpy().copy() for t in tensors]
    world.run(3)
    for kept in (snapshots, detached, data):
        for now, copy in zip(kept, copies, strict=True):
            values = now.numpy() if isinstance(now, ndl.Tensor) else now
            np.testing.assert_array_equal(values, copy)
    assert not np.array_equal(world.w.numpy(), copies[0])
    assert not np.array_equal(world.module.m.numpy(), copies[1])
    world.run(3)
    for now, copy in zip(snapshots, copies, strict=True):
        np.testing.assert_array_equal(now, copy)


def test_state_dicts_stay():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    opt = ndl.optim.Adam(model.parameters())

    @ndl.jit
    def step(x):
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        opt.reset_grad()
        return loss

    x = ndl.init.randn(5, 3)
    for _ in range(4):
        step(x)
    states = model.state_dict(), opt.state_dict()
    copies = [{name: array.copy() for name, array in state.items()} for state in states]
    for _ in range(3):
        step(x)
    for state, copy in zip(states, copies, strict=True):
        for name in state:
            np.testing.assert_array_equal(state[name], copy[name])
    now = model.state_dict()
    assert not any(np.array_equal(now[name], copies[0][name]) for name in now)


def test_graphs_recorded_before_keep_their_values(world):
    w = world.w
    before = w.numpy().copy()
    y = (w * w).sum()
    lazy = w * 3
    world.run(2)
    y.backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * before)
    np.testing.assert_allclose(lazy.numpy(), 3 * before)
    assert y.item() == (before * before).sum()


def test_graphs_of_compiled_calls_keep_their_values(world):
    w = world.w
    square = ndl.jit(lambda x: (w * w * x).sum(), warmup=0)
    before = w.numpy().copy()
    y = square(world.x)
    world.run(2)
    y.backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * before)
    np.testing.assert_allclose(world.step(world.x).item(), (w.numpy()).sum())


def test_cached_data_is_live(world):
    w = world.w
    world.run()
    w.cached_data[0] = 50.0
    assert w.numpy()[0] == 50.0
    moment = world.module.m.numpy()
    world.run()
    assert w.numpy()[0] == pytest.approx(50.0 - (moment[0] * 0.5 + 1))
    w.realize_cached_data()[:] = [7.0, 8.0]
    assert w.tolist() == [7.0, 8.0]


def test_what_numpy_gives_is_a_copy_that_can_be_written_to(world, backend):
    if backend == "numpy":
        pytest.skip("memory is the tensor's own, as it is eagerly")
    array = world.w.numpy()
    array[:] = 99
    assert 99 not in world.w.numpy()


def test_eager_changes_in_between_are_seen(world):
    w, module = world.w, world.module
    w.data = ndl.Tensor([10.0, 20.0])
    module.m = ndl.Tensor([0.0, 0.0], requires_grad=False)
    world.run()
    assert w.tolist() == [9.0, 19.0]
    assert module.m.tolist() == [1.0, 1.0]
    with ndl.no_grad():
        w.data = w * 2
    world.run()
    assert w.tolist() == [16.5, 36.5]


def test_an_old_tensor_of_a_slot_keeps_its_value(world):
    old = world.module.m
    before = old.numpy().copy()
    world.run()
    np.testing.assert_array_equal(old.numpy(), before)
    assert not np.array_equal(world.module.m.numpy(), before)
    kept = []
    for _ in range(4):
        world.run()
        kept.append((world.module.m, world.module.m.numpy().copy()))
    for tensor, values in kept:
        np.testing.assert_array_equal(tensor.numpy(), values)


def test_results_are_the_callers_own():
    w = nn.Parameter([1.0, 2.0])

    @ndl.jit
    def step(x):
        w.data = w + x
        return w * 1, w.detach(), w.reshape((2, 1))

    x = ndl.Tensor([1.0, 1.0], requires_grad=False)
    kept = []
    for _ in range(5):
        results = step(x)
        kept.append((results, [r.numpy().copy() for r in results]))
    for results, values in kept:
        for result, value in zip(results, values, strict=True):
            np.testing.assert_array_equal(result.numpy(), value)
    kept[-1][0][0].cached_data[:] = 99
    assert step(x)[0].tolist() == [7.0, 8.0]


def test_arguments_are_not_written_to():
    buffer = nn.Module()
    buffer.last = ndl.Tensor([0.0, 0.0], requires_grad=False)
    total = ndl.Tensor([0.0, 0.0], requires_grad=False)

    @ndl.jit
    def step(x):
        buffer.last = x
        total.data = x
        total.data = total + 1
        return total * 2

    array = np.array([1.0, 2.0])
    x = ndl.Tensor.wrap(array)
    for _ in range(4):
        step(x)
    np.testing.assert_array_equal(array, [1.0, 2.0])
    assert total.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("strides", ["transposed", "sliced", "reversed", "broadcast"])
def test_state_of_any_layout_becomes_dense(strides):
    base = np.arange(24.0).reshape(4, 6)
    array = {
        "transposed": base.T,
        "sliced": base[::2, ::3],
        "reversed": base[::-1, ::-1],
        "broadcast": np.broadcast_to(base[:1], (3, 6)),
    }[strides]
    expected = array + 3
    state = ndl.Tensor.wrap(array)

    @ndl.jit
    def step(x):
        state.data = state + x
        return state.sum()

    for _ in range(3):
        step(ndl.Tensor(np.ones(array.shape), requires_grad=False))
    np.testing.assert_array_equal(state.numpy(), expected)
    np.testing.assert_array_equal(base, np.arange(24.0).reshape(4, 6))


def test_two_states_that_get_equal_values():
    a, b, c = (ndl.Tensor([0.0], requires_grad=False) for _ in range(3))

    @ndl.jit
    def step(x):
        a.data = x * 2
        b.data = x * 2
        c.data = x
        return a + b + c

    for k in range(1, 5):
        assert step(ndl.Tensor([float(k)], requires_grad=False)).tolist() == [5.0 * k]
        assert [t.item() for t in (a, b, c)] == [2.0 * k, 2.0 * k, k]
    a.cached_data[:] = 9
    assert b.item() == 8.0


def test_states_that_are_rotated():
    tensors = [ndl.Tensor([float(k)], requires_grad=False) for k in range(4)]

    @ndl.jit
    def rotate(x):
        values = [t.detach() for t in tensors]
        for k, t in enumerate(tensors):
            t.data = values[k - 1]
        tensors[0].data = tensors[0] + x
        return tensors[0] * 1

    expected = [0.0, 1.0, 2.0, 3.0]
    for _ in range(7):
        rotate(ndl.Tensor([10.0], requires_grad=False))
        expected = [expected[-1] + 10, *expected[:-1]]
        assert [t.item() for t in tensors] == expected


def test_state_that_is_not_changed_after_all():
    w = nn.Parameter([1.0, 2.0])

    @ndl.jit
    def step(x):
        old = w.detach()
        w.data = w * 2
        result = (w * x).sum()
        w.data = old
        return result

    for k in range(4):
        assert step(ndl.Tensor([float(k), 1.0], requires_grad=False)).item() == 2.0 * k + 4
    assert w.tolist() == [1.0, 2.0]


def test_constants_become_state():
    w = nn.Parameter([1.0, 2.0])

    @ndl.jit
    def reset(x):
        w.data = ndl.Tensor([5.0, 6.0])
        w.cached_data = np.array([7.0, 8.0])
        return (w * x).sum()

    for _ in range(3):
        assert reset(ndl.Tensor([1.0, 1.0])).item() == 15.0
        assert w.tolist() == [7.0, 8.0]
        w.cached_data[:] = 0


def test_an_argument_that_lies_in_state_is_read_before_it_is_written():
    w = ndl.Tensor(np.arange(64.0), requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        w.data = w * 0.5 + x[::-1] + x.sum().broadcast_to((64,))

    step(np.ones(64))
    for view in (lambda: w.cached_data, lambda: ndl.Tensor.wrap(w.cached_data)):
        before = w.numpy()
        step(view())
        np.testing.assert_allclose(w.numpy(), before * 0.5 + before[::-1] + before.sum())


@pytest.mark.parametrize("share", ["cached_data", "node"])
def test_state_that_lies_in_other_state_is_read_before_that_is_written(share):
    a, b = [ndl.Tensor(np.arange(64.0) * k, requires_grad=False) for k in (1, 10)]

    @ndl.jit(warmup=0)
    def step():
        a.data = a + b[::-1] * 0.5

    step()
    if share == "node":
        b.rebind(a.node)
    else:
        b.cached_data = a.cached_data
    for _ in range(3):
        before, other = a.numpy(), b.numpy().copy()
        step()
        np.testing.assert_array_equal(a.numpy(), before + other[::-1] * 0.5)


def test_tensors_that_share_a_node_are_changed_each_by_itself():
    a, b = [ndl.Tensor(np.arange(64.0), requires_grad=False) for _ in range(2)]

    @ndl.jit(warmup=0)
    def step():
        a.data = a + 1
        b.data = b * 2

    step()
    b.rebind(a.node)
    step()
    np.testing.assert_array_equal(a.numpy(), np.arange(64.0) + 2)
    np.testing.assert_array_equal(b.numpy(), (np.arange(64.0) + 1) * 2)


def test_state_that_an_operator_computes_with_is_changed_nevertheless():
    w = ndl.Tensor([1.0, 2.0], requires_grad=False)
    seen = []

    class Looking(ndl.TensorOp):
        def compute(self, x):
            seen.append((w * 2).numpy())
            return x

    look = Looking()

    @ndl.jit(warmup=0)
    def step(x):
        w.data = w + look(x)

    for _ in range(5):
        step(np.ones(2))
    assert w.tolist() == [6.0, 7.0]
    assert seen[-1].tolist() == [10.0, 12.0]
    assert len(step.programs) == 1


def test_what_an_operator_keeps_of_its_operands_stays():
    w = ndl.Tensor([1.0, 2.0], requires_grad=False)

    class Keeping(ndl.TensorOp):
        def __init__(self):
            self.kept = []

        def compute(self, *arrays):
            self.kept.append(arrays)
            return arrays[0] + 1

    keep = Keeping()

    @ndl.jit(warmup=0)
    def step(x):
        result = keep(w, ndl.exp(x))
        w.data = w * 2
        return ndl.exp(result)

    step(np.zeros(2))
    keep.kept.clear()
    for k in range(3):
        step(np.full(2, float(k)))
    np.testing.assert_allclose([old for old, _ in keep.kept], [[2, 4], [4, 8], [8, 16]])
    np.testing.assert_allclose([x[0] for _, x in keep.kept], np.exp([0, 1, 2]))


def reads(w):
    """What eager code gives that computes with a tensor, in several ways."""
    with ndl.no_grad():
        shown = [(w * 1).tolist(), w.reshape((2, 1)).tolist()]
    return [*shown, w.data.tolist(), w.detach().numpy().tolist(), (w * w).data.numpy().tolist()]


def test_eager_code_computes_with_the_values_of_then(world):
    w = world.w
    for _ in range(4):
        values = w.tolist()
        squared = [v * v for v in values]
        assert reads(w) == [values, [[v] for v in values], values, values, squared]
        assert reads(w) == reads(w)
        world.run()
        assert w.tolist() != values


def test_a_graph_over_state_has_one_leaf_for_it_and_sets_its_gradient(world):
    w = world.w
    y = w * 2 + w.exp()
    leaves = {part.inputs[0].node for part in y.inputs}
    assert len(leaves) == 1
    world.run()
    assert {part.inputs[0].node for part in (w * 2 + w.exp()).inputs}.isdisjoint(leaves)
    before = y.inputs[0].inputs[0].numpy()
    y.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 + np.exp(before), rtol=1e-6)
    assert not np.array_equal(before, w.numpy())


def test_a_second_program_that_changes_state_is_seen_by_eager_code(world):
    w = world.w

    @ndl.jit(warmup=0)
    def halve():
        w.data = w * 0.5
        return w.sum()

    for _ in range(3):
        for run in (halve, world.run):
            before = (w * 1).tolist()
            run()
            assert before != w.tolist() == (w * 1).tolist()


def test_what_is_written_into_live_memory_is_seen_by_eager_code(world):
    w = world.w
    assert reads(w)
    shown = w.cached_data
    for number in (3.0, 4.0):
        shown[:] = number
        assert reads(w)[0] == w.data.tolist() == [number, number]


def test_copies_of_state_cannot_be_written_to(world, backend):
    if backend == "numpy":
        pytest.skip("memory is the tensor's own, as it is eagerly")
    for copy in (world.w.data, world.w.detach()):
        with pytest.raises(ValueError, match="read-only"):
            copy.cached_data[0] = 9.0
        copy.numpy()[0] = 9.0  # a copy once more
    assert 9.0 not in world.w.numpy()


def test_a_flag_that_is_set_counts_for_graphs_that_follow(world):
    w = world.w
    assert (w * 1).requires_grad
    w.requires_grad = False
    assert not (w * 1).requires_grad
    w.requires_grad = True
    y = (w * 3).sum()
    y.backward()
    assert w.grad.tolist() == [3.0, 3.0]


def test_state_that_a_compiled_call_is_given_keeps_its_values_in_the_graph(world):
    w = world.w
    square = ndl.jit(lambda v: (v * v).sum(), warmup=0)
    for _ in range(2):
        before = w.numpy()
        y = square(w)
        world.run()
        y.backward()
        np.testing.assert_allclose(w.grad.numpy(), 2 * before)


@pytest.mark.parametrize("way", ["run", "__call__"])
def test_a_call_that_is_interrupted_after_state_was_written_is_seen(way, backend):
    if backend == "numpy":
        pytest.skip("nothing is written in place")
    w = nn.Parameter([1.0, 2.0])

    @ndl.jit(warmup=0)
    def step(x):
        w.data = w - x
        return (w * x).sum().detach()

    def call(x):
        return step(x) if way == "run" else step(x=x)  # which is the long way

    def interrupting(frame, event, arg):
        code = frame.f_code
        if event == "return" and code.co_name == way and "native_executor" in code.co_filename:
            sys.setprofile(None)
            raise KeyboardInterrupt

    x = ndl.Tensor([1.0, 1.0], requires_grad=False)
    for _ in range(3):
        call(x)
    assert (w * 1).tolist() == [-2.0, -1.0]
    sys.setprofile(interrupting)
    with pytest.raises(KeyboardInterrupt):
        call(x)
    assert (w * 1).tolist() == w.tolist() == [-3.0, -2.0]
    call(x)
    assert (w * 1).tolist() == w.tolist() == [-4.0, -3.0]
