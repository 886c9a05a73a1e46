"""What kinds of things a function reads: whose they are, and where they keep what they hold.

::

    a thing                             what is done about it

    {"a": 1}, SimpleNamespace(a=1)      `container_of` gives Entries, Attributes: all slots count
    Config(), of a class of the user's  `is_users_object`: its class notes which attributes are read
    logging.getLogger()                 neither: it is a library's

Some hold no state themselves, but can call or show what does. It is looked at in their place::

    model.step                          `model`, and the function
    partial(f, w)                       `f` and `w`
    Settings.rate, a property           its functions
    MappingProxyType(options)           `options`
    np.vectorize(f), ndl.grad(f)        `f`
"""

from __future__ import annotations

import builtins
import sys
import threading
from array import ArrayType
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Iterable, Iterator, MappingView
from contextvars import ContextVar
from functools import partial
from gc import get_referents
from pathlib import Path
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, get_origin
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from ...graph.node import Value
from .containers import Attributes, Entries, Fields, Items, fields_of
from .slots import Container
from .thread_slots import Context, Local

Parts = Iterable[tuple[str, Any]]
"""Paths of things, and the things."""
COLLECTIONS = (set, deque, bytearray, ArrayType)
"""What holds things, and has no slots."""
_LIBRARIES = {*sys.stdlib_module_names, "needle", "numpy"}
_PYTHONS = {id(item) for item in vars(builtins).values() if isinstance(item, type)}
_HEAP_TYPE = 1 << 9  # in `__flags__`, of classes that came into being while Python ran
_INSTALLED = {"site-packages", "dist-packages"}
_CONTAINERS = (ChainMap, UserDict, UserList, WeakKeyDictionary, WeakSet, WeakValueDictionary)
"""They are written in Python, around dicts and lists."""
_KINDS = (dict, Entries), (list, Items), (ContextVar, Context), (threading.local, Local)
_METHODS = ("__wrapped__", "__func__", "fget", "func", "args", "keywords", "dispatcher", "__self__")


def is_library(module: Any) -> bool:
    """Whether code is a library's by its `__module__`: None in `exec`, and for C a descriptor."""
    if isinstance(module, str):
        return module.partition(".")[0] in _LIBRARIES
    return module is not None


def is_of_library(cls: type) -> bool:
    """Whether a class is a library's: what `exec` makes in a space without a name has Python's."""
    if cls.__module__ != "builtins":
        return is_library(cls.__module__)
    return id(cls) in _PYTHONS or not cls.__flags__ & _HEAP_TYPE


def is_own(module: ModuleType) -> bool:
    """Whether a module is part of the user's program, rather than of an installed library."""
    place = str(vars(module).get("__file__"))
    return not is_library(module.__name__) and _INSTALLED.isdisjoint(Path(place).parts)


def is_users_object(item: Any) -> bool:
    """An instance with attributes, of a class that belongs to none of the libraries below us."""
    cls = type(item)
    if is_of_library(cls) or isinstance(item, Value):
        return False
    return cls.__dictoffset__ != 0 or bool(fields_of(cls))


def attributes_of(item: Any) -> dict[str, Any]:
    """What an object of a user's class has, or a list, dict, number or text beside what it is."""
    return Fields(item, "").slots() if is_users_object(item) else {}


def container_of(item: Any) -> type[Container] | None:
    """The kind of container of a thing all slots of which count as read."""
    for cls, kind in _KINDS:
        if isinstance(item, cls):
            return kind
    return Attributes if _is_namespace(item) else None


def _is_namespace(item: Any) -> bool:
    """Whether it is an object of the standard library's whose attributes say all about it.

    What `argparse` gives is known by its name: the module is slow to import.
    """
    cls = type(item)
    known = cls in _CONTAINERS or (cls.__module__, cls.__qualname__) == ("argparse", "Namespace")
    return known or isinstance(item, SimpleNamespace)


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
        return [(path, part) for part in get_referents(item) if not _is_of_class(part)]
    return None


def _is_of_class(item: Any) -> bool:
    """Whether a mapping is that of a class, whose attributes are watched as its own."""
    return isinstance(item, dict) and "__module__" in item


def member(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    """What stands in a class: functions, wrapped ones, properties, other descriptors."""
    if isinstance(item, FunctionType):
        yield path, item
    elif isinstance(item, property | staticmethod | classmethod) or is_of_library(type(item)):
        for name in filter(_names_of(item).__contains__, _METHODS):
            yield "self" if name == "__self__" else path, getattr(item, name, None)
    if not is_of_library(type(item)):
        yield path, item


def _names_of(item: Any) -> set[str]:
    """What a thing has itself or by its class: a mock answers to every name, with one more mock."""
    return set().union(getattr(item, "__dict__", ()), *map(vars, type(item).__mro__))


def called(path: str, things: Iterable[Any]) -> Parts:
    """What a library calls that it was given."""
    held = [part for thing in things for part in [*get_referents(thing), *_attributes(thing)]]
    return [(path, part) for part in filter(callable, held)]


def _attributes(item: Any) -> Iterable[Any]:
    """They are referents as long as nobody has asked for the `__dict__`, which is one then."""
    return list(getattr(item, "__dict__", {}).values())
