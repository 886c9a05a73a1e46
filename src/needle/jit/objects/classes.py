"""What of classes counts as read: what code names of them, and what Python calls unnamed.

::

    class Scaled(Layer):                     counts as read, when it is reached

        factor = 2.0                         once it was read of an instance, or code was reached
        def forward(self, x): ...            that names it and may have the class itself
        def __call__(self, x): ...           always
        def __init__(self): ...              where code may have the class itself

Instances tell what is read of them, classes do not. A class that was reached through instances
alone is *closed*: a method `step` of a trainer is nothing to one that calls `self.opt.step()`.
Code has a class itself where it names it, or takes it from an instance, as in `type(self).factor`;
then all is open. `super().forward` reads of the bases what this code names.

What is read of a base may come to be in a class derived from it, and hide that: so it counts as
read of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from enum import EnumType
from functools import partialmethod, singledispatchmethod
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ...graph.op import Op, is_shortcut
from ...state import Watched
from .containers import Members
from .names import class_of_super, names_in, takes_classes
from .seen import Seen
from .things import is_of_library, member

if TYPE_CHECKING:
    from ..tracing.reaching import Reaching

MAKING = frozenset({"__init__", "__post_init__", "__init_subclass__", "__set_name__"})
"""What is called for a class, but not for its instances, once they are there, nor for copies."""


class Classes:
    """The classes of the user's own that were reached, and the names in the code that was."""

    def __init__(self) -> None:
        self._reached: dict[type, None] = {}
        self._open: dict[type, None] = {}
        self._all_open = False
        self._named: AbstractSet[str] = frozenset()
        self._named_of_bases: dict[type, AbstractSet[str]] = {}  # of those of each, by `super()`

    def add(self, cls: type, reaching: Reaching, itself: bool = True) -> None:
        """Look at a class, its bases and its metaclass.

        Args:
            itself: Whether code may have the class itself.
        """
        if type is cls:  # under another name, or where it is handed on: it gives any class
            self._open_all(reaching)
        new = [base for base in self._users(cls) if base not in self._reached]
        for base in new:
            self._reached[base] = None
            reaching.found[id(base)] = Seen(base, Members(base), whole=False)
        for base in new:
            special = {name for name in vars(base) if name.startswith("__")}
            if "__dataclass_fields__" not in special:  # which `dataclasses.replace` makes anew
                special -= MAKING
            self._add_members(base, special, reaching)
        if new:
            for base in cls.__mro__:
                self._read_bases(cls, base, reaching)
        if itself or self._all_open:
            self._let_open(cls, reaching)
        if not is_of_library(type(cls)):
            self.add(type(cls), reaching, itself)
        if isinstance(cls, EnumType):  # `for kind in Kind` and `Kind(1)` name no member
            members = cls.__members__.items()
            reaching.add_each([(f"{cls.__name__}.{name}", member) for name, member in members])

    def add_code(self, function: FunctionType, reaching: Reaching) -> None:
        """Look at what a function's code may read of classes."""
        names = names_in(function.__code__)
        if "super" in names:
            cls = class_of_super(function) or object
            self._named_of_bases[cls] = self._named_of_bases.get(cls, frozenset()) | names
            for derived in list(self._reached):
                self._read_bases(derived, cls, reaching)
        self.add_names(names, reaching, takes_classes(function.__code__))

    def add_names(self, names: AbstractSet[str], reaching: Reaching, takes: bool) -> None:
        """Look at what classes have of these names, which code reads.

        Args:
            takes: Whether it may take the class of a thing.
        """
        if takes:
            self._open_all(reaching)
        new = names - self._named
        self._named |= new
        for cls in list(self._open):
            self._add_members(cls, new, reaching)

    def _open_all(self, reaching: Reaching) -> None:
        self._all_open = True
        for cls in list(self._reached):
            self._let_open(cls, reaching)

    def _let_open(self, cls: type, reaching: Reaching) -> None:
        for base in self._users(cls):
            if base not in self._open:
                self._open[base] = None
                self._add_members(base, MAKING | self._named, reaching)
                if _is_called_by_needle(base):  # of what the function makes, too
                    reaching.instrumentation.instances_of(base)

    def _read_bases(self, derived: type, cls: type, reaching: Reaching) -> None:
        """What code names that calls `super()` in a class; `object` where it may be any."""
        names = self._named_of_bases.get(cls)
        if names is None or cls not in derived.__mro__:
            return
        for base in self._users(derived):
            if base is not cls:
                self._add_members(base, names, reaching)

    def read(self, cls: type, name: str, reaching: Reaching, may_come: bool = True) -> None:
        """An attribute is read of an object: to its classes it may come, unless it is its own."""
        for base in self._among(cls):
            if may_come:
                reaching.found[id(base)].reads[name] = None
            self._add_members(base, {name}, reaching)
        # Not by `vars` or `isinstance`, which tell the trace: this is asked for each read.
        held = [base.__dict__[name] for base in cls.__mro__ if name in base.__dict__]
        if any(issubclass(type(item), classmethod) for item in held):
            self._open_all(reaching)  # a library's, too: `collections.abc.Set` makes by one

    def note_what_may_hide(self, found: dict[int, Seen]) -> None:
        """What was read of a class counts as read of those derived from it."""
        for cls in self._reached:
            derived: list[Seen] = []
            for base in [*self._among(cls), *self._among(type(cls))]:  # or hides a metaclass's
                seen = found[id(base)]
                for nearer in derived:
                    nearer.reads.update(seen.reads)
                derived.append(seen)

    def _among(self, cls: type) -> Iterator[type]:
        return filter(self._reached.__contains__, cls.__mro__)

    def _users(self, cls: type) -> list[type]:
        return [base for base in cls.__mro__ if not is_of_library(base)]

    def _add_members(self, cls: type, names: AbstractSet[str], reaching: Reaching) -> None:
        seen = reaching.found[id(cls)]
        for name, value in seen.before.items():
            if name not in names:
                continue
            special = name.startswith("__")
            if not special or isinstance(value, FunctionType):
                seen.reads[name] = None
            if hasattr(type(value), "__get__"):
                if name == "__new__":  # named tuples and enums have one
                    self._let_open(cls, reaching)
                elif _is_given_class(value):
                    self._open_all(reaching)
                reaching.add_each(member(f"{cls.__name__}.{name}", value))
            elif not special:
                reaching.add(seen.container.label(name), value)


def _is_called_by_needle(cls: type) -> bool:
    """Whether the library calls methods in a trace that no code of the user's names: `forward`."""
    return issubclass(cls, Watched) or (issubclass(cls, Op) and is_shortcut(cls))


def _is_given_class(item: Any) -> bool:
    """Whether Python gives the class itself to what stands in a class: `cls`, or `owner`."""
    if isinstance(item, partialmethod | singledispatchmethod):
        item = item.func
    return isinstance(item, classmethod) or not is_of_library(type(item))
