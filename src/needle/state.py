"""`Stateful`: base of everything that holds tensors between calls, modules and optimisers.

State is found by walking attributes, lists, tuples and dictionaries; nothing is registered. Every attribute
that is set moves a version counter, so that a compiled program can see cheaply that nothing was swapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .tensor import Tensor


class Stateful:
    """An object whose tensors are found by walking it."""

    _version: int = 0

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self.__dict__["_version"] = self._version + 1

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self.__dict__["_version"] = self._version + 1


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """What is directly inside a `Stateful` object or a container, with the names that lead there."""
    if isinstance(value, Stateful):
        yield from ((name, item) for name, item in vars(value).items() if name != "_version")
    elif isinstance(value, dict):
        # Optimisers key their state by parameter: such an entry is named by its position.
        for position, (key, item) in enumerate(value.items()):
            yield key if isinstance(key, str) else str(position), item
    elif isinstance(value, list | tuple):
        yield from ((str(index), item) for index, item in enumerate(value))


def walk(root: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every object below `root` with its dotted path, in definition order, each object once.

    Args:
        root: A `Stateful` object, list, tuple or dict.
        path: The path of `root` itself.
    """
    seen: set[int] = set()
    stack = [(path, root)]
    while stack:
        where, value = stack.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Stateful | dict | list | tuple | Tensor):
            seen.add(id(value))
            yield where, value
            below = [(f"{where}.{name}" if where else name, item) for name, item in children(value)]
            stack.extend(reversed(below))
