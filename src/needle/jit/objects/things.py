"""What kinds of things a function reads: whose they are, and where they keep what they hold.

::

    a thing                             what is done about it

    {"a": 1}, SimpleNamespace(a=1)      `container_of` gives Entries, Attributes: all slots count
    Config(), of a class of the user's  `is_users_object`: its class notes which attributes are read
    logging.getLogger()                 neither: it is a library's
"""

from __future__ import annotations

import threading
from array import ArrayType
from collections import ChainMap, UserDict, UserList, deque
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from ...graph.node import Value
from .names import is_library
from .slots import Attributes, Container, Entries, Items, fields_of
from .thread_slots import Context, Local

COLLECTIONS = (set, deque, bytearray, ArrayType)
"""What holds things, and has no slots."""
_INSTALLED = {"site-packages", "dist-packages"}
_CONTAINERS = (ChainMap, UserDict, UserList, WeakKeyDictionary, WeakSet, WeakValueDictionary)
"""They are written in Python, around dicts and lists."""
_KINDS = (dict, Entries), (list, Items), (ContextVar, Context), (threading.local, Local)


def container_of(item: Any) -> type[Container] | None:
    """The kind of container of a thing all slots of which count as read."""
    for cls, kind in _KINDS:
        if isinstance(item, cls):
            return kind
    return Attributes if _is_namespace(item) else None


def is_own(module: ModuleType) -> bool:
    """Whether a module is part of the user's program, rather than of an installed library."""
    place = str(vars(module).get("__file__"))
    return not is_library(module.__name__) and _INSTALLED.isdisjoint(Path(place).parts)


def _is_namespace(item: Any) -> bool:
    """Whether it is an object of the standard library's whose attributes say all about it.

    What `argparse` gives is known by its name: the module is slow to import.
    """
    cls = type(item)
    known = cls in _CONTAINERS or (cls.__module__, cls.__qualname__) == ("argparse", "Namespace")
    return known or isinstance(item, SimpleNamespace)


def is_of_class(item: Any) -> bool:
    """Whether a mapping is that of a class, whose attributes are watched as its own."""
    return isinstance(item, dict) and "__module__" in item


def is_users_object(item: Any) -> bool:
    """An instance with attributes, of a class that belongs to none of the libraries below us."""
    cls = type(item)
    if is_library(cls.__module__) or isinstance(item, Value):
        return False
    return cls.__dictoffset__ != 0 or bool(fields_of(cls))
