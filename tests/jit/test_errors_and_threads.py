"""Errors inside a call leave the state of the last whole call; calls from threads take turns."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.jit.guards.guards import Guards
from needle.jit.programs.program import Program
from needle.jit.tracing import turns
from needle.jit.tracing.watch import Watch


class Classifier:
    def __init__(self):
        np.random.seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        self.opt = ndl.optim.Adam(self.model.parameters())
        self.loss = nn.SoftmaxLoss()

    def step(self, x, y):
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.opt.step()
        self.opt.reset_grad()
        return loss

    def state(self):
        return {**self.model.state_dict(), **self.opt.state_dict()}


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, -1, 2], [0, 1, 7]])
def test_an_index_out_of_range_raises_the_eager_message_and_leaves_state(labels):
    eager, classifier = Classifier(), Classifier()
    step = ndl.jit(classifier.step)
    x = ndl.Tensor(np.ones((3, 3), "float32"), requires_grad=False)
    good = ndl.Tensor([0, 1, 2], requires_grad=False)
    bad = ndl.Tensor(labels, requires_grad=False)
    for _ in range(3):
        step(x, good)
    before = classifier.state()
    texts = []
    for function in (eager.step, step):
        with pytest.raises(ndl.IndexRangeError) as caught:
            function(x, bad)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "out of range for size 3" in texts[0]
    after = classifier.state()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    assert all(p.grad is None for p in classifier.model.parameters())
    step(x, good)
    assert len(step.programs) == 1
    assert not np.array_equal(classifier.state()["t"], before["t"])


def test_take_and_one_hot_raise_as_eagerly():
    table = nn.Parameter(np.arange(12.0).reshape(4, 3))
    lookup = ndl.jit(lambda i: (table.take(i, 0), ndl.one_hot(4, i)), warmup=0)
    good = ndl.Tensor([0, 3], requires_grad=False)
    for _ in range(2):
        np.testing.assert_array_equal(lookup(good)[0].numpy(), table.numpy()[[0, 3]])
    for bad in ([0, 4], [9, 0]):
        with pytest.raises(ndl.IndexRangeError, match="out of range for size 4"):
            lookup(ndl.Tensor(bad, requires_grad=False))
    np.testing.assert_array_equal(lookup(good)[1].numpy(), np.eye(4)[[0, 3]])


def test_an_index_error_that_the_function_handles():
    table, missing = nn.Parameter(np.arange(4.0)), ndl.Tensor(0, requires_grad=False)

    def lookup(i):
        try:
            return table.take(i).sum()
        except ndl.IndexRangeError:
            missing.data = missing + 1
            return table.sum()

    compiled = ndl.jit(lookup, warmup=0)
    found = [compiled(ndl.Tensor(i, requires_grad=False)).item() for i in ([1, 2], [1, 9], [3, 3])]
    assert found == [3, 6, 6]
    assert missing.item() == 1
    assert len(compiled.programs) == 1


def test_an_index_error_that_is_handled_after_draws_is_told():
    """The call that failed has drawn: as written the function would draw other numbers."""
    table = nn.Parameter(np.arange(4.0))

    @ndl.jit(warmup=0)
    def lookup(i):
        noise = ndl.init.rand(1).sum()
        try:
            return table.take(i).sum() * noise
        except ndl.IndexRangeError:
            return table.sum() * noise

    lookup(ndl.Tensor([1, 2], requires_grad=False))
    with pytest.raises(ndl.TraceError, match=r"lookup handles an IndexRangeError .* draw outside"):
        lookup(ndl.Tensor([1, 9], requires_grad=False))


@pytest.mark.parametrize("seed", [np.random.seed, ndl.seed])
def test_an_index_error_leaves_the_random_stream_where_an_eager_call_does(seed):
    table = nn.Parameter(np.arange(4.0))

    def lookup(i):
        return ndl.init.rand(1), table.take(i)

    good, bad = (ndl.Tensor(i, requires_grad=False) for i in ([1, 2], [1, 9]))
    drawn = []
    for function in (lookup, ndl.jit(lookup, warmup=0)):
        seed(0)
        function(good)
        with pytest.raises(ndl.IndexRangeError):
            function(bad)
        drawn.append(function(good)[0].item())
    assert drawn[0] == drawn[1]


def test_an_error_leaves_grads_and_slots():
    module = nn.Module()
    module.last = ndl.Tensor([0.0], requires_grad=False)
    w = nn.Parameter([1.0, 2.0])

    @ndl.jit(warmup=0)
    def step(i):
        module.last = module.last + 1
        w.take(i, 0).sum().backward()
        return module.last * 1

    step(ndl.Tensor([0], requires_grad=False))
    grad = w.grad
    with pytest.raises(ndl.IndexRangeError):
        step(ndl.Tensor([5], requires_grad=False))
    assert w.grad is grad
    assert module.last.tolist() == [1.0]
    assert step(ndl.Tensor([1], requires_grad=False)).tolist() == [2.0]
    assert w.grad.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (40, 1000)])
def test_an_error_leaves_state_that_is_written_in_place(shape):
    module = nn.Module()
    module.state = nn.Parameter(np.ones(shape))
    table = nn.Parameter([1.0, 2.0])

    @ndl.jit(warmup=0)
    def step(i):
        module.state.data = module.state.data * 2
        return table.take(i, 0).detach()

    good, bad = (ndl.Tensor([i], requires_grad=False) for i in (1, 7))
    assert step(good).item() == step(good).item() == 2
    with pytest.raises(ndl.IndexRangeError):
        step(bad)
    np.testing.assert_array_equal(module.state.numpy(), np.full(shape, 4.0))
    step(good)
    np.testing.assert_array_equal(module.state.numpy(), np.full(shape, 8.0))


# -- threads ------------------------------------------------------------------------------------


def in_threads(work, count=4):
    """Run `work(k)` in threads at once and raise what they raise."""
    errors = []
    barrier = threading.Barrier(count)

    def run(k):
        try:
            barrier.wait()
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def test_threads_that_call_one_jitted_function():
    model = nn.Sequential(nn.Linear(8, 8, dtype="float64"), nn.ReLU())
    predict = ndl.jit(model)
    batches = [ndl.init.randn(4, 8, dtype="float64") for _ in range(4)]
    with ndl.no_grad():
        expected = [model(x).numpy() for x in batches]

    def work(k):
        with ndl.no_grad():
            for _ in range(50):
                np.testing.assert_allclose(predict(batches[k]).numpy(), expected[k], rtol=1e-12)

    in_threads(work)
    assert len(predict.programs) == 1


def test_threads_that_change_one_state():
    total = ndl.Tensor([0.0], requires_grad=False)

    @ndl.jit(warmup=0)
    def add(x):
        total.data = total + x
        return total * 1

    one = ndl.Tensor([1.0], requires_grad=False)
    add(one)
    in_threads(lambda k: [add(one) for _ in range(100)])
    assert total.tolist() == [401.0]


@pytest.mark.parametrize("backend", ["native"], indirect=True)
def test_data_of_another_size_that_a_thread_assigns_between_look_and_call(monkeypatch):
    small, large = [ndl.Tensor(np.ones(n), requires_grad=False) for n in (2, 2000)]
    x, w = [ndl.Tensor(np.ones(2000), requires_grad=False) for _ in range(2)]

    @ndl.jit(warmup=0)
    def add(x):
        w.data = w + 1
        return x * 2

    double = ndl.jit(lambda x: x * 2, warmup=0)
    for function in (add, double, add, double):
        function(x)
    # What another thread does after a look, the look does not see.
    monkeypatch.setattr(Program, "fits", lambda program, args, modes: True)
    monkeypatch.setattr(Guards, "difference", lambda guards, leaves: None)
    for data in (small, large, small):
        x.data = w.data = data
        assert add(x).shape == data.shape
        np.testing.assert_array_equal(w.numpy(), np.full(data.shape, 2.0))
        assert double(x).shape == data.shape


def test_a_thread_that_seeds_between_look_and_call(monkeypatch):
    draw = ndl.jit(lambda: ndl.init.rand(3) * 1, warmup=0)
    draw()
    monkeypatch.setattr(Program, "fits", lambda program, args, modes: True)
    ndl.seed(3)
    try:
        ours = draw().numpy()
        ndl.seed(3)
        np.testing.assert_array_equal(ours, ndl.init.rand(3).numpy())
    finally:
        ndl.seed(None)


@pytest.mark.parametrize("backend", ["native"], indirect=True)
def test_a_program_refuses_memory_of_another_size_and_another_stream():
    draw = ndl.jit(lambda x: x + ndl.init.rand(3), warmup=0)
    draw(ndl.Tensor([0.0, 0.0, 0.0]))
    (program,) = draw.programs
    with pytest.raises(
        ndl.TraceError, match=r"another size \(16 bytes, not 24\) by another thread"
    ):
        program.run([ndl.Tensor([0.0, 0.0])])
    ndl.seed(3)
    try:
        with pytest.raises(ndl.TraceError, match=r"another thread called ndl\.seed"):
            program.run([ndl.Tensor([0.0, 0.0, 0.0])])
    finally:
        ndl.seed(None)


def test_threads_that_trace_other_functions():
    shared = nn.Linear(4, 4, dtype="float64")
    batches = [ndl.init.randn(2, 4, dtype="float64") for _ in range(4)]
    products = [shared(x).numpy() for x in batches]

    def work(k):
        for n in range(5):
            f = ndl.jit(lambda x, n=n: shared(x) * float(n + k), warmup=0)
            for _ in range(3):
                expected = products[k] * (n + k)
                np.testing.assert_allclose(f(batches[k]).numpy(), expected, rtol=1e-9, atol=1e-12)

    in_threads(work)
    assert type(shared) is nn.Linear


def test_modes_belong_to_a_thread():
    w = nn.Parameter([1.0])
    f = ndl.jit(lambda x: x * w, warmup=0)
    x = ndl.Tensor([1.0])
    flags = {}

    def work(k):
        if k % 2:
            with ndl.no_grad():
                flags[k] = f(x).requires_grad
        else:
            flags[k] = f(x).requires_grad

    in_threads(work)
    assert flags == {0: True, 1: False, 2: True, 3: False}


# -- calls inside an operator ----------------------------------------------------------------------


class Calling(ndl.TensorOp):
    """Doubles its input, by way of a function of arrays."""

    def __init__(self, function):
        self.function = function

    def compute(self, a):
        return self.function(a)

    def gradient(self, out_grad, node):
        return out_grad * 2


def test_an_operator_may_call_another_jitted_function():
    """In a trace too, which holds up all programs."""
    double = ndl.jit(lambda x: x * 2.0, warmup=0)
    outer = ndl.jit(Calling(lambda a: double(ndl.Tensor(a)).numpy()), warmup=0)
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    double(x)
    for _ in range(3):
        assert outer(x).tolist() == [2.0, 4.0]
    assert len(outer.programs) == 1


@pytest.mark.parametrize("traced", [True, False])
def test_operators_that_call_what_other_threads_run(traced):
    """Each thread holds the program that the other one needs: neither may wait."""
    together = threading.Barrier(2, timeout=10)
    meet = threading.Event()  # which is not watched: the programs stay

    def called(a, k):
        if meet.is_set():
            together.wait()
            f = ndl.jit(lambda x: x * 2, warmup=0) if traced else programs[1 - k]
            f(ndl.Tensor(a if traced else [5.0], requires_grad=False))
            together.wait()
        return a * 2

    def function(k):
        return lambda x: Calling(lambda a: called(a, k))(x) if x.shape[0] > 1 else x * 2

    programs = [ndl.jit(function(k), warmup=0) for k in range(2)]
    x = ndl.Tensor([1.0, 2.0], requires_grad=False)
    for program in programs:
        program(x)
        program(ndl.Tensor([5.0], requires_grad=False))
    meet.set()
    results = []
    threads = [
        threading.Thread(target=lambda p=p: results.append(p(x)), daemon=True) for p in programs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [result.tolist() for result in results] == [[2.0, 4.0]] * 2


def test_threads_that_make_programs_at_once():
    def work(k):
        for n in range(60):
            assert ndl.jit(lambda x, n=n: x * float(n), warmup=0)(ndl.Tensor(2.0)).item() == 2 * n

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(work)
    finally:
        sys.setswitchinterval(interval)


_FORK = """
import os, threading, time
import needle as ndl

x = ndl.init.ones(64, 64)
step = ndl.jit(lambda x: (x @ x).sum(), warmup=0)
step(x)
going = True

def run():
    while going:
        {work}

thread = threading.Thread(target=run)
thread.start()
for _ in range(8):
    child = os.fork()
    if not child:
        made = ndl.jit(lambda x: x * 2.0, warmup=0)
        os._exit(0 if float(step(x)) == 64.0**3 and made(x).numpy().sum() == 2 * 64**2 else 1)
    limit = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > limit:
            os.kill(child, 9)
        time.sleep(0.002)
    print("done")
going = False
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("work", ["step(x)", "ndl.jit(lambda x: x * 3.0, warmup=0)(x)"])
def test_a_child_forked_while_another_thread_is_in_a_program(work):
    code = _FORK.replace("{work}", work).replace(
        "os.kill(child, 9)", "os.kill(child, 9); os._exit(1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "done\n" * 8), done.stderr


# -- Ctrl-C ----------------------------------------------------------------------------------------


def test_control_c_while_a_trace_is_put_back(monkeypatch):
    """Tensors that stand in for values would stay behind."""
    close = Watch.close
    presses = [KeyboardInterrupt]

    def interrupted(watch):
        if presses:
            raise presses.pop()
        close(watch)

    monkeypatch.setattr(Watch, "close", interrupted)
    model = nn.Linear(2, 3)
    predict = ndl.jit(model, warmup=0)
    x = ndl.Tensor([[1.0, 2.0]], dtype="float32")
    expected = model(x).numpy()
    with pytest.raises(KeyboardInterrupt):
        predict(x)
    assert type(model) is nn.Linear
    np.testing.assert_array_equal(model(x).numpy(), expected)
    np.testing.assert_allclose(predict(x).numpy(), expected, rtol=1e-6)


def test_control_c_in_a_checked_call():
    w = nn.Parameter([1.0])
    module = nn.Module()
    module.h = ndl.Tensor([0.0], requires_grad=False)
    stopped = np.array([False])

    @ndl.jit(warmup=0, check=True)
    def step(x):
        w.data = w + x
        module.h = module.h + x
        if stopped[0]:
            raise KeyboardInterrupt
        return w * 1

    x = ndl.Tensor([1.0], requires_grad=False)
    step(x)
    stopped[0] = True
    with pytest.raises(KeyboardInterrupt):
        step(x)
    assert (w.item(), module.h.item()) == (2.0, 1.0)


def test_control_c_while_programs_are_paused(monkeypatch):
    """No program stays locked."""
    double = ndl.jit(lambda x: x * 2, warmup=0)
    x = ndl.Tensor([1.0, 2.0])
    double(x)
    take = turns._take

    def interrupted(lock):
        take(lock)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(turns, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ndl.jit(lambda x: x * 3, warmup=0)(x)
    results = []
    thread = threading.Thread(target=lambda: results.append(double(x).tolist()), daemon=True)
    thread.start()
    thread.join(10)
    assert results == [[2.0, 4.0]]
