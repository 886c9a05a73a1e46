"""Whose turn it is: one call of a program at a time, and none in other threads during a trace.

A thread inside a program (in an operator of the user's) or a trace holds what others wait for. It
does not wait itself, or all could wait for ever::

    before: two threads                        after

    A  runs p, whose operator calls q          A  q is taken: makes the call as written
    B  runs q, whose operator calls p          B  p is taken: the same

A fork waits until no program is being made, and its child has locks of its own: the threads that
held the old ones are not in it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakSet

from ..context import ambient, ambient_set
from ..errors import TraceError


class Turn(Protocol):
    """A program: who runs it holds its lock."""

    lock: threading.Lock


class BusyError(TraceError):
    """Another thread has what this one may not wait for."""


class _State:
    """What this process has: who makes a program, and all programs."""

    def __init__(self) -> None:
        self.making = threading.RLock()
        self.programs: WeakSet[Turn] = WeakSet()


_state = _State()


def hold(lock: Any) -> AbstractContextManager[Any]:
    """A `with` block that holds a lock, waiting for it unless others may wait for this thread."""
    return _hold_at_once(lock) if ambient.inside else lock


@contextmanager
def _hold_at_once(lock: Any) -> Generator[None]:
    if not lock.acquire(blocking=False):
        raise BusyError(
            "jit: a program that another thread runs or makes is needed inside an operator's "
            "compute, which may not wait for it. Do this outside of the operator"
        )
    try:
        yield
    finally:
        lock.release()


def making() -> AbstractContextManager[Any]:
    """A `with` block in which no other thread makes a program."""
    return hold(_state.making)


def add(program: Turn) -> None:
    """Let `paused` know of a program, which was made in `making`."""
    _state.programs.add(program)


@contextmanager
def paused() -> Generator[None]:
    """Let no program run in other threads inside a `with` block: a trace borrows the tensors."""
    inside = ambient.inside
    with making(), ExitStack() as stack:
        for program in list(_state.programs):
            if program not in inside:
                stack.enter_context(hold(program.lock))
        with ambient_set(inside=(*inside, "a trace")):
            yield


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
            program.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
