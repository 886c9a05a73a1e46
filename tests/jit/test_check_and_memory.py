"""`check=True`, and memory: no cycles, no growth."""

import gc
import os
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import nn


def large(values):
    """An array whose contents are not watched."""
    return np.array(values * 20_000)


def test_check_finds_a_stale_python_value():
    temperature = large([1.0])
    step = ndl.jit(lambda x: x / float(temperature[0]), warmup=0, check=True)
    assert step(ndl.Tensor([3.0])).tolist() == [3.0]
    temperature[0] = 0.5
    with pytest.raises(ndl.TraceError, match=r"check: the result differs by up to 3 .* constant"):
        step(ndl.Tensor([3.0]))


def test_check_finds_stale_state_gradients_and_slots():
    w = nn.Parameter([1.0])
    module = nn.Module()
    module.h = ndl.Tensor([0.0], requires_grad=False)
    source = large([1.0, 1.0, 1.0])

    @ndl.jit(warmup=0, check=True)
    def step(x):
        (w * float(source[0])).sum().backward()
        module.h = module.h + float(source[1])
        w.data = w + float(source[2])
        return x * 1

    x = ndl.Tensor([1.0], requires_grad=False)
    for place, where in ((0, r"a \.grad"), (1, "module.h"), (2, r"a tensor of shape \(1,\)")):
        step(x)
        source[place] = 2.0  # written in place: nothing notices
        with pytest.raises(ndl.TraceError, match=f"check: {where} differs by up to 1 "):
            step(x)
        source[place] = 1.0


def test_check_runs_on_copies_and_leaves_the_state_of_the_program():
    def make(**options):
        np.random.seed(0)
        # A bias before a batch norm has no gradient but rounding, which Adam scales to steps.
        model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.BatchNorm1d(3), nn.Dropout(0.5))
        opt = ndl.optim.Adam(model.parameters())

        @ndl.jit(**options)
        def step(x):
            loss = (model(x) ** 2).mean()
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss.detach()

        np.random.seed(1)
        losses = [step(ndl.init.randn(4, 3)).item() for _ in range(6)]
        return losses, model.state_dict(), opt.state_dict()

    plain, checked = make(), make(check=True)
    assert plain[0] == checked[0]
    for ours, theirs in zip(checked[1:], plain[1:], strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_check_leaves_gradients_alone_that_live_in_the_call():
    w = nn.Parameter([[2.0], [1.0]])

    @ndl.jit(warmup=0, check=True)
    def penalty(x):
        for own in ((x * 2).detach(), ndl.Tensor([[1.0, 2.0]])):
            own.requires_grad = True
            ((own @ w) ** 2).sum().backward()
            x = x + own.grad.detach()
        w.grad = None
        return x

    x = ndl.Tensor([[1.0, 1.0]], requires_grad=False)
    assert penalty(x).tolist() == [[41.0, 21.0]]  # 1 + 4·6 + 4·4, 1 + 2·6 + 2·4


def test_check_leaves_state_alone_that_is_made_in_the_call():
    w = nn.Parameter([1.0])

    @ndl.jit(warmup=0, check=True)
    def step(x):
        opt = ndl.optim.Adam([w], lr=0.5)
        (w * x).sum().backward()
        w.grad.data = w.grad * 3
        opt.step()
        return w * 1

    x = ndl.Tensor([1.0], requires_grad=False)
    assert [round(step(x).item(), 6) for _ in range(3)] == [0.5, 0.0, -0.5]


def test_check_sees_the_gradient_of_a_parameter_with_new_data():
    w = nn.Parameter([1.0])
    source = large([1.0])

    @ndl.jit(warmup=0, check=True)
    def step(x):
        w.data = w + 1
        (w * x * float(source[0])).sum().backward()

    step(ndl.Tensor([1.0], requires_grad=False))
    source[0] = 2.0
    with pytest.raises(ndl.TraceError, match=r"check: a \.grad differs by up to 1 "):
        step(ndl.Tensor([1.0], requires_grad=False))


def test_check_knows_rounding_that_was_cast():
    """As in the norm of float32 gradients, which is float64 with the rounding of float32."""
    np.random.seed(0)
    step = ndl.jit(lambda x: (x.exp() * x).sum().astype("float64"), warmup=0, check=True)
    for _ in range(5):
        assert step(ndl.init.randn(1001)).dtype == np.float64


def network_without_use_for_a_bias(seed):
    """The bias before a batch norm has a gradient of rounding, and Adam divides it by its size."""
    np.random.seed(seed)
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    batch = np.random.randn(32, 20).astype("float32"), np.random.randint(0, 4, 32)
    return model, nn.SoftmaxLoss(), batch


@pytest.mark.parametrize("seed", range(3))
def test_check_knows_directions_that_are_rounding(seed):
    model, loss_fn, batch = network_without_use_for_a_bias(seed)
    opt = ndl.optim.Adam(model.parameters(), lr=1e-2)

    @ndl.jit(check=True)
    def step(x, y):
        loss = loss_fn(model(x), y)
        loss.backward()
        directions = [p.grad / (p.grad.abs() + 1e-20) for p in model.parameters()[:2]]
        opt.step()
        opt.reset_grad()
        return loss.detach(), {"directions": directions}

    for _ in range(5):
        step(*batch)
    assert len(step.programs) == 1


def test_check_finds_a_difference_beside_a_direction_that_is_rounding():
    model, loss_fn, batch = network_without_use_for_a_bias(0)
    opt = ndl.optim.Adam(model.parameters(), lr=1e-2)
    factors = large([1.0])

    @ndl.jit(check=True)
    def step(x, y):
        loss = loss_fn(model(x), y)
        (loss * float(factors[0])).backward()
        opt.step()
        opt.reset_grad()

    for _ in range(3):
        step(*batch)
    factors[0] = 1.1
    with pytest.raises(ndl.TraceError, match=r"check: .* differs by up to"):
        step(*batch)


def test_rounding_leaves_random_streams_and_indices_alone():
    table = nn.Parameter(np.random.randn(5, 3).astype("float32"))

    @ndl.jit(warmup=0, check=True)
    def step(x):
        places = (x * 0 + 3).astype("float32")
        noise = ndl.init.rand(2, 3) + (table[places] - table[places]) * 0
        direction = (x * 0.1 + x * 0.2 - x * 0.3).astype("float32")
        return noise, direction / (direction.abs() + 1e-20)

    np.random.seed(1)
    drawn = np.random.rand(2, 3).astype("float32")
    after = np.random.rand()
    np.random.seed(1)
    noise, _ = step(ndl.Tensor([0.7, 1.1], dtype="float32"))
    np.testing.assert_array_equal(noise.numpy(), drawn)
    assert np.random.rand() == after


def test_check_takes_numbers_of_more_digits():
    step = ndl.jit(lambda x: x * 2, warmup=0, check=True)
    assert step(ndl.Tensor(np.array([1.5], np.longdouble))).tolist() == [3.0]


def test_check_notices_other_structure_and_streams():
    flags = large([0])

    @ndl.jit(warmup=0, check=True)
    def step(x):
        if flags[0] == 1:
            return x, x
        if flags[0] == 2:
            ndl.init.rand(2)
        if flags[0] == 3:
            raise ZeroDivisionError
        if flags[0] == 5:
            return x.astype("float32")
        return x[:1] if flags[0] == 4 else x * 1

    x = ndl.Tensor([1.0, 2.0])
    step(x)
    for flag, error, message in (
        (1, ndl.TraceError, "the result"),
        (2, ndl.TraceError, "the random stream stands elsewhere"),
        (3, ZeroDivisionError, None),
        (4, ndl.TraceError, r"has shape \(2,\) compiled and \(1,\) eagerly"),
        (5, ndl.TraceError, "the result has dtype float64 compiled and float32 eagerly"),
    ):
        flags[0] = flag
        with pytest.raises(error, match=message):
            step(x)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda n: n, "the result is 1 after the compiled call and 2 after the eager one"),
        (lambda n: np.float32(n), "the result differs by up to 1"),
        (lambda n: (str(n),), r"the result\[0\] is '1' .* and '2' after"),
        (lambda n: [0] * n, r"the result is \[0\] .* and \[0, 0\] after"),
        (lambda n: {n: 0}, r"the result is \{1: 0\} .* and \{2: 0\} after"),
    ],
    ids=["int", "float32", "str", "list", "dict"],
)
def test_check_notices_other_python_values(returned, message):
    flags = large([1])
    step = ndl.jit(lambda x: returned(int(flags[0])), warmup=0, check=True)
    x = ndl.Tensor([1.0])
    step(x)
    flags[0] = 2
    with pytest.raises(ndl.TraceError, match=f"check: {message}"):
        step(x)


def count_tensors():
    return ndl.autograd.TENSOR_COUNTER


# -- memory -------------------------------------------------------------------------------------


def collect_all():
    """Collect till nothing is left: programs of earlier tests die with what they read, in turn."""
    while gc.collect():
        pass


def test_what_a_traced_function_made_goes_with_it_and_need_not_be_collected(monkeypatch):
    class Settings:
        rate = 2.0

    def step(x):
        y = x * getattr(Settings, "rate") if hasattr(Settings, "rate") else x  # noqa: B009
        return (y * y).sum()

    collected = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append("all"))
    assert ndl.jit(step, warmup=0)(ndl.init.ones(3)).item() == 12
    assert not collected


def test_a_training_loop_makes_no_cycles_and_does_not_grow():
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4))
    opt = ndl.optim.Adam(model.parameters())
    loss_fn = nn.SoftmaxLoss()

    @ndl.jit
    def step(x, y):
        loss = loss_fn(model(x), y)
        loss.backward()
        opt.step()
        opt.reset_grad()
        return loss

    y = ndl.Tensor(np.arange(6) % 4, requires_grad=False)
    for _ in range(5):
        step(ndl.init.randn(6, 8), y)
    collect_all()
    gc.disable()
    try:
        tensors, things = count_tensors(), len(gc.get_objects())
        for _ in range(50):
            step(ndl.init.randn(6, 8), y)
        assert count_tensors() <= tensors
        assert len(gc.get_objects()) <= things + 20
        assert gc.collect() == 0
    finally:
        gc.enable()


STATM = Path("/proc/self/statm")


@pytest.mark.skipif(not STATM.exists(), reason="reads Linux's /proc")
def test_resident_memory_does_not_grow():
    def resident():
        return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    w = nn.Parameter(np.ones((256, 256)))

    @ndl.jit
    def step(x):
        y = (x @ w).tanh()
        y.sum().backward()
        w.data = w - w.grad * 1e-6
        w.grad = None
        return y

    for _ in range(10):
        step(ndl.Tensor(np.ones((256, 256)), requires_grad=False))
    before = resident()
    for _ in range(100):
        step(ndl.Tensor(np.ones((256, 256)), requires_grad=False))
    assert resident() - before < 8 * 512 * 1024


def test_differentiated_calls_make_no_cycles():
    w = nn.Parameter(np.ones((4, 4)))
    f = ndl.jit(lambda x: (x @ w).tanh().sum(), warmup=0)
    x = ndl.Tensor(np.ones((4, 4)))
    for _ in range(3):
        f(x).backward()
    w.grad = x.grad = None
    collect_all()
    gc.disable()
    try:
        tensors = count_tensors()
        for _ in range(20):
            f(x).backward()
            w.grad = x.grad = None
        assert count_tensors() <= tensors
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_model_that_is_replaced_is_freed():
    world = {"model": nn.Linear(4, 4)}

    @ndl.jit(warmup=0)
    def predict(x):
        return world["model"](x)

    predict(ndl.init.ones(1, 4))
    gone = weakref.ref(world["model"])
    world["model"] = nn.Linear(4, 4)
    predict(ndl.init.ones(1, 4))
    gc.collect()
    assert gone() is None
    assert len(predict.programs) == 1


def test_a_jitted_function_and_all_it_made_is_freed():
    collect_all()
    gc.disable()
    try:
        holder = [nn.Parameter([1.0])]
        f = ndl.jit(lambda x: x * holder[0], warmup=0)
        f(ndl.Tensor([1.0]))
        gone = [weakref.ref(thing) for thing in (f, f.programs[0], holder[0])]
        del f, holder[:]
        assert [reference() for reference in gone] == [None] * 3
    finally:
        gc.enable()


def test_check_of_an_index_error_that_the_function_handles():
    table = ndl.Tensor([1.0, 2.0], requires_grad=False)

    @ndl.jit(warmup=0, check=True)
    def look_up(i):
        try:
            return ndl.take(table, i)
        except ndl.IndexRangeError:
            return ndl.Tensor([-1.0])

    looked_up = [look_up(np.array([k])).tolist() for k in (0, 5, 1)]
    assert looked_up == [[1.0], [-1.0], [2.0]]


def test_objects_without_weak_references_are_not_collected():
    class Batch:
        __slots__ = ("x",)

    class Size(int):
        """Known by its value, and what it is counted by."""

        alive = 0

        def __init__(self, *_):
            Size.alive += 1

        def __del__(self):
            Size.alive -= 1

    step = ndl.jit(lambda batch: ndl.Tensor([1.0]) * batch.x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(200):
            batch = Batch()
            batch.x = Size(k)
            assert step(batch).item() == k
    assert Size.alive < 20
    (warning,) = caught
    assert "objects of your own are part of a signature:" in str(warning.message)
    assert warning.filename == __file__
    for _ in range(3):
        step(batch)
    assert len(step.programs) == 1
