"""State: what a function changes is changed after a compiled call as after an eager one."""

import weakref
from collections import deque
from functools import partial

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.worlds import expect_like_eager, zeros

# -- captured tensors ---------------------------------------------------------------------------


def test_captured_tensors_are_read_at_each_call():
    w = nn.Parameter([2.0])
    step = ndl.jit(lambda x: x * w, warmup=0)
    x = ndl.Tensor([3.0])
    assert step(x).tolist() == [6.0]
    w.data = ndl.Tensor([5.0])
    assert step(x).tolist() == [15.0]
    w.cached_data[:] = 7
    assert step(x).tolist() == [21.0]
    w.cached_data = np.array([1.0])
    assert step(x).tolist() == [3.0]
    assert len(step.programs) == 1


def test_captured_tensors_are_held_weakly():
    class Holder:
        pass

    holder = Holder()
    holder.w = nn.Parameter(np.ones(1000))
    step = ndl.jit(lambda x: x * holder.w.sum(), warmup=0)
    step(ndl.Tensor(1.0))
    gone, old = weakref.ref(holder.w), weakref.ref(holder.w.cached_data)
    holder.w = nn.Parameter(np.full(1000, 2.0))
    assert gone() is None
    assert old() is None
    assert step.programs == []
    assert step(ndl.Tensor(1.0)).item() == 2000.0


def test_a_tensor_that_nobody_else_holds_may_get_new_data():
    waiting = deque()

    @ndl.jit(warmup=0)
    def step(x):
        last = waiting.pop()
        last.data = x * 2
        return last.sum()

    for factor in (1, 2):
        waiting.append(ndl.init.ones(2, requires_grad=False))
        assert step(ndl.init.ones(2) * factor).item() == 4 * factor


def test_values_of_the_time_of_the_trace_are_not_kept():
    w = nn.Parameter(np.ones(1000))
    step = ndl.jit(lambda x: x * w.sum(), warmup=0)
    step(ndl.Tensor(1.0))
    old = weakref.ref(w.cached_data)
    w.data = ndl.Tensor(np.zeros(1000))
    assert step(ndl.Tensor(1.0)).item() == 0.0
    assert old() is None
    assert len(step.programs) == 1


class Bank(nn.Module):
    """Keeps a row of each call, in one of several ways."""

    def __init__(self, way, longest):
        super().__init__()
        self.way, self.longest = way, longest
        self.rows, self.data = zeros(1, 2), zeros(1, 2)
        self.more, self.pair = {"rows": [zeros(1, 2)]}, (zeros(1, 2), zeros(2))

    def forward(self, x):
        def kept(rows):
            return ndl.concatenate([rows, x.reshape(1, 2)], 0)[-self.longest :]

        if self.way == "attribute":
            self.rows = kept(self.rows)
        elif self.way == "data":
            self.data.data = kept(self.data)
        elif self.way == "list":
            self.more["rows"][0] = kept(self.more["rows"][0])
        else:
            self.pair = (kept(self.pair[0]), self.pair[1] + x)
        return x * 2


@pytest.mark.parametrize(("longest", "programs"), [(100, 7), (3, 2)])
@pytest.mark.parametrize("way", ["attribute", "data", "list", "tuple"])
def test_state_may_get_another_shape(way, longest, programs):
    def make():
        bank = Bank(way, longest)
        return bank, lambda: (bank.rows, bank.data, bank.more, bank.pair)

    assert len(expect_like_eager(make, calls=8).programs) == programs


# -- slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0, 1])
def test_tensors_that_get_new_data(warmup):
    def make():
        total, twice = zeros(2), zeros(2)

        def step(x):
            total.data = total + x
            twice.data = total * 2
            return total + twice

        return step, lambda: (total, twice)

    compiled = expect_like_eager(make, warmup=warmup)
    assert len(compiled.programs) == 1


@pytest.mark.parametrize("warmup", [0, 1])
def test_attributes_that_are_bound_anew(warmup):
    def make():
        module = nn.Module()
        module.h = zeros(2)

        def step(x):
            module.h = (module.h + x).tanh()
            return module.h * 2

        return step, lambda: module.h

    assert len(expect_like_eager(make, warmup=warmup).programs) == 1


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("kind", [tuple, list])
def test_a_tuple_or_list_of_tensors_in_an_attribute(kind, warmup):
    def make():
        module = nn.Module()
        module.state = kind([zeros(2), zeros(2)])

        def step(x):
            h, c = module.state
            c = c * 0.5 + x
            module.state = kind([c.tanh() + h, c])
            return module.state[0]

        return step, lambda: module.state

    assert len(expect_like_eager(make, warmup=warmup).programs) == 1


def test_nested_lists_and_dicts():
    def make():
        module = nn.Module()
        module.cache = {"layers": [zeros(2), [zeros(2)]], "n": 2}

        def step(x):
            layers = module.cache["layers"]
            layers[0] = layers[0] + x
            layers[1][0] = layers[0] * layers[1][0] + 1
            return layers[0] + layers[1][0]

        return step, lambda: module.cache

    assert len(expect_like_eager(make).programs) == 1


def test_a_dict_of_moments_keyed_by_parameter():
    def make():
        params = [nn.Parameter([1.0, 2.0]), nn.Parameter([3.0, 4.0])]
        moments = {}

        def step(x):
            for k, p in enumerate(params):
                moments[p] = moments.get(p, p.zeros_like().detach()) * 0.9 + x.detach() * k
                p.data = p - moments[p].detach() * 0.1
            return params[0] + params[1]

        return step, lambda: (params, list(moments.values()))

    assert len(expect_like_eager(make).programs) == 1


def test_variables_of_the_closure():
    def make():
        h = zeros(2)

        def step(x):
            nonlocal h
            h = h * 0.5 + x
            return h + 1

        return step, lambda: h

    assert len(expect_like_eager(make).programs) == 1


def test_objects_in_default_arguments():
    def make():
        module = nn.Module()
        module.h = zeros(2)

        def step(x, module=module, *, scale=ndl.Tensor([2.0, 2.0])):  # noqa: B008
            module.h = module.h * scale + x
            return module.h + 1

        return step, lambda: module.h

    assert len(expect_like_eager(make).programs) == 1


total = zeros(2)


def test_global_variables():
    def step(x):
        global total
        total = total + x
        return total * 1

    jitted = ndl.jit(step)
    before = total.numpy().copy()
    for k in range(1, 5):
        assert (jitted(ndl.Tensor([1.0, 2.0])).numpy() - before).tolist() == [k, 2.0 * k]
    assert (total.numpy() - before).tolist() == [4.0, 8.0]
    assert len(jitted.programs) == 1


def test_attributes_of_objects_that_are_no_modules():
    class Counter:
        def __init__(self):
            self.total = zeros(2)

    def make():
        counter = Counter()

        def step(x):
            counter.total = counter.total + x
            return counter.total * 1

        return step, lambda: counter.total

    assert len(expect_like_eager(make).programs) == 1


@pytest.mark.parametrize("warmup", [0, 1])
def test_slots_that_swap_what_they_hold(warmup):
    def make():
        module = nn.Module()
        module.front, module.back, module.last = zeros(2), zeros(2) + 1, zeros(2)

        def step(x):
            module.last = module.front
            module.front, module.back = module.back, module.front
            return module.front + x

        return step, lambda: (module.front, module.back, module.last)

    assert len(expect_like_eager(make, warmup=warmup).programs) == 1


@pytest.mark.parametrize("warmup", [0, 1])
def test_the_old_value_of_a_slot_can_be_returned(warmup):
    def make():
        module = nn.Module()
        module.h = zeros(2)
        w = nn.Parameter([1.0, 2.0])

        def step(x):
            old, module.h = module.h, module.h + x
            before = w.detach()
            w.data = w + x
            return old, before, w

        return step, lambda: (module.h, w)

    assert len(expect_like_eager(make, warmup=warmup).programs) == 1


def test_existing_tensors_are_put_into_slots_themselves():
    best, module = nn.Parameter([5.0]), nn.Module()
    module.current = zeros(1)

    @ndl.jit(warmup=0)
    def step(x):
        module.current = best
        return x + best

    for _ in range(3):
        step(ndl.Tensor([1.0]))
        assert module.current is best
        module.current = zeros(1)


def test_one_new_tensor_in_two_slots():
    def make():
        module = nn.Module()
        module.h = module.last = zeros(2)

        def step(x):
            module.h = module.last = module.h + x * module.last + 1
            return module.h * 2

        return step, lambda: (module.h, module.last)

    expect_like_eager(make)
    expect_like_eager(make, warmup=0)


def test_two_slots_that_hold_one_tensor_and_then_do_not():
    def make():
        start = zeros(2)
        module = nn.Module()
        module.h = start

        def step(x):
            module.h = module.h + x + start
            return module.h * 1

        return step, lambda: (module.h, start)

    expect_like_eager(make, warmup=0)


def test_a_slot_that_is_put_back_to_a_tensor_used_besides():
    start = zeros(2) + 1
    module = nn.Module()
    module.h = zeros(2)

    @ndl.jit
    def step(x):
        module.h = module.h * 2 + x + start
        return module.h * 1

    x = ndl.Tensor([1.0, 1.0], requires_grad=False)
    expected = np.zeros(2)
    for k in range(12):
        if k % 4 == 3:
            module.h, expected = start, np.ones(2)
        expected = expected * 2 + 2
        assert step(x).tolist() == expected.tolist()
    assert start.tolist() == [1.0, 1.0]


def test_two_programs_share_their_state():
    module = nn.Module()
    module.h = zeros(3)
    module.n = ndl.Tensor(0, requires_grad=False)

    @ndl.jit
    def step(x):
        module.h = module.h + x.sum(0)
        module.n.data = module.n + x.shape[0]
        return module.h.sum()

    seen = 0
    for n in (4, 4, 2, 4, 2, 4, 4, 2):
        seen += n
        assert step(ndl.init.ones(n, 3, dtype="float64")).item() == 3.0 * seen
        assert module.n.item() == seen
    assert len(step.programs) == 2


def test_constants_that_a_function_sets():
    module = nn.Module()
    module.mode, module.shape, module.scale = "a", None, ndl.Tensor([2.0])

    @ndl.jit(warmup=0)
    def step(x):
        module.mode = "b"
        module.shape = x.shape
        module.scale = None
        return x + 1

    assert step(ndl.init.ones(2)).tolist() == [2.0, 2.0]
    assert (module.mode, module.shape, module.scale) == ("b", (2,), None)
    module.mode, module.shape = "c", None
    assert step(ndl.init.ones(2)).tolist() == [2.0, 2.0]
    assert (module.mode, module.shape, module.scale) == ("b", (2,), None)


@pytest.mark.parametrize("kind", [nn.Module, type("Plain", (), {})])
def test_constants_that_a_function_sets_to_what_they_are(kind):
    thing, opt = kind(), ndl.optim.SGD([nn.Parameter([1.0])])
    thing.mode, thing.seen = "eval", (0,)

    @ndl.jit(warmup=0)
    def step(x, train):
        thing.mode = "train" if train else "eval"
        thing.seen = x.shape
        opt.lr = 0.5
        return x * opt.lr

    for k in range(12):
        train, x = k % 3 != 0, ndl.init.ones(2 + k % 2)
        if k > 6:
            thing.mode, opt.lr = "none", 0.1
        assert step(x, train).tolist() == [0.5] * len(x)
        assert (thing.mode, thing.seen) == ("train" if train else "eval", x.shape)
        assert opt.lr == 0.5


def test_a_flag_that_a_function_sets_and_reads():
    module = nn.Module()
    module.first = True

    @ndl.jit(warmup=0)
    def step(x):
        result = x + 1 if module.first else x
        module.first = False
        return result

    x = ndl.Tensor([1.0])
    assert [step(x).item() for _ in range(4)] == [2.0, 1.0, 1.0, 1.0]
    module.first = True
    assert [step(x).item() for _ in range(2)] == [2.0, 1.0]
    assert len(step.programs) == 2


def test_a_function_that_calls_train_and_eval():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

    @ndl.jit
    def evaluate(x):
        model.eval()
        return model(x)

    @ndl.jit
    def train(x):
        model.train()
        return model(x)

    x = ndl.init.randn(4, 3)
    for _ in range(4):
        train(x)
        assert all(m.training for _, m in model.named_modules())
        np.testing.assert_allclose(evaluate(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
        assert not any(m.training for _, m in model.named_modules())

    @ndl.jit
    def both(x):
        model.train()
        trained = model(x)
        model.eval()
        return trained, model(x)

    for _ in range(4):
        _, evaluated = both(x)
        np.testing.assert_allclose(evaluated.numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
        assert not model.training


@pytest.mark.parametrize("warmup", (0, 1))
def test_state_that_keeps_its_graph_is_told_to_let_go_of_it(warmup):
    """Eagerly, backward of the second call goes on into the graph of the first."""
    w, h = nn.Parameter([0.5]), [ndl.Tensor([0.0], requires_grad=False)]

    def step(x, *, detach):
        h[0] = (h[0] * w + x).tanh()
        h[0].sum().backward()
        if detach:
            h[0] = h[0].detach()
        return w.grad

    x = ndl.Tensor([1.0], requires_grad=False)
    carrying = ndl.jit(partial(step, detach=False), warmup=warmup)
    with pytest.raises(ndl.TraceError, match=r"h\[0\] keeps the graph .* Assign its detach\(\)"):
        [carrying(x) for _ in range(3)]
    h[0] = ndl.Tensor([0.0], requires_grad=False)
    letting_go, value, found = ndl.jit(partial(step, detach=True), warmup=warmup), 0.0, []
    for _ in range(4):
        new = np.tanh(value * 0.5 + 1)
        found.append((float(letting_go(x).sum()), (1 - new**2) * value))
        value = new
    np.testing.assert_allclose(*zip(*found, strict=True), rtol=1e-12)


def test_a_dict_or_list_that_is_changed_and_replaced():
    for key, held in (("z", {"z": zeros(2)}), (0, [zeros(2)])):
        holder = nn.Module()
        holder.held = held

        def step(x, holder=holder, key=key):
            holder.held[key] = holder.held[key] * 0.5 + x
            holder.held = {"z": holder.held["z"] * 2} if key == "z" else [holder.held[0] * 2]

        compiled = ndl.jit(step, warmup=0)
        with pytest.raises(
            ndl.TraceError, match=r"held\[.*\] was assigned .* that it is in was rep"
        ):
            compiled(ndl.Tensor([1.0, 2.0]))
        assert holder.held is held
