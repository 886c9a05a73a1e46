"""Whose turn it is: one call of a program at a time, and none in other threads during a trace.

A thread inside a program (in an operator of the user's) or a trace holds what others wait for. It
does not wait itself, or all could wait for ever::

    before: two threads                        after

    A  runs p, whose operator calls q          A  q is taken: makes the call as written
    B  runs q, whose operator calls p          B  p is taken: the same

Draws from random streams wait for a trace too (`needle.streams.turn`). That turn is taken last, and
whoever holds it waits for nothing else.

A fork waits until no program is being made, and its child has locks of its own: the threads that
held the old ones are not in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakSet

from ...context import ambient
from ...errors import TraceError
from ...streams import turn

_TRACE = "a trace"
_DRY_RUN = "what is undone"


class Turn(Protocol):
    """A program: who runs it holds its lock, which is one that knows its owner."""

    lock: Any


class BusyError(TraceError):
    """Another thread has what this one may not wait for."""


class EnteredError(TraceError):
    """A program is to run inside of itself."""


class _State:
    """What this process has: who makes a program, and all programs."""

    def __init__(self) -> None:
        self.making = threading.RLock()
        self.programs: WeakSet[Turn] = WeakSet()


_state = _State()


def turn_of(program: Turn) -> AbstractContextManager[Any]:
    """A `with` block for a call of a program: one at a time.

    Raises:
        EnteredError: this thread is inside of the program.
        BusyError: it is inside of others, and would have to wait.
    """
    return inside_turn(program) if ambient.inside else program.lock


def inside_turn(program: Turn) -> AbstractContextManager[Any]:
    """A `with` block for a call of a program by a thread that is inside of others.

    Raises:
        EnteredError: it is inside of this one.
        BusyError: it would have to wait.
    """
    if program in ambient.inside:
        raise EnteredError(
            "a compiled program was entered again from one of its own operators. "
            "Do not call the jitted function inside an operator's compute"
        )
    if _TRACE in ambient.inside:  # which has borrowed the program's tensors
        raise BusyError(_BUSY)
    return _hold_at_once(program.lock)


@contextmanager
def _hold_at_once(lock: Any) -> Generator[None]:
    _take(lock)
    try:
        yield
    finally:
        lock.release()


def _take(lock: Any) -> None:
    """Wait for a lock, unless others may wait for this thread."""
    if not lock.acquire(blocking=not ambient.inside):
        raise BusyError(_BUSY)


_BUSY = (
    "jit: a program that another thread runs or makes is needed inside an operator's compute, "
    "which may not wait for it. Do this outside of the operator"
)


def making() -> AbstractContextManager[Any]:
    """A `with` block in which no other thread makes a program."""
    return _hold_at_once(_state.making) if ambient.inside else _state.making


def add(program: Turn) -> None:
    """Let `paused` know of a program, which was made in `making`."""
    _state.programs.add(program)


@contextmanager
def paused() -> Generator[None]:
    """Let no program run in other threads inside a `with` block: a trace borrows the tensors."""
    inside = ambient.inside
    with making():
        locks = [program.lock for program in list(_state.programs) if program not in inside]
        try:
            for lock in locks:
                _take(lock)
            ambient.inside = (*inside, _TRACE)
            with turn:
                yield
        finally:  # also where Ctrl-C came between two of them
            ambient.inside = inside
            for lock in locks:
                with suppress(RuntimeError):  # not taken
                    lock.release()


@contextmanager
def draws_paused() -> Generator[None]:
    """Let no other thread draw from streams that threads share inside a `with` block."""
    inside = ambient.inside
    with turn:
        ambient.inside = (*inside, _DRY_RUN)
        try:
            yield
        finally:
            ambient.inside = inside


# -- fork ------------------------------------------------------------------------------------------


def _before_fork() -> None:
    _state.making.acquire(blocking=not ambient.inside)


def _after_fork_in_parent() -> None:
    with suppress(RuntimeError):  # it was not to be had
        _state.making.release()


def _after_fork_in_child() -> None:
    _state.making = threading.RLock()
    for program in list(_state.programs):
        if program not in ambient.inside:
            program.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
