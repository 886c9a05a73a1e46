"""Slots: the places where Python objects keep tensors and numbers between calls.

A slot is an attribute of a `Stateful` object, an entry of a dict or an item of a list. Everything that can be
reached from a function (its closure, the globals it names, its defaults) and its arguments is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

from ..state import Stateful
from ..tensor import Tensor

Slot = tuple[int, Any]
"""Identity of a container and the key in it."""


class Container(NamedTuple):
    """One mutable thing that was reached: `owner` is what holds `items`, `path` names it in messages."""

    owner: Any
    path: str

    def items(self) -> dict[Any, Any]:
        """Its slots, by key."""
        return entries(self.owner)


def entries(owner: Any) -> dict[Any, Any]:
    """The slots of a container: attributes, dict entries or list items."""
    if isinstance(owner, Stateful):
        return vars(owner)
    if isinstance(owner, dict):
        return owner
    return dict(enumerate(owner))


def assign(owner: Any, key: Any, value: Any) -> None:
    """Put a value into a slot."""
    if isinstance(owner, Stateful):
        vars(owner)[key] = value
    else:
        owner[key] = value


def restore(owner: Any, items: dict[Any, Any]) -> None:
    """Make a container hold exactly `items` again."""
    if isinstance(owner, list):
        owner[:] = items.values()
        return
    held = vars(owner) if isinstance(owner, Stateful) else owner
    held.clear()
    held.update(items)


def roots(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function can reach by itself, with names: closure, defaults, globals it names, its object."""
    seen: set[int] = set()
    pending = [("", function)]
    while pending:
        name, item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        inner = getattr(item, "__wrapped__", None)
        if inner is not None:
            pending.append((name, inner))
        if isinstance(item, MethodType):
            yield "self", item.__self__
            pending.append((name, item.__func__))
        elif isinstance(item, FunctionType):
            found = list(_of_function(item))
            yield from found
            pending.extend((label, thing) for label, thing in found if callable(thing))
        elif name == "":
            yield "function", item


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that is not assigned yet
            continue
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    yield from (
        (f"default {place}", item) for place, item in enumerate(function.__defaults__ or ())
    )


def _names(code: CodeType) -> Iterator[str]:
    """Global names that a function's code uses, functions nested in it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def reach(named: list[tuple[str, Any]]) -> tuple[list[Container], list[Tensor]]:
    """Containers and tensors below some named things, each once, in a stable order."""
    containers: list[Container] = []
    tensors: list[Tensor] = []
    seen: set[int] = set()
    pending = [(name, item) for name, item in reversed(named)]
    while pending:
        path, item = pending.pop()
        if not isinstance(item, Stateful | dict | list | tuple | Tensor) or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            tensors.append(item)
            continue
        if not isinstance(item, tuple):
            containers.append(Container(item, path))
        held = entries(item)
        if isinstance(item, dict):
            pending.extend((f"{path} key", key) for key in reversed(held))
        pending.extend((_path(item, path, key), value) for key, value in reversed(held.items()))
    return containers, tensors


def _path(owner: Any, path: str, key: Any) -> str:
    if isinstance(owner, Stateful):
        return f"{path}.{key}"
    if isinstance(key, Tensor):
        return f"{path}[a tensor]"
    return f"{path}[{key!r}]"
