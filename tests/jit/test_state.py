"""State: what a function changes is changed after a compiled call as after an eager one."""

import gc
import weakref

import numpy as np
import pytest

import needle as ndl
from needle import nn


def zeros(*shape):
    return ndl.init.zeros(*shape, dtype="float64")


def assert_alike(ours, theirs):
    """Two trees are of one structure, and their tensors equal but for rounding."""
    if isinstance(theirs, ndl.Tensor):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            assert_alike(mine, its)
    elif isinstance(theirs, dict):
        assert_alike(list(ours.values()), list(theirs.values()))
    else:
        assert ours == theirs


def expect_like_eager(make, calls=6, warmup=1):
    """Call a function eagerly and compiled, each on its own world, and compare after each call.

    `make()` returns the function and what gives its state as a tree.
    """
    eager, eager_state = make()
    function, state = make()
    compiled = ndl.jit(function, warmup=warmup)
    for k in range(calls):
        x = ndl.Tensor([1.0 + k, 2.0], requires_grad=False)
        expected = eager(x)
        assert_alike(compiled(x), expected)
        assert_alike(state(), eager_state())
    return compiled


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


def test_values_of_the_time_of_the_trace_are_not_kept():
    w = nn.Parameter(np.ones(1000))
    step = ndl.jit(lambda x: x * w.sum(), warmup=0)
    step(ndl.Tensor(1.0))
    old = weakref.ref(w.cached_data)
    w.data = ndl.Tensor(np.zeros(1000))
    assert step(ndl.Tensor(1.0)).item() == 0.0
    assert old() is None
    assert len(step.programs) == 1


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


# -- state that comes into being ----------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0, 1])
def test_lazily_made_buffers(warmup):
    def make():
        module = nn.Module()

        def step(x):
            if not hasattr(module, "mean"):
                module.mean = x.zeros_like()
            module.mean = module.mean * 0.9 + x * 0.1
            return module.mean + x

        return step, lambda: vars(module)

    assert len(expect_like_eager(make, warmup=warmup).programs) == 1


@pytest.mark.parametrize("warmup", [0, 1])
def test_lazily_made_layers(warmup):
    class Lazy(nn.Module):
        def forward(self, x):
            if not hasattr(self, "layer"):
                self.layer = nn.Linear(x.shape[-1], 2)
            return self.layer(x)

    model = Lazy()
    jitted = ndl.jit(model, warmup=warmup)
    for _ in range(4):
        x = ndl.init.randn(3, 5)
        np.testing.assert_allclose(jitted(x).numpy(), model(x).numpy(), rtol=1e-5, atol=1e-6)
    assert len(model.parameters()) == 2
    assert type(model.layer) is nn.Linear


def test_new_state_makes_the_call_eager_and_the_next_one_traces_again():
    runs = []
    module = nn.Module()
    module.memory = {}

    @ndl.jit(warmup=0)
    def step(x, name):
        runs.append(name)
        module.memory[name] = module.memory.get(name, x.zeros_like()) + x
        return module.memory[name] * 1

    x = ndl.Tensor([1.0], requires_grad=False)
    assert [step(x, "a").item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert runs == ["a", "a"]  # the eager call, then the trace: the first trace left no mark
    assert [step(x, "b").item() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert [step(x, "a").item() for _ in range(2)] == [4.0, 5.0]


def test_state_that_never_settles_raises_the_third_time():
    results = []

    @ndl.jit
    def step(x):
        results.append(x * 2)
        return x

    x = ndl.Tensor([1.0])
    for _ in range(3):  # a warm-up and two attempts
        step(x)
    with pytest.raises(ndl.TraceError, match=r"jit: results\[3\] gets something new at every call"):
        step(x)
    assert [result.tolist() for result in results] == [[2.0]] * 3


def test_memory_of_shapes_settles():
    masks = {}

    @ndl.jit(warmup=0)
    def step(x):
        if x.shape not in masks:
            masks[x.shape] = ndl.Tensor(np.tri(*x.shape), requires_grad=False)
        return x * masks[x.shape]

    for n in (2, 2, 2, 3, 3, 3):
        assert step(ndl.Tensor(np.ones((n, n)))).tolist() == np.tri(n).tolist()
    assert len(step.programs) <= 3


# -- what cannot be honoured --------------------------------------------------------------------


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.t = 0
        self.rates = [0.5, 0.5]
        self.counts = {"calls": 0.0}


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize(
    ("change", "slot"),
    [
        (lambda m: setattr(m, "t", m.t + 1), r"module\.t"),
        (lambda m: m.rates.__setitem__(1, m.rates[1] / 2), r"module\.rates\[1\]"),
        (lambda m: m.counts.update(calls=m.counts["calls"] + 1), r"module\.counts\['calls'\]"),
    ],
    ids=["attribute", "list", "dict"],
)
def test_a_number_that_is_counted_up_is_told(change, slot, warmup):
    module = Counting()

    @ndl.jit(warmup=warmup)
    def step(x):
        change(module)
        return x * 1

    before = (module.t, list(module.rates), dict(module.counts))
    if warmup:
        step(ndl.Tensor([1.0]))
        before = (module.t, list(module.rates), dict(module.counts))
    with pytest.raises(
        ndl.TraceError, match=rf"the Python number {slot} changed .* Keep it in a tensor: {slot} = "
    ):
        step(ndl.Tensor([1.0]))
    assert (module.t, module.rates, module.counts) == before


def test_numbers_of_the_closure_and_of_other_objects_are_told():
    class Tally:
        calls = 0

        def __init__(self):
            self.steps = 0

    tally, count = Tally(), 0

    @ndl.jit(warmup=0)
    def with_closure(x):
        nonlocal count
        count += 1
        return x * 1

    @ndl.jit(warmup=0)
    def with_object(x):
        tally.steps += 1
        return x * 1

    with pytest.raises(ndl.TraceError, match="the Python number count changed"):
        with_closure(ndl.Tensor([1.0]))
    with pytest.raises(ndl.TraceError, match=r"the Python number tally\.steps changed"):
        with_object(ndl.Tensor([1.0]))
    assert (count, tally.steps) == (0, 0)


def test_the_advice_for_numbers_works():
    module = nn.Module()
    module.t = ndl.Tensor(0, requires_grad=False)

    @ndl.jit
    def step(x):
        module.t.data = module.t + 1
        return x * module.t.broadcast_to(x.shape)

    assert [step(ndl.Tensor([1.0])).item() for _ in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert module.t.item() == 5


def test_a_number_that_is_set_and_not_counted_settles():
    module = nn.Module()
    module.batch = 0

    @ndl.jit
    def step(x):
        module.batch = x.shape[0]
        return x.sum() / module.batch

    for n in (4, 4, 4, 3, 4, 3, 4):
        assert step(ndl.init.ones(n)).item() == 1.0
        assert module.batch == n


def test_escaped_tensors_are_told_with_the_line_they_were_made_at():
    class Store:
        __slots__ = ("kept",)

    store = Store()

    @ndl.jit(warmup=0)
    def step(x):
        store.kept = x * 3
        return x

    with pytest.raises(
        ndl.TraceError, match=r"a tensor made at .*test_state\.py:\d+ was kept .* Return it instead"
    ):
        step(ndl.Tensor([1.0]))


def test_an_escaped_tensor_has_no_value():
    class Store:
        __slots__ = ("kept",)

    store = Store()
    with pytest.raises(ndl.TraceError, match="was kept"):
        ndl.jit(lambda x: (setattr(store, "kept", x * 3), x)[1], warmup=0)(ndl.Tensor([1.0]))
    with pytest.raises(ndl.TraceError, match="a traced tensor outlived the trace"):
        store.kept.numpy()
    with pytest.raises(ndl.TraceError, match="a traced tensor outlived the trace"):
        ndl.jit(lambda x: x * store.kept, warmup=0)(ndl.Tensor([1.0]))


def test_entries_that_are_removed_are_told():
    cache = {"a": zeros(1)}

    @ndl.jit(warmup=0)
    def step(x):
        return x + cache.pop("a")

    with pytest.raises(ndl.TraceError, match="cache lost an entry during a trace"):
        step(ndl.Tensor([1.0]))
    assert list(cache) == ["a"]


def test_requires_grad_is_not_for_a_function_to_set():
    w = nn.Parameter([1.0])

    @ndl.jit(warmup=0)
    def step(x):
        w.requires_grad = False
        return x * w

    with pytest.raises(ndl.TraceError, match=r"requires_grad of a tensor of shape \(1,\) was set"):
        step(ndl.Tensor([1.0]))
    assert w.requires_grad


# -- exceptions ---------------------------------------------------------------------------------


class InterruptError(Exception):
    pass


@pytest.mark.parametrize("warmup", [0, 1])
def test_an_exception_in_the_traced_function_leaves_everything_as_it_was(warmup):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    opt = ndl.optim.Adam(model.parameters(), weight_decay=0.1)
    fail = [False]

    @ndl.jit(warmup=warmup)
    def step(x):
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        model.eval()
        if fail[0]:
            raise InterruptError
        opt.reset_grad()
        model.train()
        return loss

    x = ndl.init.randn(4, 3)
    for _ in range(warmup):
        step(x)
    fail[0] = True
    before = model.state_dict(), opt.state_dict(), ndl.random.get_state()
    classes = [type(m) for _, m in model.named_modules()]
    with pytest.raises(InterruptError):
        step(x)
    after = model.state_dict(), opt.state_dict(), ndl.random.get_state()
    assert before[2] == after[2]
    for old, new in zip(before[:2], after[:2], strict=True):
        assert old.keys() == new.keys()
        for name in old:
            np.testing.assert_array_equal(old[name], new[name])
    assert all(p.grad is None for p in model.parameters())
    assert model.training
    assert classes == [type(m) for _, m in model.named_modules()]
    assert type(opt) is ndl.optim.Adam
    assert type(opt.lr) is float
    fail[0] = False
    for _ in range(3):
        step(x)
    assert len(step.programs) == 1


# -- methods ------------------------------------------------------------------------------------


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
