"""Threads draw from streams that they share in turns, and none while another traces or checks."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.philox import PhiloxStream
from needle.random import ambient_stream
from needle.streams import turn


@pytest.fixture(autouse=True)
def streams_as_before():
    before = ndl.random.get_state()
    yield
    ndl.random.set_state(before)


def philox():
    ndl.seed(5)


def numpys():
    ndl.seed(None)
    np.random.seed(5)


def drawn():
    return ndl.init.rand(3).tolist()


class Meanwhile:
    """Does work in another thread once, and gives it time."""

    def __init__(self, work):
        self._thread = threading.Thread(target=lambda: self.results.append(work()))
        self.results = []

    def __call__(self):
        if self._thread.ident is None:
            self._thread.start()
            self._thread.join(0.2)

    def result(self):
        self._thread.join()
        return self.results[0]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("seed", [philox, numpys])
def test_draws_of_another_thread_wait_for_a_trace_or_check(seed, check):
    seed()
    expected = [drawn(), drawn()]
    seed()
    meanwhile = Meanwhile(drawn)

    @ndl.jit(warmup=0, check=check)
    def function(x):
        if start:
            meanwhile()
        return x * 2

    x, start = ndl.Tensor([1.0]), not check
    if check:
        function(x)
        start = True
    assert function(x).item() == 2
    assert [meanwhile.result(), drawn()] == expected


@pytest.mark.parametrize("backend", ["native"], indirect=True)
@pytest.mark.parametrize("seed", [philox, numpys])
def test_an_operator_that_is_run_in_a_trace_may_draw_beside_other_threads(seed):
    class Noisy(ndl.TensorOp):
        def compute(self, a):
            meanwhile()
            return a + ambient_stream().uniform(a.shape)

    seed()
    expected = [drawn(), drawn()]
    seed()
    meanwhile = Meanwhile(drawn)
    ndl.explain(lambda x: Noisy()(x), ndl.Tensor([1.0, 2.0, 3.0], requires_grad=False))
    assert [meanwhile.result(), drawn()] == expected


def test_seeds_and_states_of_another_thread_wait_for_a_trace():
    philox()
    state = ndl.random.get_state()
    for work in (lambda: ndl.seed(7), lambda: ndl.random.set_state(state), ndl.random.get_state):
        meanwhile = Meanwhile(work)
        ndl.jit(lambda x, meanwhile=meanwhile: (meanwhile(), x * 2)[1], warmup=0)(ndl.Tensor(1.0))
        meanwhile.result()


def test_a_stream_of_its_own_that_a_jitted_function_names():
    stream = PhiloxStream(3)
    meanwhile = Meanwhile(stream.reserve)

    def function(x):
        seed = stream.seed
        meanwhile()
        return x * seed

    assert ndl.jit(function, warmup=0)(ndl.Tensor(1.0)).item() == 3
    assert (meanwhile.result(), stream.draw) == (0, 1)


@pytest.mark.parametrize("seed", [philox, numpys])
def test_training_in_several_threads(seed):
    def train(k):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
        opt = ndl.optim.SGD(model.parameters(), lr=0.1)

        @ndl.jit
        def step(x):
            loss = (model(x) ** 2).mean()
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss

        return [step(ndl.init.rand(3, 4)).item() for _ in range(4)]

    seed()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert np.isfinite(list(pool.map(train, range(12)))).all()
    finally:
        sys.setswitchinterval(interval)


def test_a_traced_function_that_waits_for_a_thread_that_draws_is_told(monkeypatch):
    monkeypatch.setattr(type(turn), "seconds", 1)

    def function(x):
        with ThreadPoolExecutor(1) as pool:
            return x * pool.submit(drawn).result()[0]

    with pytest.raises(ndl.TraceError, match=r"not to be had for 1 s, .* draw the numbers before"):
        ndl.jit(function, warmup=0)(ndl.Tensor(1.0))
    assert len(drawn()) == 3


_FORK = """
import os, threading, time
import needle as ndl

ndl.seed({seed})
going = True

def run():
    while going:
        ndl.init.rand(50, 50)

thread = threading.Thread(target=run)
thread.start()
for _ in range(20):
    child = os.fork()
    if not child:
        waiting = threading.Thread(target=ndl.init.rand, args=(3,))
        waiting.start()
        waiting.join(10)
        os._exit(int(waiting.is_alive()))
    assert os.waitpid(child, 0)[1] == 0
going = False
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_another_thread_draws():
    code = _FORK.replace("{seed}", "0")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
