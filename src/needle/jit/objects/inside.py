"""What a thing leads to that holds no state itself, but can call or show what does.

::

    a thing                                what is looked at in its place

    model.step                             `model`, and the function
    partial(f, w)                          `f` and `w`
    Settings.rate, a property              its functions
    MappingProxyType(options)              `options`
    np.vectorize(f), ndl.grad(f)           `f`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MappingView
from functools import partial
from gc import get_referents
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType
from typing import Any, get_origin

from .names import is_library
from .things import is_of_class, is_users_object

Parts = Iterable[tuple[str, Any]]
"""Paths of things, and the things."""

_METHODS = ("__wrapped__", "__func__", "fget", "func", "args", "keywords", "dispatcher", "__self__")


def looked_through(path: str, item: Any) -> Parts | None:
    """What a method, a partial or a view of a dict leads to; None for anything else."""
    if isinstance(item, MethodType | BuiltinFunctionType):
        return [("self", item.__self__), (path, getattr(item, "__func__", None))]
    if isinstance(item, partial):
        return [(path, part) for part in (item.func, item.args, item.keywords)]
    if isinstance(item, memoryview):
        return [(path, item.obj)]
    if (origin := get_origin(item)) is not None:  # of `Layer[int]`
        return [(path, origin)]
    if isinstance(item, MappingProxyType | MappingView):
        return [(path, part) for part in get_referents(item) if not is_of_class(part)]
    return None


def member(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    """What stands in a class: functions, wrapped ones, properties, other descriptors."""
    if isinstance(item, FunctionType):
        yield path, item
    elif isinstance(item, property | staticmethod | classmethod) or is_library(
        type(item).__module__
    ):
        for name in _METHODS:
            yield "self" if name == "__self__" else path, getattr(item, name, None)
    if is_users_object(item):
        yield path, item


def called(path: str, things: Iterable[Any]) -> Parts:
    """What a library calls that it was given."""
    return [(path, part) for thing in things for part in filter(callable, get_referents(thing))]
