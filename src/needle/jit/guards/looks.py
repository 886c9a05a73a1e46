"""What guards compare: each look says cheaply whether nothing happened, and in detail what did.

::

    look         what it sees

    Identities   what slots of containers hold, all of them in one go; `SlotGuard` says it in detail
    Written      what a list or dict holds that the program itself puts there anew
    Definitions  the code of functions, the classes and dicts of objects: a notebook that reloads a
                 file puts new ones into old things
    Views        all that dicts, lists, sets and deques hold
    Arrays       what small NumPy arrays hold
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from operator import attrgetter, is_
from typing import Any, Protocol
from weakref import ReferenceType, ref

from ..objects.contents import Contents
from ..objects.slots import MISSING, Container
from .pins import Pin, dies

_code_of, _defaults_of = attrgetter("__code__"), attrgetter("__defaults__")

Place = tuple[Any, int, Pin]
"""A slot's key, the identity of what it held, and its pin, which keeps that or hears of its death.

The identity is 0 where the pin does neither.
"""


def _attributes_of(owner: Any) -> dict[str, Any]:
    return object.__getattribute__(owner, "__dict__")


class Look(Protocol):
    """A cheap look at a part of the world."""

    def unchanged(self) -> bool:
        """Whether surely nothing happened since the world was accepted."""
        ...

    def accept(self) -> None:
        """Take this part of the world as it is for the one to compare with."""
        ...


class Identities:
    """What is read one by one, of many containers: all of it has to be the same things."""

    def __init__(self) -> None:
        self._reads: list[Callable[[], Iterable[Any]]] = []
        self._ids: list[int] = []
        self._kept: list[Any] = []

    def add(self, read: Callable[[], Iterable[Any]]) -> None:
        """See what a function reads."""
        self._reads.append(read)

    def unchanged(self) -> bool:
        ids: list[int] = []
        for read in self._reads:
            ids += map(id, read())
        return ids == self._ids

    def accept(self) -> None:
        things = [thing for read in self._reads for thing in read()]
        self._ids = list(map(id, things))
        self._kept = [thing for thing in things if not dies(thing)]


class SlotGuard:
    """Some slots of a container, and what they have to hold.

    Attributes:
        whole: The keys of all slots, in order, where the function may have gone over them.
        keys: Those that were read.
        read: Gives what they hold.
    """

    def __init__(
        self, container: Container, whole: list[Any] | None, places: Sequence[Place]
    ) -> None:
        self.container = container
        self.whole = whole
        self.keys = [key for key, _, _ in places]
        self._first = [identity for _, identity, _ in places]
        self._pins = [pin for _, _, pin in places]
        self.read = container.reader(self.keys)

    def difference(self) -> str | None:
        path, whole = self.container.path, self.whole
        if whole is not None:
            keys = list(self.container.slots())
            if len(keys) != len(whole):
                return f"{path} holds {len(keys)} things, {len(whole)} when it was traced"
            if keys != whole:
                return f"{path} has other keys, or the same in another order"
        values = list(self.read())
        if len(values) != len(self.keys):
            return f"{path} changed"
        for key, value, first, pin in zip(self.keys, values, self._first, self._pins, strict=True):
            if id(value) != first and not pin(value):
                return f"{self.container.label(key)} changed"
        return None

    def checks(self) -> Iterable[tuple[Any, Callable[[], str | None]]]:
        """For each slot, what says whether it has changed."""
        return [
            (key, partial(self._difference_at, key, pin))
            for key, pin in zip(self.keys, self._pins, strict=True)
        ]

    def _difference_at(self, key: Any, pin: Pin) -> str | None:
        return None if pin(self.container.held(key)) else f"{self.container.label(key)} changed"


class Written:
    """A slot that each call gives something new: nobody is told what happens to that."""

    def __init__(self, container: Container, key: Any, pin: Pin) -> None:
        self._slots = container.slots
        self._key = key
        self._pin = pin

    def unchanged(self) -> bool:
        return self._pin(self._slots().get(self._key, MISSING))

    def accept(self) -> None:
        """Other tensors of the same shapes are read at each call."""


class Definitions:
    """What functions and objects are made of: code and defaults, classes and dicts of attributes.

    The functions and objects are held weakly.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = []
        self._held: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = []
        self._codes: list[tuple[Callable[[], Any], Any]] = []
        self._classes: list[tuple[Container, type[Any]]] = []

    def add_code(self, function: Callable[[], Any]) -> None:
        """Rely on the code of a function."""
        self._parts.append((function, _code_of))
        self._codes.append((function, _code_of(function())))

    def add_defaults(self, function: Callable[[], Any]) -> None:
        """See other defaults: slots, too, which say in detail what they are."""
        self._parts.append((function, _defaults_of))

    def add_class(self, container: Container) -> None:
        """Rely on the class of a container's owner. Guards are told of some others."""
        self._classes.append((container, type(container.owner())))
        if not container.tells:
            self._parts.append((container.owner, type))

    def add_attributes(self, owner: Callable[[], Any]) -> None:
        """See that an object is given another dict of attributes."""
        self._parts.append((owner, _attributes_of))

    def unchanged(self) -> bool:
        try:
            for owner, part, held in self._held:
                if part(owner()) is not held:
                    return False
        except AttributeError:  # one is gone
            return False
        return True

    def accept(self) -> None:
        living = [(owner, part) for owner, part in self._parts if owner() is not None]
        self._held = [(owner, part, part(owner())) for owner, part in living]

    def difference(self) -> str | None:
        for function, code in self._codes:
            held = function()
            if held is not None and held.__code__ != code:
                return f"{held.__name__} has other code"
        for container, cls in self._classes:
            owner = container.owner()
            if owner is not None and type(owner) is not cls:
                return f"{container.path} is a {type(owner).__name__} now"
        return None


class Views:
    """What collections hold, all of it and in order. Of sets and deques they say it in detail."""

    def __init__(self) -> None:
        self._views: list[Collection[Any]] = []
        self._held: list[tuple[Collection[Any], list[Any]]] = []
        self._elements: list[Contents] = []

    def add(self, *views: Collection[Any]) -> None:
        """See what collections hold."""
        self._views += views

    def add_elements(self, held: Contents) -> None:
        """Rely on what a set or deque holds."""
        self._elements.append(held)
        self._views.append(held.owner)

    def unchanged(self) -> bool:
        for view, held in self._held:
            if len(view) != len(held) or not all(map(is_, view, held)):
                return False
        return len(self._held) == len(self._views)

    def accept(self) -> None:
        self._held = [(view, list(view)) for view in self._views]

    def let_go(self) -> None:
        """Keep nothing alive that was there; a cheap look says no until the world is accepted."""
        self._held = []

    def difference(self) -> str | None:
        for held in self._elements:
            if not held.are_same():
                return f"{held.path} holds other things"
        return None


class Arrays:
    """What NumPy arrays hold."""

    def __init__(self) -> None:
        self._arrays: list[tuple[str, ReferenceType[Any], Any, bytes]] = []

    def add(self, array: Contents) -> None:
        """Rely on what an array held before the trace."""
        path, owner, before = array
        self._arrays.append((path, ref(owner), (owner.shape, owner.dtype), before.tobytes()))

    def unchanged(self) -> bool:
        return self.difference() is None

    def accept(self) -> None:
        """They have to hold what they held in the trace."""

    def difference(self) -> str | None:
        for path, reference, specs, contents in self._arrays:
            array = reference()  # one that is gone changed its slot
            if array is None:
                continue
            if (array.shape, array.dtype) != specs or array.tobytes() != contents:
                return f"the NumPy array {path} was written"
        return None
