"""Reaching: from the things that a function names to those that they lead to.

Each thing is looked at once, by what it is, and what it leads to is reached in turn::

    a thing                             what is reached with it

    a function of the user's own        its closure, the globals that it names, its defaults
    a dict, a list, a tuple             all that it holds
    an object of the user's own         its class; an attribute once it is read (`watch.py`)
    a method, a partial, a property     what it calls (`things.py`)
    an iterator                         nothing: it rests (`iterators.py`)
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any
from weakref import ProxyTypes, ref

import numpy as np

from ...errors import TraceError
from ...graph.node import Node, new_handle
from ...shapes import Spec
from ...state import Watched
from ...tensor import Tensor
from ..objects.classes import Classes
from ..objects.containers import Attributes, Entries, Fields, Items, Variables, fields_of
from ..objects.contents import Contents
from ..objects.names import SUPER, Closure, Globals, global_names, modules_in
from ..objects.sameness import is_rate
from ..objects.seen import Seen
from ..objects.slots import Container, Slot
from ..objects.things import (
    COLLECTIONS,
    Parts,
    called,
    container_of,
    is_library,
    is_of_library,
    is_own,
    is_users_object,
    looked_through,
    member,
)
from .instrumentation import Instrumentation
from .iterators import Resting, is_iterator, slots_now, would_move
from .pullback import is_fixed
from .reached import Reached
from .streams import Streams
from .tracer import Rate, Tracer

WATCHED_ELEMENTS = 4096
"""Larger sets, deques and `array`s are not watched: to look at them takes longer than a call."""
_KNOWN_BY_VALUE = (int, float, str, bytes, tuple, frozenset, np.ndarray, *COLLECTIONS)
"""What is known by its value, or by what it holds; a class of the user's own may add attributes."""
_ATOMS = (int, float, str, bytes, type(None), np.generic)


class Reaching:
    """Walks from thing to thing, and notes in `reached` what each of them is.

    Args:
        tracer: Is told of hyperparameters, which become run-time scalars.
        streams: Is told of random generators.
        instrumentation: Lets classes and modules tell what is read of them.

    Attributes:
        reached: What was reached so far.
        found: The part of it that has slots.
        classes: The classes among it.
    """

    def __init__(self, tracer: Tracer, streams: Streams, instrumentation: Instrumentation) -> None:
        self.reached = Reached()
        self.found = self.reached.found
        self.classes = Classes()
        self._tracer = tracer
        self._streams = streams
        self.instrumentation = instrumentation
        # All that was looked at, by identity; instrumentation changes what stands in `builtins`.
        self._things: dict[int, Any] = {id(vars(builtins)): builtins}
        self._cells: set[int] = set()  # of closures that were reached, by identity
        self._resting: dict[int, Resting] = {}  # by identity of what each stands for

    def add(self, path: str, item: Any) -> None:
        """Look at a thing that the function can read from now on. Each is looked at once."""
        if type(item) in ProxyTypes:
            item = self._behind(path, item)
        if isinstance(item, np.void) and item.base is not None:  # it shows what an array holds
            item = item.base
        if id(item) in self._things:
            return
        self._things[id(item)] = item
        if isinstance(item, _KNOWN_BY_VALUE) and not is_of_library(type(item)):
            self._add_beside_value(item, path)
        if isinstance(item, np.ndarray):
            self._add_array(item, path)
        elif isinstance(item, COLLECTIONS):
            self._add_elements(item, path)
        elif isinstance(item, type):
            self.classes.add(item, self)
        elif isinstance(item, ModuleType):
            if is_own(item):
                self._add_module(item)
        elif isinstance(item, _ATOMS) or is_fixed(item):
            return
        elif isinstance(item, Tensor):
            self._add_tensor(item, path)
        elif isinstance(item, FunctionType):
            if is_library(item.__module__):
                self.add_each(called(path, item.__closure__ or ()))
            else:
                self._add_function(item, path)
        elif (kind := container_of(item)) is not None:
            self.add_whole(item, kind(item, path))
        elif isinstance(item, tuple | frozenset):
            self._add_parts(path, item)
        elif isinstance(item, Watched) or is_users_object(item):
            self._add_object(item, path)
            self._add_inside(path, item)
        elif not self._add_inside(path, item):
            self.add_each([*member(path, item), *called(path, [item])])

    def add_each(self, parts: Parts) -> None:
        """Look at several things, each with its path."""
        for path, item in parts:
            self.add(path, item)

    def _see(self, owner: Any, container: Container, whole: bool) -> Seen:
        """Note what a container holds, some of which may have been found in another way before."""
        first = self.found.get(id(owner))  # `globals()`, some of which were found as variables
        seen = Seen(owner, container, whole)
        seen.before = slots_now(container)
        if first is not None:
            for name in first.container.expected:  # they may have been assigned since
                if name in first.before:
                    seen.before[name] = first.before[name]
                else:
                    seen.before.pop(name, None)
        self.found[id(owner)] = seen  # last: what it says is put back, also after Ctrl-C in here
        return seen

    def add_whole(self, owner: Any, container: Container) -> None:
        """Look at a container all slots of which count as read."""
        self.add_all(self._see(owner, container, whole=True))
        beside = type(owner).__dictoffset__ and is_users_object(owner)
        if beside and isinstance(owner, dict | list):  # attributes beside its entries
            self.add(container.path, vars(owner))
        self.classes.add(type(owner), self)

    def _add_elements(self, owner: Any, path: str) -> None:
        if len(owner) <= WATCHED_ELEMENTS:
            held = list(owner)
            self.reached.elements.append(Contents(path, owner, held))
            self._add_parts(path, held)

    def _add_array(self, array: Any, path: str) -> None:
        self.reached.arrays.append(Contents(path, array, array.copy()))
        if array.dtype == object and array.size <= WATCHED_ELEMENTS:
            self._add_parts(path, array.flat)

    def _add_parts(self, path: str, parts: Iterable[Any]) -> None:
        for place, part in enumerate(parts):
            self.add(f"{path}[{place}]", part)

    def _add_beside_value(self, item: Any, path: str) -> None:
        """What a value of a class of the user's own has beside it."""
        if is_users_object(item):
            self._add_object(item, path)
        else:  # as a NamedTuple
            self.classes.add(type(item), self)

    def _add_tensor(self, tensor: Tensor, path: str) -> None:
        """Its flag, and what a program's author gave to it: attributes, or a class of its own."""
        self.reached.tensors[id(tensor)] = tensor, self._tracer.flag_of(tensor)
        if vars(tensor) or not is_of_library(type(tensor)):
            self.add_whole(tensor, Attributes(tensor, path))

    def add_all(self, seen: Seen) -> None:
        """Look at what all slots of a container hold."""
        self._add_slots(seen.container, seen.before)

    def _add_slots(self, container: Container, held: dict[Any, Any]) -> None:
        """What some slots of a container hold."""
        stored = isinstance(container, Entries | Items | Closure | Globals)
        for key, value in held.items():
            if not isinstance(key, str | int):
                self.add(f"a key of {container.path}", key)
            path = container.label(key)
            if stored and is_iterator(value):  # the function need not use it
                resting = self._resting.setdefault(id(value), Resting(path, value))
                container.assign(key, resting)
            elif path == SUPER and isinstance(value, type):  # which other code may have itself
                self.classes.add(value, self, itself=False)
            else:
                self.add(path, value)

    def _add_function(self, function: FunctionType, path: str) -> None:
        closure = Closure(function, path, self._cells)
        self.add_all(self._see(function, closure, whole=True))
        self._add_globals(function, path)
        self._add_defaults(function)
        if vars(function):
            self.add(path, vars(function))
        for name in modules_in(function.__code__):
            if name in sys.modules:
                self.add(name, sys.modules[name])
            else:
                self.reached.not_imported.append(name)
        self.classes.add_code(function, self)

    def _add_globals(self, function: FunctionType, path: str) -> None:
        """The globals that a function names, of those that no other one has named."""
        space = function.__globals__
        if id(space) not in self.found:
            self._see(space, Globals(space, path), whole=True)
        seen = self.found[id(space)]
        if isinstance(seen.container, Globals):  # or all of them count as read
            names = global_names(function.__code__)
            new = [name for name in names if name not in seen.container.expected]
            held = {name: space[name] for name in new if name in space}
            seen.before.update(held)  # first: a slot that held nothing is removed, after Ctrl-C too
            seen.container.add(new)
            self._add_slots(seen.container, held)

    def _add_module(self, module: ModuleType) -> None:
        """A file of the user's own."""
        self.classes.add(type(module), self)
        self._see(module, Variables(module), whole=False)
        self.instrumentation.module(module)

    def _add_defaults(self, function: FunctionType) -> None:
        code, values = function.__code__, function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(values) : code.co_argcount]
        defaults = [*zip(names, values, strict=True), *(function.__kwdefaults__ or {}).items()]
        for name, value in defaults:
            self.add(name, value)

    def _add_inside(self, path: str, item: Any) -> bool:
        """What C does with a thing, or with one of a class derived from its; False if nothing."""
        parts = looked_through(path, item)
        if parts is not None:
            self.add_each(parts)
        elif is_iterator(item):
            raise TraceError(would_move(path, item))
        elif isinstance(item, attrgetter):
            names = set(".".join(item.__reduce__()[1]).split("."))
            self.classes.add_names(names, self, "__class__" in names)
        elif isinstance(item, ref):
            self.reached.weak.append(item)
            self.add(path, item())
        else:
            return self._streams.add(item)
        return True

    def _behind(self, path: str, proxy: Any) -> Any:
        """What a weak proxy stands for."""
        try:
            item = proxy.__init__.__self__
        except ReferenceError:
            raise TraceError(
                f"a jitted function uses {path}, a weak proxy of something that is gone. Use a "
                "weakref.ref, which gives None then"
            ) from None
        self.reached.weak.append(ref(item))
        return item

    def _add_object(self, owner: Any, path: str) -> None:
        cls = type(owner)
        kind = Fields if fields_of(cls) else Attributes
        seen = self._see(owner, kind(owner, path), whole=False)
        for name in getattr(cls, "hyperparameters", ()):
            self._add_hyperparameter(seen, name)
        self.classes.add(cls, self, itself=False)
        if not self.instrumentation.instances_of(cls):
            self.classes.add(cls, self)
            seen.whole = True
            self.add_all(seen)

    def _add_hyperparameter(self, seen: Seen, name: str) -> None:
        """A number is unknown while tracing, but that it is not 0; a 0 stays, and is guarded."""
        value = seen.before.get(name)
        if not is_rate(value):
            return
        node = Node(None, (), None, False, Spec((), np.dtype(np.float64)))
        self._tracer.argument(node, np.asarray(value, np.float64))
        handle = new_handle(node, Rate)
        slot = Slot(seen.container, name)
        slot.assign(handle)
        self.reached.scalars[slot] = handle

    def wake(self) -> None:
        """Let iterators move on again."""
        for resting in self._resting.values():
            resting.wake()
