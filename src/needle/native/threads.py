"""Programs of phases, run by one thread or shared out in chunks among several.

A phase is a native function `void f(ptr arguments, i64 begin, i64 end, ptr words)` that does the
chunks begin ... end - 1; phases may share a function, each with words of its own. Chunks of a phase
are independent, and do not know who does them: so results are the same to the bit for any number of
threads. `sharing` says which thread begins with which chunks, `pool` hands them out.

Workers are Python threads parked in native code, without the interpreter's lock. They spin for a
moment when there is nothing to do, then sleep. `set_threads` fixes how many threads a program uses;
without it each program finds the best number by timing its runs.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from . import layout
from .llvm import compile_ir, host
from .pool import pool_ir, serial_ir
from .sharing import Phase, widest
from .sharing import table as make_table
from .thread_choice import ThreadChoice

IDLE_SECONDS = 100e-6  # a worker without work spins this long before it sleeps,
YIELD_SECONDS = 10e-6  # a caller without a chunk this long before it gives its turn away
POSIX = os.name == "posix"  # elsewhere there are no POSIX threads, and so no pool


class Program:
    """Phases with one pointer of arguments; `keep` (modules, buffers) lives as long as this does.

    At most `most` threads take part. A program may be run from several Python
    threads if its arguments allow it: who finds the workers taken runs alone.
    """

    def __init__(
        self, phases: Sequence[Phase], arguments: int, *, most: int | None = None, keep: object = ()
    ) -> None:
        self._phases = phases
        self._arguments = arguments
        self._ready = dict[int, _Ready]()  # by number of threads
        self._keep = keep
        self._most = min(most or layout.MAX_CHUNKS, widest(phases))
        self._ready[1] = self._made_ready(1, None)
        self._alone = self._ready[1].run
        self._choice = ThreadChoice(min(self._most, _processors()))

    def run(self) -> None:
        """Run all phases and return when they are done."""
        if self._most == 1:
            self._alone()
            return
        fixed = _state.fixed
        if fixed is not None:
            self._run(min(fixed, self._most))
            return
        start = time.perf_counter_ns()
        self._run(self._choice.threads)
        self._choice.add(time.perf_counter_ns() - start)

    def _run(self, count: int) -> None:
        pool = _pool(count) if min(count, _state.most) > 1 else None
        if pool is None or pool.size == 1:
            self._alone()
            return
        ready = self._ready.get(count)
        if ready is None or ready.pool is not pool:
            ready = self._ready[count] = self._made_ready(min(count, pool.size), pool)
        ready.run()

    def _made_ready(self, count: int, pool: _Pool | None) -> _Ready:
        table = make_table(self._phases, self._arguments, count)
        if pool is not None:
            table[layout.PROGRAM_POOL] = pool.address
        function = _serial_function() if pool is None else pool.run
        run = functools.partial(function, table.ctypes.data)
        return _Ready(run, pool, table)


class _Ready(NamedTuple):
    """A program's table and what runs it: to make that anew would take as long as a small run."""

    run: Callable[[], None]
    pool: _Pool | None
    table: np.ndarray[Any, np.dtype[np.int64]]


def set_threads(count: int | None) -> None:
    """Let every program use `count` threads; None: each finds its best number by timing."""
    if count is not None and count < 1:
        raise ArgumentError(f"set_threads: {count} threads cannot run anything. Give 1 or more")
    _state.fixed = count


def threads() -> int:
    """The most threads that a program uses now."""
    return _processors() if _state.fixed is None else _state.fixed


class _Pool:
    """`size` - 1 parked workers, and the memory through which they are given work.

    Fewer than asked for where the system starts no more threads.
    """

    def __init__(self, size: int) -> None:
        module = compile_ir(pool_ir(host()))
        self._memory = _aligned(layout.RECORDS + size * layout.RECORD_SIZE)
        self.address = self._memory.ctypes.data
        pointer, word = ctypes.c_void_p, ctypes.c_int64
        self.run = module.function("run", None, pointer)
        self._stop = module.function("stop", None, pointer, word)
        module.function("prepare", None, pointer, word)(self.address, size)
        self._set_spins(module.function("spin", None, word))
        self._worker = module.function("worker", None, pointer, word)
        self._workers: list[threading.Thread] = []
        self.size = size
        try:
            self._start()
        except BaseException:  # Ctrl-C: nobody will have this pool
            self._stop(self.address, size)
            raise

    def _start(self) -> None:
        """Start the workers, as many as the system lets us."""
        for number in range(1, self.size):
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"needle-{number}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads for us
                self.size = number
                return
            self._workers.append(thread)

    def _work(self, number: int) -> None:
        """What a worker does. It holds on to the pool, and so to the memory that it looks at."""
        self._worker(self.address, number)

    def _set_spins(self, spin: Any) -> None:
        """Turn seconds into spins: how long one takes differs tenfold between processors."""
        spin(1000)
        start = time.perf_counter()
        spin(1000)
        seconds = (time.perf_counter() - start) / 1000
        words = self._memory.view(np.int64)
        words[layout.IDLE_SPINS // 8] = IDLE_SECONDS / seconds
        words[layout.YIELD_SPINS // 8] = YIELD_SECONDS / seconds

    def stop(self) -> None:
        """Let the workers return. A run under way is finished by its caller."""
        self._stop(self.address, self.size)
        for thread in self._workers:
            thread.join()


class _State:
    """What this process has: the pool, once made, and the number of threads asked for.

    Attributes:
        most: So many threads the system lets it have.
    """

    def __init__(self) -> None:
        self.fixed: int | None = None
        self.forget()

    def forget(self) -> None:
        """After a fork: the child has none of the parent's workers, and a lock of its own."""
        self.pool: _Pool | None = None
        self.most = layout.MAX_CHUNKS if POSIX else 1
        self.lock = threading.RLock()  # for a signal's handler that runs a program, too


_state = _State()
if hasattr(os, "register_at_fork"):
    # While a pool is made, LLVM's lock is held, and a child would find it so for ever.
    os.register_at_fork(
        before=lambda: _state.lock.acquire(),
        after_in_parent=lambda: _state.lock.release(),
        after_in_child=_state.forget,
    )


def _pool(size: int) -> _Pool:
    """The process's pool, made or enlarged at need; smaller where there are no more threads."""
    pool = _state.pool
    if pool is None or pool.size < min(size, _state.most):
        with _state.lock:
            pool = _state.pool
            if pool is None or pool.size < min(size, _state.most):
                if pool is not None:
                    pool.stop()
                wanted = max(size, min(threads(), _processors()))
                _state.pool = pool = _Pool(wanted)
                if pool.size < wanted:
                    _state.most = pool.size
    return pool


@atexit.register
def _stop() -> None:
    """Code and memory go at exit: no worker may still be in them."""
    with _state.lock:
        if _state.pool is not None:
            _state.pool.stop()
            _state.pool = None


@functools.cache
def _serial_function() -> Any:
    return compile_ir(serial_ir(host())).function("serial", None, ctypes.c_void_p)


def _processors() -> int:
    """Processors that this process may use."""
    if not POSIX:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Zeros, aligned so that words meant to lie on different cache lines do."""
    memory = np.zeros(size + 128, np.uint8)
    start = -memory.ctypes.data % 128
    return memory[start : start + size]
