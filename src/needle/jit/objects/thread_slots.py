"""Slots whose contents depend on the thread that calls: context variables, thread-local objects.

::

    scale = ContextVar("scale")          Context of the variable, "value"
    mine = threading.local()             Local of the object: the attributes that this thread set
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from itertools import repeat
from typing import Any

from .containers import Attributes
from .slots import MISSING, Container


class Context(Container):
    """A context variable. Its default, which never changes, is no slot."""

    dotted = True

    def __init__(self, owner: ContextVar[Any], path: str) -> None:
        super().__init__(owner, path)
        self.expected = ["value"]

    def slots(self) -> dict[Any, Any]:
        value = self.owner().get(MISSING)
        return {} if value is MISSING else {"value": value}

    def assign(self, key: Any, value: Any) -> None:
        self.owner().set(value)

    def remove(self, key: Any) -> None:
        """It cannot be without a value again; the context of a trace is thrown away."""


class Local(Attributes):
    """The attributes that a `threading.local` has in the thread that looks."""

    def slots(self) -> dict[Any, Any]:
        owner = self.owner()
        return {} if owner is None else vars(owner)

    held = Container.held

    def views(self) -> list[Collection[Any]]:
        return []  # they would be those of this thread

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        def read() -> list[Any]:
            slots = self.slots()
            if len(slots) > len(keys):
                return [None] * len(slots)  # as many as no program with these keys has seen
            return list(map(slots.get, keys, repeat(MISSING)))

        return read
