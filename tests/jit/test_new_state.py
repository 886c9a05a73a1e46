"""State that comes into being, what cannot be honoured, and exceptions during a trace."""

from collections import deque
from concurrent.futures import Future

import numpy as np
import pytest

import needle as ndl
from needle import nn
from tests.jit.worlds import expect_like_eager, zeros

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


@pytest.mark.parametrize("scope", ["global", "closure"])
@pytest.mark.parametrize("fails", [False, True])
def test_variables_that_come_into_being(scope, fails):
    """They are state from the first call on; after an error they are gone again."""
    made = ndl.init.ones(3)

    def step(x):
        nonlocal last
        global LAST
        if scope == "global":
            LAST = x * 2
        else:
            last = x * 2
        if fails:
            float(x.sum())
        return x.sum()

    def found():
        return LAST if scope == "global" else last

    jitted = ndl.jit(step, warmup=0)
    try:
        if fails:
            with pytest.raises(ndl.TraceError, match="not known"):
                jitted(made)
            with pytest.raises(NameError):
                found()
        else:
            for factor in (1.0, 2.0, 3.0):
                assert jitted(made * factor).item() == 3 * factor
                np.testing.assert_array_equal(found().numpy(), [2 * factor] * 3)
            assert len(jitted.programs) == 1
    finally:
        globals().pop("LAST", None)
    if False:
        last = None  # makes it a variable of this function


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


def test_state_that_settles_in_between_may_come_into_being_again_and_again():
    w, sums, results = nn.Parameter([1.0]), {}, []

    @ndl.jit
    def micro(x):
        (w * x).sum().backward()
        sums["w"] = sums["w"] + w.grad if "w" in sums else w.grad

    for k in range(20):
        micro(ndl.Tensor([k + 1.0], requires_grad=False))
        if k % 4 == 3:
            results.append(sums["w"].item())
            sums.clear()
    assert results == [10.0, 26.0, 42.0, 58.0, 74.0]
    assert len(micro.programs) == 1


def test_a_number_that_never_settles_is_to_be_set_outside():
    opt = ndl.optim.SGD([nn.Parameter([1.0])], lr=1.0)

    def scaled(x):
        return x * opt.lr

    @ndl.jit
    def step(x, k):
        opt.lr = 1 / (1 + k)
        return scaled(x)

    x = ndl.Tensor([1.0])
    with pytest.raises(
        ndl.TraceError, match=r"jit: opt\.lr gets .* Set opt\.lr outside the jitted function, betw"
    ):
        _ = [step(x, call % 2) for call in range(10)]
    jitted = ndl.jit(scaled)
    for call in range(10):
        opt.lr = 1 / (1 + call % 2)
        assert jitted(x).item() == opt.lr
    assert len(jitted.programs) == 1


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
        ndl.TraceError, match=rf"the Python number {slot} changed .* keep it in a tensor: {slot} = "
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
    store = deque()

    @ndl.jit(warmup=0)
    def step(x):
        store.append(x * 3)
        return x

    with pytest.raises(
        ndl.TraceError,
        match=r"a tensor made at .*test_new_state\.py:\d+ was kept .* in tuples, lists or dicts",
    ):
        step(ndl.Tensor([1.0]))


def test_an_escaped_tensor_has_no_value():
    store = Future()
    with pytest.raises(ndl.TraceError, match="was kept"):
        ndl.jit(lambda x: (store.set_result(x * 3), x)[1], warmup=0)(ndl.Tensor([1.0]))
    escaped = store.result()
    with pytest.raises(ndl.TraceError, match="a traced tensor outlived the trace"):
        escaped.numpy()
    with pytest.raises(ndl.TraceError, match="a traced tensor outlived the trace"):
        ndl.jit(lambda x: x * escaped, warmup=0)(ndl.Tensor([1.0]))


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


def test_requires_grad_of_an_argument_is_not_for_a_function_to_set():
    @ndl.jit(warmup=0)
    def attack(x):
        x.requires_grad = True
        (x * x).sum().backward()
        return x + x.grad.sign()

    x = ndl.Tensor([1.0], requires_grad=False)
    with pytest.raises(ndl.TraceError, match=r"set it outside, or set it on tensor.detach\(\)"):
        attack(x)
    assert not x.requires_grad
    assert x.grad is None
    assert attack(np.array([1.0])).tolist() == [2.0]  # a tensor of the function's own


def test_parameters_may_be_frozen_for_a_while():
    """As two networks are that are trained against each other."""

    def losses(jit):
        np.random.seed(0)
        model, critic = nn.Linear(2, 2), nn.Linear(2, 1)
        opt = ndl.optim.Adam([*model.parameters(), *critic.parameters()])

        def freeze(module, frozen):
            for p in module.parameters():
                p.requires_grad = not frozen

        @jit
        def step(x):
            freeze(model, True)
            (critic(model(x)) ** 2).mean().backward()
            opt.step()  # of the critic alone
            opt.reset_grad()
            freeze(model, False)
            freeze(critic, True)
            loss = critic(model(x)).mean()
            loss.backward()
            opt.step()
            opt.reset_grad()
            freeze(critic, False)
            return loss.detach()

        found = [float(step(np.ones((3, 2), "float32") * k)) for k in range(4)]
        return [*found, *[p.numpy() for p in opt.params], [p.requires_grad for p in opt.params]]

    expected = losses(lambda f: f)
    for jit in (ndl.jit, ndl.jit(check=True)):
        for ours, theirs in zip(losses(jit), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_requires_grad_is_put_back_where_a_trace_ends_early():
    w = nn.Parameter([1.0])

    @ndl.jit(warmup=0)
    def step(x):
        w.requires_grad = False
        float((x * w).sum())
        w.requires_grad = True

    with pytest.raises(ndl.TraceError, match="are not known"):
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


def test_a_variable_that_a_function_reached_late_names_is_put_back():
    """The function found it changed: `forward` is reached when it is called."""
    mode, total = "train", ndl.Tensor([1.0])

    class Model(nn.Module):
        def forward(self, x):
            return x * total if mode == "test" else x

    model = Model()

    @ndl.jit(warmup=0)
    def step(x):
        nonlocal mode, total
        mode, total = "test", total + x
        return float(model(x))

    held = total
    with pytest.raises(ndl.TraceError, match="not known while a jitted function is traced"):
        step(ndl.Tensor([2.0]))
    assert mode == "train"
    assert total is held


def test_arrays_and_tensors_are_put_back_where_a_trace_ends_early():
    counts, w = np.zeros(2), nn.Parameter([1.0])

    @ndl.jit(warmup=0)
    def step(x):
        counts[0] += 1
        w.uses = counts[0]
        return float(w * x)

    with pytest.raises(ndl.TraceError, match="not known while a jitted function is traced"):
        step(ndl.Tensor([2.0]))
    assert counts.tolist() == [0.0, 0.0]
    assert not hasattr(w, "uses")


def test_a_float_argument_that_is_kept_beside_a_number_that_was_read_is_told():
    settings = nn.Module()
    settings.factor = 1.0

    @ndl.jit(warmup=0)
    def step(x, factor):
        before = settings.factor
        settings.factor = factor
        return x * factor + before * 0

    for k in range(2):
        assert step(ndl.Tensor([1.0]), k + 0.5).item() == settings.factor == k + 0.5
    with pytest.raises(ndl.TraceError, match=r"Set settings\.factor outside the jitted function"):
        step(ndl.Tensor([1.0]), 5.0)


def test_an_optimizers_state_may_come_into_being_parameter_by_parameter():
    found = []
    for jit in (ndl.jit, lambda function: function):
        weights = [nn.Parameter([1.0, 2.0]) for _ in range(5)]
        update = jit(ndl.optim.SGD(weights, lr=0.1, momentum=0.9).step)
        for k in range(8):
            for w in weights[: k + 1]:
                w.grad = ndl.Tensor([1.0, 1.0], requires_grad=False)
            update()
        found.append([w.numpy() for w in weights])
    np.testing.assert_allclose(*found, rtol=1e-6)
