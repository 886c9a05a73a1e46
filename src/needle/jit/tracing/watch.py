"""Watching what a function reads while it is traced: it is what its program relies on.

The classes of objects that the function reaches (from its closure, its globals, its arguments)
note, as long as the trace lasts, which attributes are read; what is read is reached in turn.
Nothing else is looked at: a list of losses beside the model guards nothing::

    before: what is read               after: what is relied on

    model.head(x) * cfg["scale"]       the variables `model` and `cfg`; the attribute `head` of the
                                       model; all entries of `cfg`
    self.k * G, in Head.forward        `k` of the head; `forward` of its class; the variable `G`
"""

from __future__ import annotations

import builtins
import sys
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from types import FunctionType, ModuleType
from typing import Any
from weakref import ProxyTypes, ref

import numpy as np

from ...errors import TraceError
from ...graph.node import Node, new_handle
from ...graph.op import Op
from ...shapes import Spec
from ...state import Watched
from ...tensor import Tensor
from ..objects.classes import MAKING, Classes
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
    is_own,
    is_users_object,
    looked_through,
    member,
)
from .instrumentation import Instrumentation
from .iterators import Resting, is_iterator, slots_now, would_move
from .stand_ins import StandIns
from .streams import Streams
from .tracer import Rate, Scalar, Tracer

WATCHED_ELEMENTS = 4096
"""Larger sets, deques and `array`s are not watched: to look at them takes longer than a call."""
_KNOWN_BY_VALUE = (int, float, str, bytes, tuple, frozenset, np.ndarray, *COLLECTIONS)
"""What is known by its value, or by what it holds; a class of the user's own may add attributes."""
_ATOMS = (int, float, str, bytes, type(None), np.generic, Op)


class Watch:
    """What a trace has reached so far.

    Args:
        tracer: Is told of hyperparameters, which become run-time scalars.
        streams: Is told of random generators.
        stand_ins: Is told of the attributes of arguments.

    Attributes:
        found: By identity of the owner, in the order in which they were reached.
        tensors: Tensors that were reached, with their `requires_grad`, by identity.
        scalars: The stand-in for each hyperparameter, by where it is.
        arrays: What NumPy arrays that were reached held.
        elements: What sets, deques and `array`s that were reached held.
        grown: Of lists, and of those in `elements`, to which the function added.
        weak: Weak references that were reached, or made of proxies that were.
        not_imported: Modules that code imports, and that nothing had imported when it was reached.
    """

    def __init__(self, tracer: Tracer, streams: Streams, stand_ins: StandIns) -> None:
        self.found: dict[int, Seen] = {}
        self.tensors: dict[int, tuple[Tensor, bool]] = {}
        self.scalars: dict[Slot, Scalar] = {}
        self._tracer = tracer
        self._streams = streams
        self._stand_ins = stand_ins
        # All that was looked at, by identity; instrumentation changes what stands in `builtins`.
        self._things: dict[int, Any] = {id(vars(builtins)): builtins}
        self.arrays: list[Contents] = []
        self.elements: list[Contents] = []
        self.grown: list[Contents] = []
        self.weak: list[ref[Any]] = []
        self.not_imported: list[str] = []
        self._cells: set[int] = set()  # of closures that were reached, by identity
        self._resting: dict[int, Resting] = {}  # by identity of what each stands for
        self._classes = Classes()
        self._instrumentation = Instrumentation(self)

    def open(self) -> None:
        """Let tensors note which attributes are read of them that Needle does not know.

        Of classes, what is read of them under names that are computed.
        """
        self._instrumentation.tensors()
        self._instrumentation.classes()
        if self._stand_ins.has_attributes():
            self._instrumentation.instances_of(Tensor)

    def add(self, path: str, item: Any) -> None:
        """Look at a thing that the function can read from now on. Each is looked at once."""
        if type(item) in ProxyTypes:
            item = self._behind(path, item)
        if isinstance(item, np.void) and item.base is not None:  # it shows what an array holds
            item = item.base
        if id(item) in self._things:
            return
        self._things[id(item)] = item
        if isinstance(item, _KNOWN_BY_VALUE) and not is_library(type(item).__module__):
            self._add_beside_value(item, path)
        if isinstance(item, np.ndarray):
            self._add_array(item, path)
        elif isinstance(item, COLLECTIONS):
            self._add_elements(item, path)
        elif isinstance(item, type):
            self._classes.add(item, self)
        elif isinstance(item, ModuleType):
            if is_own(item):
                self._add_module(item)
        elif isinstance(item, _ATOMS):
            return
        elif isinstance(item, Tensor):
            self._add_tensor(item, path)
        elif isinstance(item, FunctionType):
            if is_library(item.__module__):
                self.add_each(called(path, item.__closure__ or ()))
            else:
                self._add_function(item, path)
        elif (kind := container_of(item)) is not None:
            self._add_whole(item, kind(item, path))
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

    def settle(self) -> None:
        """Stop watching, and see to what was changed behind the containers' back.

        Raises:
            TraceError: a NumPy array was written.
        """
        self.close()
        self._classes.note_what_may_hide(self.found)
        # What the function itself put there is a side effect, which nothing relies on.
        self.grown = [held for held in self.elements if held.added()]
        self.elements = [held for held in self.elements if not held.added()]
        for array in self.arrays:
            if not array.are_same():
                raise TraceError(
                    f"the NumPy array {array.path} was written while a jitted function was traced, "
                    "and a program would not write it again. Keep it in a tensor and assign its "
                    ".data"
                )

    def was_read(self, slot: Slot) -> bool:
        """Whether a slot counts as read."""
        return self.seen(slot).was_read(slot.key)

    def seen(self, slot: Slot) -> Seen:
        """What was seen of the container of a slot."""
        return self.found[id(slot.container.owner())]

    def added(self) -> deque[Any]:
        """What the function added."""
        return deque(new for held in self.grown for new in held.added())

    def take_back(self) -> None:
        """The call is made again, or was none: let there be nothing of what it added."""
        for held in self.grown:
            held.put_back()

    def close(self) -> None:
        """Let no class note any more what is read."""
        self._instrumentation.end()
        for resting in self._resting.values():
            resting.wake()

    # -- reaching ----------------------------------------------------------------------------------

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

    def _add_whole(self, owner: Any, container: Container) -> None:
        self._add_all(self._see(owner, container, whole=True))
        beside = type(owner).__dictoffset__ and is_users_object(owner)
        if beside and isinstance(owner, dict | list):  # attributes beside its entries
            self.add(container.path, vars(owner))
        self._classes.add(type(owner), self)

    def _add_elements(self, owner: Any, path: str) -> None:
        if len(owner) <= WATCHED_ELEMENTS:
            held = list(owner)
            self.elements.append(Contents(path, owner, held))
            self._add_parts(path, held)

    def _add_array(self, array: Any, path: str) -> None:
        self.arrays.append(Contents(path, array, array.copy()))
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
            self._classes.add(type(item), self)

    def _add_tensor(self, tensor: Tensor, path: str) -> None:
        """Its flag, and what a program's author gave to it: attributes, or a class of its own."""
        self.tensors[id(tensor)] = tensor, self._tracer.flag_of(tensor)
        if vars(tensor) or not is_library(type(tensor).__module__):
            self._add_whole(tensor, Attributes(tensor, path))

    def _add_all(self, seen: Seen) -> None:
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
                self._classes.add(value, self, itself=False)
            else:
                self.add(path, value)

    def _add_function(self, function: FunctionType, path: str) -> None:
        closure = Closure(function, path, self._cells)
        self._add_all(self._see(function, closure, whole=True))
        self._add_globals(function, path)
        self._add_defaults(function)
        if vars(function):
            self.add(path, vars(function))
        for name in modules_in(function.__code__):
            if name in sys.modules:
                self.add(name, sys.modules[name])
            else:
                self.not_imported.append(name)
        self._classes.add_code(function, self)

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
        self._classes.add(type(module), self)
        self._see(module, Variables(module), whole=False)
        self._instrumentation.module(module)

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
            self._classes.add_names(names, self, "__class__" in names)
        elif isinstance(item, ref):
            self.weak.append(item)
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
        self.weak.append(ref(item))
        return item

    def _add_object(self, owner: Any, path: str) -> None:
        cls = type(owner)
        kind = Fields if fields_of(cls) else Attributes
        seen = self._see(owner, kind(owner, path), whole=False)
        for name in getattr(cls, "hyperparameters", ()):
            self._add_hyperparameter(seen, name)
        self._classes.add(cls, self, itself=False)
        if not self._instrumentation.instances_of(cls):
            self._classes.add(cls, self)
            seen.whole = True
            self._add_all(seen)

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
        self.scalars[slot] = handle

    # -- reading -----------------------------------------------------------------------------------

    def missed(self, tensor: Any, name: str) -> None:
        """An attribute of a tensor was asked for and may come: those that it has are watched."""
        if name.startswith("__"):
            return
        if self._stand_ins.place(tensor) is not None:
            self._stand_ins.asked.add(name)
        if id(tensor) in self.tensors and id(tensor) not in self.found:
            self._add_whole(tensor, Attributes(tensor, f"a tensor of shape {tensor.shape}"))

    def assigned(self, owner: Any, name: str) -> None:
        """An attribute is about to be assigned."""
        seen = self.found.get(id(owner))
        if seen is not None:
            seen.assign(name)

    def read_of_class(self, cls: type, name: Any = None) -> None:
        """An attribute of a class is about to be read, or all of them."""
        names = list(vars(cls)) if name is None else [name]
        for one in names:
            self._classes.read(cls, one, self)

    def read(self, owner: Any, name: str) -> None:
        """An attribute is about to be read."""
        seen = self.found.get(id(owner))
        if seen is None:
            for asked, held in self._stand_ins.ask(owner, name).items():
                self.add(f"{asked} of an argument", held)
            self._classes.read(type(owner), name, self)  # it may be new
            return
        if name in seen.reads or name in seen.overwritten:
            return
        if name in ("__dict__", "__getstate__"):  # which `copy` asks for
            if not seen.whole:
                seen.whole = True
                self._add_all(seen)
        elif not name.startswith("__") or name in MAKING:
            seen.reads[name] = None
            path = seen.container.label(name)
            if name in seen.before:
                self._classes.read(type(owner), name, self, may_come=False)
                self.add(path, seen.before[name])
                return
            if isinstance(seen.container, Variables):
                space = seen.container.space
                self.add(path, space.get(name, space.get("__getattr__")))
            self._classes.read(type(owner), name, self)
