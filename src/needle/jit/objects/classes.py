"""What of classes counts as read: what code names of them, and what Python calls unnamed.

::

    class Scaled(Layer):                     counts as read, when it is reached

        factor = 2.0                         once code was reached that names `factor`
        def forward(self, x): ...            once code was reached that names `forward`
        def __call__(self, x): ...           always

What is read of a base may come to be in a class derived from it, and hide that: so it counts as
read of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from enum import EnumType
from types import FunctionType
from typing import TYPE_CHECKING

from .seen import Seen
from .slots import Members
from .things import is_library, member

if TYPE_CHECKING:
    from ..tracing.watch import Watch


class Classes:
    """The classes of the user's own that were reached, and the names in the code that was."""

    def __init__(self) -> None:
        self._reached: dict[type, None] = {}
        self._named: AbstractSet[str] = frozenset()

    def add(self, cls: type, watch: Watch) -> None:
        """Look at a class, its bases and its metaclass."""
        for base in cls.__mro__:
            if base not in self._reached and not is_library(base.__module__):
                self._reached[base] = None
                watch.found[id(base)] = Seen(base, Members(base), whole=False)
                special = {name for name in vars(base) if name.startswith("__")}
                _add_members(base, special | self._named, watch)
        if not is_library(type(cls).__module__):
            self.add(type(cls), watch)
        if isinstance(cls, EnumType):  # `for kind in Kind` and `Kind(1)` name no member
            members = cls.__members__.items()
            watch.add_each([(f"{cls.__name__}.{name}", member) for name, member in members])

    def add_names(self, names: AbstractSet[str], watch: Watch) -> None:
        """Look at what classes have of these names, which are those in a function's code."""
        new = names - self._named
        self._named |= new
        for cls in list(self._reached):
            _add_members(cls, new, watch)

    def read(self, cls: type, name: str, watch: Watch) -> None:
        """An attribute is read of an object that does not have it itself."""
        for base in self._among(cls):
            watch.found[id(base)].reads[name] = None  # also where it is not, but may come
            _add_members(base, {name}, watch)

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


def _add_members(cls: type, names: AbstractSet[str], watch: Watch) -> None:
    seen = watch.found[id(cls)]
    for name, value in seen.before.items():
        if name not in names:
            continue
        special = name.startswith("__")
        if not special or isinstance(value, FunctionType):
            seen.reads[name] = None
        if hasattr(value, "__get__"):
            watch.add_each(member(f"{cls.__name__}.{name}", value))
        elif not special:
            watch.add(seen.container.label(name), value)
