"""`Stateful`: base of everything that holds tensors between calls, modules and optimisers.

State is found by walking attributes, lists, tuples and dictionaries; nothing is registered. Setting
an attribute to another thing tells the compiled programs that have read or written it: they need
not look whether it was swapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import wraps
from typing import Any

from .context import ALL, changes
from .errors import ArgumentError, DTypeError, ShapeError, StateError
from .tensor import Tensor

_own = object.__getattribute__


class Watched:
    """An object whose attributes compiled programs watch, as they do those of your classes."""


class Stateful(Watched):
    """An object whose tensors are found by walking it."""

    def __setattr__(self, name: str, value: Any) -> None:
        held = _own(self, "__dict__").get(name, changes)  # which no attribute is
        if held is value:  # as `model.train()` before each step sets what is set
            object.__setattr__(self, name, value)
            return
        changes.note(self, name)
        object.__setattr__(self, name, value)
        changes.note(self, name)

    def __delattr__(self, name: str) -> None:
        changes.note(self, name)
        object.__delattr__(self, name)
        changes.note(self, name)
        changes.note(self, ALL)  # the order, too, if it comes back


class Telling(dict[Any, Any]):
    """A dict that tells of every change: compiled programs need not look into it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        changes.note(self, ALL)
        super().__setitem__(key, value)
        changes.note(self, ALL)


class TellingList(list[Any]):
    """A list that tells of every change."""


def _telling(method: Any) -> Any:
    """A method of dict or list that tells of it."""

    @wraps(method)
    def telling(self: Any, *args: Any, **kwargs: Any) -> Any:
        changes.note(self, ALL)
        try:
            return method(self, *args, **kwargs)
        finally:
            changes.note(self, ALL)

    return telling


for _class, _names in {
    Telling: "__delitem__ __ior__ clear pop popitem setdefault update",
    TellingList: "__delitem__ __iadd__ __imul__ __setitem__ append clear extend insert pop remove "
    "reverse sort",
}.items():
    for _name in _names.split():
        setattr(_class, _name, _telling(getattr(_class, _name)))


def by_name(state: Any) -> Mapping[str, Any]:
    """What is given to `load_state_dict`.

    Raises:
        StateError: it is no dict.
    """
    if not isinstance(state, Mapping):
        raise StateError(
            f"load_state_dict: a {type(state).__name__} is no state by name. "
            "Pass what state_dict() returned"
        )
    return state


def taken_from(
    state: Mapping[str, Any], name: str, dtype: Any, problems: list[str]
) -> Tensor | None:
    """An entry as a tensor; where it is no array of numbers, None and one more problem."""
    try:
        return Tensor(state[name], dtype=dtype, requires_grad=False)
    except (ArgumentError, DTypeError, ShapeError):
        problems.append(f"{name} is {state[name]!r:.50}, which is no array of real numbers")
        return None


class Wrapper:
    """What is called in place of a thing, as a jitted module is: a walk goes on into that thing."""

    __wrapped__: Any


def _unwrapped(value: Any) -> Any:
    while isinstance(value, Wrapper):
        value = value.__wrapped__
    return value


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """What is directly inside a `Stateful` object or container, with the names that lead there."""
    for name, item in _entries(value):
        yield name, _unwrapped(item)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Stateful):
        yield from vars(value).items()
    elif isinstance(value, dict):
        # Optimisers key their state by parameter: such an entry is named by its position.
        for position, (key, item) in enumerate(value.items()):
            yield str(key if isinstance(key, str | int) else position), item
    elif isinstance(value, list | tuple):
        yield from ((str(index), item) for index, item in enumerate(value))


def walk(
    root: Any, into: type[Stateful] | tuple[type[Stateful], ...] = Stateful
) -> Iterator[tuple[str, Any]]:
    """Every object below `root` with its dotted path, in definition order, each object once.

    Args:
        root: A `Stateful` object, list, tuple or dict; its own path is "".
        into: Classes of the `Stateful` objects that are walked; others are passed over.
    """
    seen: set[int] = set()
    stack = [("", root)]
    while stack:
        path, value = stack.pop()
        if id(value) in seen:
            continue
        if value is root or isinstance(value, (into, dict, list, tuple, Tensor)):
            seen.add(id(value))
            yield path, value
            below = [(f"{path}.{name}" if path else name, item) for name, item in children(value)]
            stack.extend(reversed(below))
