"""How threads share the chunks of a program, as native code: the lower half of `threads`.

Each thread has a queue: one word with the numbers of the next chunk and of the end. The owner takes
chunks from the front, others, once their own queue is empty, from the back, both by
compare-and-swap of the whole word. So a thread meets the same chunks in each phase and finds their
data in its cache, and one that is late holds up the chunk it has and no more. Who finishes the last
chunk of a stage fills the queues for the next stage. Nobody waits for a thread that has no chunk:
one that the system has put aside is not missed.

A swap that succeeds proves that its chunk is to be had now, whatever happened since the word was
read; and a run does not end before all its chunks have. So a late worker never touches the memory
of a program that is gone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from . import layout
from .llvm import Host
from .values import I1, I8, I32, I64, PTR, VOID, Type, Value
from .vectors import Builder, Source

PAUSES = 4  # in a spin: each look takes a queue's cache line from the thread that works
STEAL_PAUSES = 16  # before a chunk is taken from another thread: longer than filling all queues


def serial_ir(host: Host) -> str:
    """The function `serial(program)`."""
    source = Source(host)
    _serial(source)
    return source.text()


def pool_ir(host: Host) -> str:
    """The functions `run(program)`, `worker(pool, thread)` and what `threads` sets up with."""
    source = Source(host)
    for define in (
        _serial, _run, _attempt, _chunk, _publish, _wake, _worker, _sleep, _prepare, _stop, _spin,
    ):  # fmt: skip
        define(source)
    return source.text()


def _function(
    name: str, result: Type = VOID, **arguments: Type
) -> Callable[[Callable[..., Value | None]], Callable[[Source], None]]:
    """Make of what writes the body of a function what adds the function to a module."""

    def decorate(write: Callable[..., Value | None]) -> Callable[[Source], None]:
        def define(source: Source) -> None:
            function = source.function(name, arguments, result)
            function.body.ret(write(function.body, *function.arguments))

        return define

    return decorate


def _at(b: Builder, base: Value, offset: int) -> Value:
    return b.offset(base, I8, offset)


def _record(b: Builder, pool: Value, thread: Value) -> Value:
    return b.offset(_at(b, pool, layout.RECORDS), I8, thread * layout.RECORD_SIZE)


def _ends(b: Builder, queue: Value) -> tuple[Value, Value]:
    """The next chunk of a queue's word, and the end."""
    return b.binary("lshr", queue, 32), queue & (layout.NEXT - 1)


def _call_phase(b: Builder, program: Value, row: Value, begin: Value, end: Value) -> None:
    """Call a phase's function: the program's arguments, first chunk and end, own words."""
    function, words = b.load(row, PTR, layout.ROW_FUNCTION), b.load(row, PTR, layout.ROW_GIVEN)
    arguments = b.load(program, PTR, layout.PROGRAM_ARGUMENTS)
    b.call_pointer(function, VOID, arguments, begin, end, words)


def _lock(b: Builder, name: str, record: Value) -> None:
    b.call_c(f"pthread_mutex_{name}", I32, _at(b, record, layout.MUTEX))


def _rest(b: Builder, pauses: int = PAUSES) -> None:
    """Wait between two looks at the queues."""
    for _ in range(pauses):
        b.pause()


@_function("spin", spins=I64)
def _spin(b: Builder, spins: Value) -> None:
    """Spin this many times: to find out how long that takes."""
    with b.loop(0, spins):
        _rest(b)


@_function("prepare", pool=PTR, threads=I64)
def _prepare(b: Builder, pool: Value, threads: Value) -> None:
    """Make the mutexes and conditions of a pool with this many threads."""
    null = Value(b, "null", PTR)
    with b.loop(0, threads) as loop:
        record = _record(b, pool, loop.index)
        b.call_c("pthread_mutex_init", I32, _at(b, record, layout.MUTEX), null)
        b.call_c("pthread_cond_init", I32, _at(b, record, layout.CONDITION), null)


@_function("serial", program=PTR)
def _serial(b: Builder, program: Value) -> None:
    """Run all phases in order, each in one go, on this thread."""
    with b.loop(0, b.load(program, I64, layout.PROGRAM_ROWS)) as loop:
        row = b.offset(program, I64, loop.index * layout.ROW_WORDS + layout.HEADER)
        begin = b.load(row, I64, layout.ROW_BEGIN)
        _call_phase(b, program, row, begin, begin + b.load(row, I64, layout.ROW_CHUNKS))


@_function("run", program=PTR)
def _run(b: Builder, program: Value) -> None:
    """Run a program with its number of threads, or on this one alone while the pool is taken."""
    pool = b.load(program, PTR, layout.PROGRAM_POOL)
    busy = _at(b, pool, layout.BUSY)

    def together() -> None:
        b.atomic_store(b.load(program, I64, layout.PROGRAM_THREADS), _at(b, pool, layout.LIMIT))
        b.store(program, _at(b, pool, layout.PROGRAM))
        b.atomic_store(0, _at(b, pool, layout.DONE))
        rows = b.load(program, I64, layout.PROGRAM_ROWS) * layout.ROW_WORDS + layout.HEADER
        b.call("publish", VOID, pool, b.offset(program, I64, rows))
        _help_until_done(b, pool, b.load(program, I64, layout.PROGRAM_CHUNKS))
        b.atomic_store(0, busy)

    def alone() -> None:
        b.call("serial", VOID, program)

    b.either(b.compare_swap(busy, 0, 1), together, alone)


def _help_until_done(b: Builder, pool: Value, chunks: Value) -> None:
    """Take chunks; where there is none, spin, and give the processor away after a while."""
    patience = b.load(_at(b, pool, layout.YIELD_SPINS), I64)

    def turn(spins: Value) -> tuple[Value, Value]:
        ran = b.call("attempt", I1, pool, 0)
        spins = b.select(ran, 0, spins + 1)
        b.when(~ran, lambda: _rest(b))
        b.when(spins > patience, lambda: b.call_c("sched_yield", I32))
        return b.compare("!=", b.atomic_load(_at(b, pool, layout.DONE)), chunks), spins

    b.repeat(turn, [0])


@_function("attempt", I1, pool=PTR, thread=I64)
def _attempt(b: Builder, pool: Value, thread: Value) -> Value:
    """Take a chunk and run it: from the own queue, else from another; false where all are empty.

    Another's queue may be filled a moment before the own one. So who finds a chunk there waits,
    and looks at the own queue once more: each thread keeps the chunks whose data it has.
    """
    limit = b.atomic_load(_at(b, pool, layout.LIMIT))

    def turn(step: Value, waited: Value) -> tuple[Value, Value, Value, Value]:
        other = thread + step
        queue = _record(b, pool, b.select(other < limit, other, other - limit))
        word = b.atomic_load(queue)
        first, end = _ends(b, word)
        available, own = first < end, b.compare("==", step, 0)
        early = available & ~own & ~waited

        def take() -> None:
            left = b.select(own, word + layout.NEXT, word - 1)
            number = b.select(own, first, end - 1)
            won = b.compare_swap(queue, word, left)
            b.when(won, lambda: b.call("chunk", VOID, pool, number))

        b.when(early, lambda: _rest(b, STEAL_PAUSES))
        b.when(available & ~early, take)
        step = b.select(early, 0, step + 1)
        return early | (~available & (step < limit)), step, waited | early, available

    no = b.constant(0, I1)
    _, _, available = b.repeat(lambda step, waited, _: turn(step, waited), [0, no, no])
    return available


@_function("chunk", pool=PTR, number=I64)
def _chunk(b: Builder, pool: Value, number: Value) -> None:
    """Run a chunk that was taken; after the last of a stage, open the next stage."""
    program = b.load(_at(b, pool, layout.PROGRAM), PTR)
    place = b.load(program, I64, b.load(program, I64, layout.PROGRAM_PLACES) + number)
    row = b.offset(program, I64, place)
    chunk = number - b.load(row, I64, layout.ROW_NUMBER) + b.load(row, I64, layout.ROW_BEGIN)
    _call_phase(b, program, row, chunk, chunk + 1)
    # Read before the chunk counts as done: unless another stage follows, the program may then go.
    stage_end = b.load(row, I64, layout.ROW_STAGE_END)
    following = b.load(row, I64, layout.ROW_NEXT_QUEUES)
    done = b.atomic_add(_at(b, pool, layout.DONE), 1) + 1
    opens = b.compare("==", done, stage_end) & b.compare("!=", following, 0)
    b.when(opens, lambda: b.call("publish", VOID, pool, b.offset(program, I64, following)))


@_function("publish", pool=PTR, queues=PTR)
def _publish(b: Builder, pool: Value, queues: Value) -> None:
    """Fill the queues for a stage.

    Once the last queue that is not empty is filled, others may finish the stage and the program.
    So nothing of the program is read after that, nor is an empty queue written.
    """
    with b.loop(0, b.load(queues, I64)) as loop:
        word = b.load(queues, I64, loop.index + 1)
        first, end = _ends(b, word)
        queue = _record(b, pool, loop.index)
        b.when(first < end, functools.partial(b.atomic_store, word, queue))
    b.call("wake", VOID, pool)


@_function("wake", pool=PTR)
def _wake(b: Builder, pool: Value) -> None:
    """Wake the sleeping threads that may take part."""
    with b.loop(1, b.atomic_load(_at(b, pool, layout.LIMIT))) as loop:
        record = _record(b, pool, loop.index)

        def wake() -> None:
            _lock(b, "lock", record)
            b.atomic_store(0, _at(b, record, layout.ASLEEP))
            b.call_c("pthread_cond_signal", I32, _at(b, record, layout.CONDITION))
            _lock(b, "unlock", record)

        b.when(b.compare("!=", b.atomic_load(_at(b, record, layout.ASLEEP)), 0), wake)


@_function("worker", pool=PTR, thread=I64)
def _worker(b: Builder, pool: Value, thread: Value) -> None:
    """Take chunks until `stop`; spin for a while where there is none, then sleep."""
    patience = b.load(_at(b, pool, layout.IDLE_SPINS), I64)
    zero = b.constant(0, I64)

    def idle(spins: Value) -> list[Value]:
        _rest(b)
        tired = spins > patience
        b.when(tired, lambda: b.call("sleep", VOID, pool, thread))
        return [b.select(tired, zero, spins + 1)]

    def turn(spins: Value) -> tuple[Value, Value]:
        wanted = thread < b.atomic_load(_at(b, pool, layout.LIMIT))
        no = b.constant(0, I1)
        (ran,) = b.either(wanted, lambda: [b.call("attempt", I1, pool, thread)], lambda: [no])
        (spins,) = b.either(ran, lambda: [zero], lambda: idle(spins))
        return b.compare("==", b.atomic_load(_at(b, pool, layout.STOP)), 0), spins

    b.repeat(turn, [zero])


@_function("sleep", pool=PTR, thread=I64)
def _sleep(b: Builder, pool: Value, thread: Value) -> None:
    """Sleep until woken, unless there is work after all.

    Who opens a stage writes queues and then reads `ASLEEP`; who sleeps writes and reads the other
    way round. Both are in one order for all threads, so one of the two sees the other.
    """
    record = _record(b, pool, thread)
    asleep = _at(b, record, layout.ASLEEP)
    _lock(b, "lock", record)
    b.atomic_store(1, asleep)
    limit = b.atomic_load(_at(b, pool, layout.LIMIT))
    with b.loop(0, limit, carry=[b.constant(0, I1)]) as loop:
        first, end = _ends(b, b.atomic_load(_record(b, pool, loop.index)))
        loop.update(loop.values[0] | (first < end))
    work = loop.values[0] & (thread < limit)
    work |= b.compare("!=", b.atomic_load(_at(b, pool, layout.STOP)), 0)
    b.when(work, lambda: b.atomic_store(0, asleep))

    def wait() -> tuple[Value]:
        still = b.compare("!=", b.atomic_load(asleep), 0)
        condition, mutex = _at(b, record, layout.CONDITION), _at(b, record, layout.MUTEX)
        b.when(still, lambda: b.call_c("pthread_cond_wait", I32, condition, mutex))
        return (still,)

    b.repeat(wait)
    _lock(b, "unlock", record)


@_function("stop", pool=PTR, threads=I64)
def _stop(b: Builder, pool: Value, threads: Value) -> None:
    """Tell all workers of a pool with this many threads to return."""
    b.atomic_store(threads, _at(b, pool, layout.LIMIT))
    b.atomic_store(1, _at(b, pool, layout.STOP))
    b.call("wake", VOID, pool)
