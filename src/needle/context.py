"""All ambient state of the library, one set for each thread.

`ambient.evaluator` decides what an operator call does: compute at once (eager), record and compute
on demand (lazy), or record only (trace). The `graph` package puts the eager one in place.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Ambient(threading.local):
    """Thread-local modes, all of them in the `__dict__` of a thread: one look gives them all."""

    default: Any = None
    """The evaluator of a new thread."""

    def __init__(self) -> None:
        self.evaluator = self.default
        self.gradients = True
        self.implicit_broadcasting = False
        self.inside: tuple[Any, ...] = ()
        """Compiled programs, and traces, that this thread is inside of."""


ambient = Ambient()


class Changes:
    """Counts changes of what compiled programs rely on: tensors given new data, attributes set."""

    count: int = 0


changes = Changes()


@contextmanager
def ambient_set(**modes: Any) -> Generator[None]:
    """Set modes of this thread inside a `with` block and put the old ones back after it."""
    before = {name: getattr(ambient, name) for name in modes}
    for name, value in modes.items():
        setattr(ambient, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(ambient, name, value)


def no_grad() -> Any:
    """Record no graph inside a `with` block (or a function decorated with `no_grad()`).

    Returns:
        A context manager. Results computed inside need no gradient.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([1.0, 2.0])
        >>> with ndl.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """
    return ambient_set(gradients=False)


def enable_grad() -> Any:
    """Record the graph again inside a `no_grad` block.

    Example:
        >>> import needle as ndl
        >>> with ndl.no_grad(), ndl.enable_grad():
        ...     y = ndl.Tensor([1.0]) * 2
        >>> y.requires_grad
        True
    """
    return ambient_set(gradients=True)


def implicit_broadcasting() -> Any:
    """Let operands of different shapes broadcast by NumPy's rule inside a `with` block.

    The `BroadcastTo` is recorded in the graph, so gradients are right.

    Example:
        >>> import needle as ndl
        >>> with ndl.implicit_broadcasting():
        ...     y = ndl.Tensor([[1.0], [2.0]]) + ndl.Tensor([10.0, 20.0])
        >>> y.shape
        (2, 2)
    """
    return ambient_set(implicit_broadcasting=True)
