"""Programs give the same bits for any number of threads, and survive what processes do."""

import ctypes
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle.errors import ArgumentError
from needle.native import layout, llvm, sharing, threads
from needle.native.pool import pool_ir
from needle.native.sharing import Phase
from needle.native.thread_choice import ThreadChoice
from needle.native.threads import Program
from needle.native.vectors import F64, I64, PTR, Source

CHUNK = 64


@pytest.fixture(autouse=True)
def _settings():
    yield
    threads.set_threads(None)


def native(write):
    """A module with the function `phase`, which does what `write` appends for each chunk."""
    source = Source(llvm.host())
    words = {"arguments": PTR, "begin": I64, "end": I64, "words": PTR}
    function = source.function("phase", words)
    b, (arguments, begin, end, _) = function.body, function.arguments
    with b.loop(begin, end) as loop:
        write(b, arguments, loop.index)
    b.ret()
    return llvm.compile_ir(source.text())


def smooth(b, x, chunk):
    """Average of row `chunk` and the next one, between two buffers: word 0 says from which."""
    from_second = b.load(x, I64)
    size = b.load(x, I64, 1)
    here = from_second * size
    there = (1 - from_second) * size
    rows = size / CHUNK
    following = b.binary("urem", chunk + 1, rows)

    def body(i, mask):
        kind = F64.vector(8)
        data = b.offset(x, I64, 2)
        first = b.load(data, kind, here + chunk * CHUNK + i, mask=mask)
        second = b.load(data, kind, here + following * CHUNK + i, mask=mask)
        b.store(b.fma(second, 0.5, first * 0.5), data, there + chunk * CHUNK + i, mask=mask)

    b.vector_loop(0, CHUNK, 8, body)


def flip(b, x, chunk):
    """Change the buffer that is read next."""
    b.store(1 - b.load(x, I64), x)


class Smoothing:
    """Each phase reads what all chunks of the phase before have written."""

    def __init__(self, rows, steps):
        modules = native(smooth), native(flip)
        work, turn = (module.address("phase") for module in modules)
        self.rows, self.steps = rows, steps
        self.memory = np.zeros(2 + 2 * rows * CHUNK)
        self.memory.view(np.int64)[:2] = 0, rows * CHUNK
        phases = [Phase(work, rows), Phase(turn, 1)] * steps
        self.program = Program(phases, self.memory.ctypes.data, keep=(modules, self.memory))

    def __call__(self, x):
        self.memory[2 : 2 + x.size] = x.ravel()
        self.memory.view(np.int64)[0] = 0
        self.program.run()
        start = 2 + (self.steps % 2) * x.size
        return self.memory[start : start + x.size].reshape(x.shape).copy()

    def expected(self, x):
        for _ in range(self.steps):
            x = np.roll(x, -1, axis=0) * 0.5 + x * 0.5
        return x


@pytest.mark.parametrize("count", (1, 2, 3, 8))
def test_every_number_of_threads_gives_the_same_bits(count):
    smoothing = Smoothing(rows=23, steps=15)
    x = np.random.normal(size=(23, CHUNK))
    threads.set_threads(1)
    one = smoothing(x)
    np.testing.assert_allclose(one, smoothing.expected(x), rtol=1e-12)
    threads.set_threads(count)
    for _ in range(100):
        np.testing.assert_array_equal(smoothing(x), one)


def test_every_chunk_runs_exactly_once():
    def count(b, x, chunk):
        b.store(b.load(x, I64, chunk) + 1, x, chunk)

    module, counts = native(count), np.zeros(1000, np.int64)
    phase = Phase(module.address("phase"), 1000)
    program = Program([phase], counts.ctypes.data, keep=module)
    for number in (1, 2, 5):
        threads.set_threads(number)
        counts[:] = 0
        for _ in range(200):
            program.run()
        assert (counts == 200).all()


def test_phases_that_do_not_wait_share_a_stage():
    phases = [Phase(1, 3), Phase(2, 2, waits=False), Phase(3, 0), Phase(4, 4)]
    assert sharing.stages(phases) == [phases[:2], phases[3:]]
    assert Program(phases, 0)._most == 5
    assert Program(phases, 0, most=3)._most == 3


def queues(stage, count):
    """What each thread begins with: addresses of phases, with their chunks."""
    shared = sharing.share(stage, count)
    return [[(p.phase.address, *range(p.begin, p.end)) for p in queue] for queue in shared]


def test_a_thread_meets_the_same_part_of_each_phase():
    stage = [Phase(1, 8), Phase(2, 4, waits=False)]
    assert queues(stage, 1) == [[(1, *range(8)), (2, *range(4))]]
    assert queues(stage, 2) == [[(1, 0, 1, 2, 3), (2, 0, 1)], [(1, 4, 5, 6, 7), (2, 2, 3)]]
    assert queues(stage, 3) == [
        [(1, 0, 1), (2, 0)], [(1, 2, 3, 4), (2, 1)], [(1, 5, 6, 7), (2, 2, 3)],
    ]  # fmt: skip


def test_single_chunks_go_where_there_is_least_to_do():
    stage = [Phase(1, 1, cost=2.0), Phase(2, 3, cost=4.0), Phase(3, 1, cost=3.0)]
    assert queues(stage, 2) == [[(2, 0), (3, 0), (1, 0)], [(2, 1, 2)]]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.floats(0, 9)), min_size=1, max_size=9),
    st.integers(1, 5),
)
def test_every_chunk_is_in_one_queue(found, count):
    phases = [Phase(10 + k, chunks, waits, cost) for k, (chunks, waits, cost) in enumerate(found)]
    table = sharing.table(phases, 0, count)
    rows = table[layout.HEADER :][: table[layout.PROGRAM_ROWS] * layout.ROW_WORDS]
    chunks = []
    for number in range(table[layout.PROGRAM_CHUNKS]):
        row = table[table[table[layout.PROGRAM_PLACES] + number] :][: layout.ROW_WORDS]
        assert any((row == known).all() for known in rows.reshape(-1, layout.ROW_WORDS))
        place = number - row[layout.ROW_NUMBER]
        assert 0 <= place < row[layout.ROW_CHUNKS]
        chunks.append((row[layout.ROW_FUNCTION], row[layout.ROW_BEGIN] + place))
    assert sorted(chunks) == [(p.address, chunk) for p in phases for chunk in range(p.chunks)]


def test_a_stage_fills_its_own_queues_only():
    """While a pool is stopped its limit is above the number of threads of a run under way."""
    phases = [Phase(1, 2), Phase(2, 1), Phase(3, 2)]
    table = sharing.table(phases, 0, 2)
    memory = np.zeros((layout.RECORDS + 4 * layout.RECORD_SIZE) // 8, np.int64)
    memory[layout.LIMIT // 8] = 4
    address, pointer = memory.ctypes.data, ctypes.c_void_p
    publish = llvm.compile_ir(pool_ir(llvm.host())).function("publish", None, pointer, pointer)
    first = layout.HEADER + layout.ROW_WORDS * table[layout.PROGRAM_ROWS]
    publish(address, table[first:].ctypes.data)
    queues = memory[layout.RECORDS // 8 :: layout.RECORD_SIZE // 8]
    assert [divmod(int(word), layout.NEXT) for word in queues] == [(0, 1), (1, 2), (0, 0), (0, 0)]


def test_no_more_threads_than_asked_for_take_part():
    def note(b, x, chunk):
        b.store(b.call_c("pthread_self", I64), x, chunk)

    module, who = native(note), np.zeros(64, np.int64)
    phase = Phase(module.address("phase"), 64)
    threads.set_threads(4)
    Program([phase], who.ctypes.data, keep=module).run()
    program, seen = Program([phase], who.ctypes.data, most=2, keep=module), set()
    for _ in range(500):
        program.run()
        seen.update(who.tolist())
    assert len(seen) <= 2


def test_nothing_to_do():
    Program([], 0).run()
    threads.set_threads(4)
    Program([], 0).run()
    Program([Phase(0, 0)], 0).run()


def test_workers_wake_after_they_slept():
    smoothing = Smoothing(rows=8, steps=4)
    x = np.random.normal(size=(8, CHUNK))
    threads.set_threads(3)
    one = smoothing(x)
    for _ in range(10):
        time.sleep(0.005)
        np.testing.assert_array_equal(smoothing(x), one)


def test_idle_workers_use_no_processor():
    smoothing = Smoothing(rows=8, steps=4)
    threads.set_threads(4)
    smoothing(np.zeros((8, CHUNK)))
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


def test_python_threads_run_programs_at_once():
    threads.set_threads(2)
    smoothings = [Smoothing(rows=11, steps=6) for _ in range(4)]
    x = np.random.normal(size=(11, CHUNK))
    one, wrong = smoothings[0](x), []

    def work(smoothing):
        wrong.extend(1 for _ in range(200) if not np.array_equal(smoothing(x), one))

    users = [threading.Thread(target=work, args=(s,)) for s in smoothings]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


def test_the_pool_grows():
    smoothing = Smoothing(rows=16, steps=3)
    x = np.random.normal(size=(16, CHUNK))
    results = []
    for count in (2, 6, 3, 1, 7):
        threads.set_threads(count)
        results.append(smoothing(x))
    assert threads._state.pool.size >= 7
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.fixture
def no_pool():
    """The process has made no pool yet, and makes another one after the test."""
    threads._stop()
    threads._state.forget()
    yield
    threads._stop()
    threads._state.forget()


def starting(monkeypatch, what):
    """Call `what` with the number of a worker whose thread has been started, or is to be."""
    start = threading.Thread.start

    def started(thread):
        number = int(thread.name.removeprefix("needle-"))
        what(number, lambda: start(thread))

    monkeypatch.setattr(threading.Thread, "start", started)


@pytest.mark.parametrize("most", (1, 2, 3))
def test_where_the_system_has_no_more_threads(no_pool, monkeypatch, most):
    smoothing = Smoothing(rows=16, steps=3)
    x = np.random.normal(size=(16, CHUNK))
    threads.set_threads(1)
    one, tried = smoothing(x), []

    def start(number, go_on):
        tried.append(number)
        if number >= most:
            raise RuntimeError("can't start new thread")
        go_on()

    starting(monkeypatch, start)
    threads.set_threads(8)
    for _ in range(20):
        np.testing.assert_array_equal(smoothing(x), one)
    assert threads._state.pool.size == most
    assert tried == list(range(1, most + 1))  # it is not tried again


def test_without_posix_threads_a_program_runs_on_one(no_pool, monkeypatch):
    """As on Windows, where the code of a pool cannot be loaded; also if more are asked for."""
    smoothing, x = Smoothing(rows=16, steps=3), np.random.normal(size=(16, CHUNK))
    with monkeypatch.context() as patch:
        patch.setattr(threads, "POSIX", False)
        patch.setattr(threads, "pool_ir", lambda host: "@c.no_such_mutex = global ptr null")
        threads._state.forget()
        threads.set_threads(4)
        for _ in range(2):
            np.testing.assert_allclose(smoothing(x), smoothing.expected(x), rtol=1e-12)
        assert threads._state.pool is None


def test_more_threads_than_chunks_are_not_made(no_pool):
    smoothing = Smoothing(rows=5, steps=3)
    threads.set_threads(2**31 - 1)
    x = np.random.normal(size=(5, CHUNK))
    np.testing.assert_allclose(smoothing(x), smoothing.expected(x), rtol=1e-12)
    assert threads._state.pool.size == max(5, threads._processors())


def test_control_c_while_the_pool_is_made(no_pool, monkeypatch):
    """Workers that have started do not look at memory that is gone."""
    smoothing = Smoothing(rows=16, steps=3)
    x = np.random.normal(size=(16, CHUNK))

    def start(number, go_on):
        go_on()
        if number == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        starting(patch, start)
        threads.set_threads(4)
        with pytest.raises(KeyboardInterrupt):
            smoothing(x)
    assert threads._state.pool is None
    deadline = time.monotonic() + 60
    while any(t.name.startswith("needle-") for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    np.testing.assert_allclose(smoothing(x), smoothing.expected(x), rtol=1e-12)


def test_a_program_runs_while_the_pool_is_made(no_pool, monkeypatch):
    """As in a signal's handler, or where an object goes."""
    smoothing, other = Smoothing(rows=16, steps=3), Smoothing(rows=16, steps=3)
    x = np.random.normal(size=(16, CHUNK))
    results = []

    def start(number, go_on):
        go_on()
        if not results:
            results.append(None)
            results.append(other(x))

    starting(monkeypatch, start)
    threads.set_threads(3)
    np.testing.assert_array_equal(smoothing(x), smoothing(x))
    np.testing.assert_array_equal(results[1], smoothing(x))


def test_automatic_choice_gives_the_same_bits():
    smoothing = Smoothing(rows=16, steps=3)
    x = np.random.normal(size=(16, CHUNK))
    first = smoothing(x)
    assert all(np.array_equal(smoothing(x), first) for _ in range(50))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*")  # of Python, and of JAX where that is loaded
def test_a_forked_child_makes_its_own_workers():
    threads.set_threads(2)
    smoothing = Smoothing(rows=8, steps=4)
    x = np.random.normal(size=(8, CHUNK))
    one = smoothing(x)
    child = os.fork()
    if child == 0:
        inherited = threads._state.pool
        right = all(np.array_equal(smoothing(x), one) for _ in range(20))
        os._exit(0 if right and inherited is None and threads._state.pool is not None else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    np.testing.assert_array_equal(smoothing(x), one)


SCRIPT = """
import sys, time
import numpy as np
sys.path.insert(0, {folder!r})
from test_threads import Smoothing, CHUNK
from needle.native import threads
threads.set_threads(2)
smoothing = Smoothing(rows=64, steps=200)
x = np.zeros((64, CHUNK))
smoothing(x)
print("ready", flush=True)
{rest}
"""


def script(rest):
    text = SCRIPT.format(folder=os.path.dirname(__file__), rest=rest)  # noqa: PTH120
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_interpreter_exits_cleanly():
    process = script("")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "ready\n", "")


def test_control_c_stops_a_loop_of_runs(control_c):
    process = script(
        "try:\n  while True: smoothing(x)\n"
        "except KeyboardInterrupt:\n  smoothing(x); print('stopped', flush=True)"
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    output, errors = control_c(process)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_arguments_are_checked():
    with pytest.raises(ArgumentError, match=r"set_threads: 0 threads cannot run anything"):
        threads.set_threads(0)
    with pytest.raises(
        ArgumentError, match=r"2147483648 chunks are more than 2147483647. Compute with f"
    ):
        Program([Phase(0, 2**31)], 0)


def test_threads_says_how_many():
    threads.set_threads(3)
    assert threads.threads() == 3
    threads.set_threads(None)
    assert threads.threads() >= 1


def simulate(choice, times, runs):
    """Feed a choice with the time that each number of threads takes."""
    for _ in range(runs):
        choice.add(times[choice.threads])
    return choice.threads


def test_choice_takes_the_fastest():
    assert simulate(ThreadChoice(4), {1: 1000, 2: 600, 4: 400}, 40) == 4
    assert simulate(ThreadChoice(4), {1: 1000, 2: 600, 4: 590}, 40) == 2
    assert simulate(ThreadChoice(3), {1: 100, 2: 600, 3: 900}, 30) == 1
    assert simulate(ThreadChoice(1), {1: 100}, 30) == 1


def test_choice_is_not_misled_by_the_first_runs_or_a_disturbance():
    choice = ThreadChoice(2)
    for run in range(24):
        time_ = {1: 1000, 2: 600}[choice.threads]
        choice.add(time_ * 50 if run in (0, 1, 5, 11) else time_)
    assert choice.threads == 2


def test_choice_does_not_count_the_time_in_which_threads_wake_up():
    choice, before = ThreadChoice(2), 1
    for _ in range(24):
        count = choice.threads
        choice.add({1: 1000, 2: 600}[count] + (500 if count > before else 0))
        before = count
    assert choice.threads == 2


def test_hopeless_candidates_are_tried_little():
    choice, tried = ThreadChoice(2), []
    for _ in range(24):
        tried.append(choice.threads)
        choice.add({1: 100, 2: 5000}[choice.threads])
    assert tried.count(2) == 6


def test_choice_looks_again_when_runs_are_late():
    choice = ThreadChoice(2)
    assert simulate(choice, {1: 1000, 2: 600}, 50) == 2
    assert simulate(choice, {1: 1000, 2: 3000}, 30) == 1


def test_a_trial_that_was_disturbed_costs_few_runs():
    """A program starts while something else has the other processor: nothing is late afterwards."""
    choice = ThreadChoice(2)
    assert simulate(choice, {1: 1000, 2: 2000}, 30) == 1
    assert simulate(choice, {1: 1000, 2: 600}, 100) == 2


def test_choice_looks_again_now_and_then_but_ever_less():
    choice = ThreadChoice(2)
    simulate(choice, {1: 1000, 2: 1500}, 50)
    assert simulate(choice, {1: 1000, 2: 600}, 400) == 2
    looks = []
    for run in range(20_000):
        if choice.threads == 1:
            looks.append(run)
        choice.add({1: 1000, 2: 600}[choice.threads])
    assert len(looks) < 120
