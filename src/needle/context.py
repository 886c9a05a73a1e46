"""All ambient state of the library, one set for each thread.

`ambient.evaluator` decides what an operator call does: compute at once (eager), record and compute
on demand (lazy), or record only (trace). The `graph` package puts the eager one in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import iscoroutinefunction, isgeneratorfunction
from typing import Any, Protocol
from weakref import finalize, ref

ALL = "*"
"""Stands for all attributes of an object, or all that a list or dict holds."""
VALUE = "value"
"""Stands for the data of a tensor, and its `requires_grad`."""


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
        self.twins: dict[int, Any] = {}
        """What stands for users' operators in gradients, by identity (`tracing/pullback.py`)."""


ambient = Ambient()


class Relying(Protocol):
    """What is told of changes."""

    def tell(self, owner: Any, name: Any) -> None:
        """An attribute that this relies on was set."""


class Changes:
    """Tells compiled programs what happens to what they rely on: tensors, and attributes.

    Attributes:
        grads: How often a `.grad` was set. Programs look for those that they read at each call;
            that none was set since matters to those that reset them.
    """

    def __init__(self) -> None:
        self.grads = 0
        # By identity of the object, and the name of what was used of it.
        self._relying: dict[int, dict[Any, tuple[ref[Relying], ...]]] = {}

    def rely(self, program: Relying, owner: Any, names: Iterable[str]) -> None:
        """Tell a program of what happens to these attributes of an object, as long as it lives."""
        known = self._relying.get(id(owner))
        if known is None:
            known = self._relying[id(owner)] = {}
            finalize(owner, self._relying.pop, id(owner), None).atexit = False
        for name in names:
            others = [other for other in known.get(name, ()) if other() not in (None, program)]
            known[name] = (*others, ref(program))

    def note(self, owner: Any, name: Any, but: Relying | None = None) -> None:
        """Tell all programs that rely on an attribute, but one, that it was set.

        Whoever sets one tells of it before, as Ctrl-C may come right after that, and once more
        after it, as another thread may have looked in between.
        """
        known = self._relying.get(id(owner))
        if known is not None:
            for key in {name, ALL}:
                for reference in known.get(key, ()):
                    program = reference()
                    if program is not None and program is not but:
                        program.tell(owner, name)


changes = Changes()


class _Modes(AbstractContextManager[None]):
    """Modes that hold inside a `with` block, or a function."""

    def __init__(self, modes: dict[str, Any]) -> None:
        self._modes = modes
        self._before: list[dict[str, Any]] = []

    def __enter__(self) -> None:
        before = {name: getattr(ambient, name) for name in self._modes}
        self._before.append(before)
        for name, value in self._modes.items():
            setattr(ambient, name, value)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.pop().items():
            setattr(ambient, name, value)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with these modes in its body.

        That of a generator function, or of an `async def`, is run piece by piece.
        """
        modes = self._modes

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with _Modes(modes):
                return function(*args, **kwargs)

        @wraps(function)
        def pieces(*args: Any, **kwargs: Any) -> Any:
            return (yield from _Pieces(modes, function(*args, **kwargs)))

        @wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            return await _Pieces(modes, function(*args, **kwargs))

        if iscoroutinefunction(function):
            return awaited
        return pieces if isgeneratorfunction(function) else inside


class _Pieces(Generator[Any, Any, Any]):
    """A generator whose body has modes of its own, and leaves those of its caller as they are.

    So has that of a coroutine, which is resumed as a generator is.
    """

    def __init__(self, modes: dict[str, Any], generator: Any) -> None:
        self._modes = modes
        self._generator = generator

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        with _Modes(self._modes):
            return self._generator.send(value)

    def throw(self, *error: Any) -> Any:
        with _Modes(self._modes):
            return self._generator.throw(*error)


def ambient_set(**modes: Any) -> _Modes:
    """Set modes of this thread inside a `with` block and put the old ones back after it."""
    return _Modes(modes)


def no_grad() -> Any:
    """Record no graph inside a `with` block (or a function decorated with `no_grad()`).

    In a decorated generator function it holds in the function's body, not in that of the loop; in
    an `async def`, not in what runs while that waits.

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
