"""Iterators and queues in variables, lists and dicts rest during a trace: no program moves them on.

::

    state = {"model": model, "batches": iter(loader)}

    state["model"](x)          traces: the iterator is not used
    next(state["batches"])     `TraceError`
"""

from __future__ import annotations

from collections.abc import Iterator
from io import IOBase
from threading import get_ident
from types import WrapperDescriptorType
from typing import Any
from weakref import ProxyTypes

from ..objects.slots import Container
from ..objects.things import is_users_object
from .tracer import refusal

_QUEUES = {
    "queue",
    "_queue",
    "asyncio.queues",
    "multiprocessing.queues",
    "multiprocessing.connection",
}
"""The modules of queues and pipes, some of which are slow to import."""


class Resting(Iterator[Any]):
    """Stands for an iterator in its slots as long as a trace lasts.

    To other threads it is that, and to all after the trace: a function made in it may name it.
    """

    def __init__(self, path: str, iterator: Any) -> None:
        self._path = path
        self._thread: int | None = get_ident()
        self.iterator = iterator

    @property
    def __class__(self) -> Any:
        """That of the iterator, by which `isinstance` goes."""
        return type(self.iterator)

    def wake(self) -> None:
        """The trace is over."""
        self._thread = None

    def __next__(self) -> Any:
        self._refuse()
        return next(self.iterator)

    def __getattr__(self, name: str) -> Any:
        """What else there is, as `send` of a generator and `get` of a queue."""
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()
        return getattr(self.iterator, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._refuse()
        return self.iterator(*args, **kwargs)

    def __enter__(self) -> Any:
        self._refuse()
        return self.iterator.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self.iterator.__exit__(*error)

    def _refuse(self) -> None:
        if get_ident() == self._thread:
            raise refusal(would_move(self._path, self.iterator))


def is_iterator(item: Any) -> bool:
    """Whether it is known only by what it gives next. To Python every weak proxy is an iterator."""
    if any(base.__module__ in _QUEUES for base in type(item).__mro__):
        return not isinstance(item, BaseException)  # as `queue.Empty`
    return (
        type(item) not in ProxyTypes  # first: one that is gone cannot be asked
        and isinstance(item, Iterator)
        and not isinstance(item, IOBase)
        # Of the user's own are those that move on in Python, where that is seen.
        and (not is_users_object(item) or isinstance(type(item).__next__, WrapperDescriptorType))
    )


def would_move(path: str, iterator: Any) -> str:
    """Why a function that is traced may not use an iterator."""
    return (
        f"a jitted function uses {path}, a {type(iterator).__name__}, which a program would "
        "not move on. Take from it outside, and pass what it gives as an argument"
    )


def slots_now(container: Container) -> dict[Any, Any]:
    """What the slots of a container hold, with the iterators that rest."""
    return {
        key: value.iterator if type(value) is Resting else value  # a weak proxy may be of nothing
        for key, value in container.slots().items()
    }
