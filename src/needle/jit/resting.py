"""Iterators in lists and dicts rest while a function is traced: a program would not move them on.

::

    state = {"model": model, "batches": iter(loader)}

    state["model"](x)          traces: the iterator is not used
    next(state["batches"])     `TraceError`
"""

from __future__ import annotations

from collections.abc import Iterator
from io import IOBase
from types import WrapperDescriptorType
from typing import Any, NoReturn
from weakref import ProxyTypes

from .slots import Container
from .things import is_users_object
from .tracer import refusal


class Resting(Iterator[Any]):
    """Stands for an iterator in its slot as long as a trace lasts."""

    def __init__(self, path: str, iterator: Any) -> None:
        self._path = path
        self.iterator = iterator

    def __next__(self) -> NoReturn:
        raise refusal(would_move(self._path, self.iterator))

    def send(self, _: Any) -> NoReturn:
        """As a generator does."""
        self.__next__()


def is_iterator(item: Any) -> bool:
    """Whether it is known only by what it gives next. To Python every weak proxy is an iterator."""
    return (
        isinstance(item, Iterator)
        and not isinstance(item, IOBase)
        and type(item) not in ProxyTypes
        # Of the user's own are those that move on in Python, where that is seen.
        and (not is_users_object(item) or isinstance(type(item).__next__, WrapperDescriptorType))
    )


def would_move(path: str, iterator: Any) -> str:
    """Why a function that is traced may not use an iterator."""
    return (
        f"a jitted function uses {path}, a {type(iterator).__name__}, which a program would "
        "not move on. Call next() outside, and pass what it gives as an argument"
    )


def slots_now(container: Container) -> dict[Any, Any]:
    """What the slots of a container hold, with the iterators that rest."""
    return {
        key: value.iterator if isinstance(value, Resting) else value
        for key, value in container.slots().items()
    }
