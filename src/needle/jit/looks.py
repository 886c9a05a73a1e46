"""What guards compare: each look says cheaply whether nothing happened, and in detail what did.

::

    look         what it sees

    Slots        what slots of a container hold
    Written      what a list or dict holds that the program itself puts there anew
    Globals      what variables of one module hold, whichever functions name them
    Codes        the code of functions: a notebook that reloads a file puts new code into old ones
    Classes      the classes of objects, for the same reason
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from operator import attrgetter
from typing import Any, Protocol

from .slots import MISSING, Container

Pin = Callable[[Any], bool]
"""Says whether a slot's value is still the one that a trace relied on."""


code_of, defaults_of = attrgetter("__code__"), attrgetter("__defaults__")


class Look(Protocol):
    """A cheap look at a part of the world."""

    def unchanged(self) -> bool:
        """Whether surely nothing happened since the world was accepted."""
        ...

    def accept(self) -> None:
        """Take this part of the world as it is for the one to compare with."""
        ...


class Slots:
    """Some slots of a container, and what they have to hold.

    Attributes:
        whole: The keys of all slots, in order, where the function may have gone over them.
    """

    def __init__(
        self, container: Container, whole: list[Any] | None, places: list[tuple[Any, Any, Pin]]
    ) -> None:
        self.container = container
        self.whole = whole
        self._keys = [key for key, _, _ in places]
        self._pins = [pin for _, _, pin in places]
        # The identity says enough where the pin keeps the value alive, or hears of its death.
        self._first = [id(value) if value is not MISSING else 0 for _, value, _ in places]
        self._read = container.reader(self._keys)
        self._ids: list[int] = []
        self._kept: list[Any] = []

    def unchanged(self) -> bool:
        return list(map(id, self._read())) == self._ids

    def accept(self) -> None:
        values = self._read()
        self._ids = list(map(id, values))
        self._kept = [value for value in values if not dies(value)]

    def difference(self) -> str | None:
        path, whole = self.container.path, self.whole
        if whole is not None:
            keys = list(self.container.slots())
            if len(keys) != len(whole):
                return f"{path} holds {len(keys)} things, {len(whole)} when it was traced"
            if keys != whole:
                return f"{path} has other keys, or the same in another order"
        values = self._read()
        if len(values) != len(self._keys):
            return f"{path} changed"
        for key, value, first, pin in zip(self._keys, values, self._first, self._pins, strict=True):
            if id(value) != first and not pin(value):
                return f"{self.container.label(key)} changed"
        return None


class Written:
    """A slot that is given a new list or dict by each call: nothing tells what is put into that."""

    def __init__(self, container: Container, key: Any, pin: Pin) -> None:
        self._slots = container.slots
        self._key = key
        self._pin = pin

    def unchanged(self) -> bool:
        return self._pin(self._slots().get(self._key, MISSING))

    def accept(self) -> None:
        """Other tensors of the same shapes are read at each call."""


class Globals:
    """The variables of one module that functions name, each looked at once."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.names: dict[str, None] = {}
        self._get = space.get
        self._ids: list[int] = []
        self._kept: list[Any] = []

    def unchanged(self) -> bool:
        return list(map(id, map(self._get, self.names, repeat(MISSING)))) == self._ids

    def accept(self) -> None:
        values = list(map(self._get, self.names, repeat(MISSING)))
        self._ids = list(map(id, values))
        self._kept = [value for value in values if not dies(value)]


class Codes:
    """The code of functions, which are held weakly, and defaults that hold nothing themselves."""

    def __init__(self) -> None:
        self._parts: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = []
        self._held: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = []

    def add(self, function: Callable[[], Any], part: Callable[[Any], Any] = code_of) -> None:
        """Rely on a part of a function, given as a reference to it."""
        self._parts.append((function, part, part(function())))

    def unchanged(self) -> bool:
        try:
            for function, part, held in self._held:
                if part(function()) is not held:
                    return False
        except AttributeError:  # one is gone
            return False
        return True

    def accept(self) -> None:
        living = [(function, part) for function, part, _ in self._parts if function() is not None]
        self._held = [(function, part, part(function())) for function, part in living]

    def difference(self) -> str | None:
        """What code differs; defaults are slots, too, which say it better."""
        for function, part, code in self._parts:
            held: Any = function()
            if part is code_of and held is not None and held.__code__ != code:
                return f"{held.__name__} has other code"
        return None


class Classes:
    """The classes of objects. Of those with a counter the cheap look need not see them."""

    def __init__(self) -> None:
        self._objects: list[tuple[Container, type[Any]]] = []
        self._owners: list[Callable[[], Any]] = []
        self._seen: list[type[Any]] = []

    def add(self, container: Container) -> None:
        """Rely on the class of the owner of a container."""
        self._objects.append((container, type(container.owner())))
        if not container.counted:
            self._owners.append(container.owner)

    def unchanged(self) -> bool:
        return [type(owner()) for owner in self._owners] == self._seen

    def accept(self) -> None:
        self._seen = [type(owner()) for owner in self._owners]

    def difference(self) -> str | None:
        for container, cls in self._objects:
            owner = container.owner()
            if owner is not None and type(owner) is not cls:
                return f"{container.path} is a {type(owner).__name__} now"
        return None


def dies(value: Any) -> bool:
    """Whether a value can be held weakly."""
    return type(value).__weakrefoffset__ != 0
