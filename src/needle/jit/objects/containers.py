"""The kinds of containers: an object, a class, a module, a dict or a list, each with its slots.

::

    a slot                           its container, and the key

    model.width                      Attributes of the model, "width"
    point.x, of `__slots__`          Fields of the point, "x"
    Net.scale, of a class            Members of the class, "scale"
    settings.rate, of a module       Variables of the module, "rate"
    opt.state[p]                     Entries of the dict, p
    model.layers[0]                  Items of the list, 0

Those of variables that functions name are in `names.py`, those of a thread in `thread_slots.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import repeat
from types import MemberDescriptorType, ModuleType
from typing import Any

from ...state import Stateful, Telling, TellingList
from .slots import MISSING, Container

_NOTHING = repeat(MISSING)
_own = object.__getattribute__


class Entries(Container):
    """A dict."""

    def __init__(self, owner: Any, path: str) -> None:
        super().__init__(owner, path)
        self.tells = isinstance(owner, Telling | Stateful)

    def slots(self) -> dict[Any, Any]:
        return self.owner()

    def held(self, key: Any) -> Any:
        return self.owner().get(key, MISSING)

    def views(self) -> list[Collection[Any]]:
        held = self.slots()
        return [held, held.values()]

    def assign(self, key: Any, value: Any) -> None:
        if self.tells:  # in silence: whoever does it tells of it
            dict.__setitem__(self.slots(), key, value)
        else:
            self.slots()[key] = value

    def restore(self, slots: dict[Any, Any]) -> None:
        held = self.slots()
        if list(held) != list(slots) or any(held[key] is not slots[key] for key in held):
            held.clear()  # which also puts the order back
            held.update(slots)


class Attributes(Entries):
    """The attributes of an object."""

    dotted = True

    def slots(self) -> dict[Any, Any]:
        owner = self.owner()
        return {} if owner is None else _own(owner, "__dict__")

    def held(self, key: Any) -> Any:
        owner = self.owner()
        return MISSING if owner is None else _own(owner, "__dict__").get(key, MISSING)

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        held = self.owner

        def read() -> list[Any]:
            owner = held()
            return [] if owner is None else list(map(_own(owner, "__dict__").get, keys, _NOTHING))

        return read


class Fields(Container):
    """The attributes of an object whose class declares `__slots__`, and those beside them."""

    dotted = True

    def __init__(self, owner: Any, path: str) -> None:
        super().__init__(owner, path)
        self.expected = fields_of(type(owner))

    def slots(self) -> dict[Any, Any]:
        owner = self.owner()
        found = {name: _attribute(owner, name) for name in self.expected}
        found = {name: value for name, value in found.items() if value is not MISSING}
        beside = _attribute(owner, "__dict__")
        return found if beside is MISSING else {**found, **beside}

    def assign(self, key: Any, value: Any) -> None:
        object.__setattr__(self.owner(), key, value)

    def remove(self, key: Any) -> None:
        object.__delattr__(self.owner(), key)


class Members(Container):
    """The attributes of a class."""

    dotted = True

    def __init__(self, owner: type) -> None:
        super().__init__(owner, owner.__name__)

    def slots(self) -> dict[Any, Any]:
        owner = self.owner()
        return {} if owner is None else dict(vars(owner))

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        get = vars(self.owner()).get
        return lambda: list(map(get, keys, _NOTHING))

    def assign(self, key: Any, value: Any) -> None:
        type.__setattr__(self.owner(), key, value)

    def remove(self, key: Any) -> None:
        type.__delattr__(self.owner(), key)


class Variables(Container):
    """The variables of a module, as others read them: `settings.rate`.

    Modules among them are no slots: importing one puts it there.
    """

    dotted = True

    def __init__(self, owner: ModuleType) -> None:
        super().__init__(owner, owner.__name__)
        self.space: dict[str, Any] = object.__getattribute__(owner, "__dict__")

    def slots(self) -> dict[Any, Any]:
        held = self.space.copy()  # other threads may import
        return {name: value for name, value in held.items() if not isinstance(value, ModuleType)}

    def reader(self, keys: Sequence[Any]) -> Callable[[], list[Any]]:
        space = self.space

        def read() -> list[Any]:
            found = map(space.get, keys, _NOTHING)
            return [MISSING if isinstance(value, ModuleType) else value for value in found]

        return read

    def views(self) -> list[Collection[Any]]:
        return [self.space, self.space.values()]

    def assign(self, key: Any, value: Any) -> None:
        self.space[key] = value

    def remove(self, key: Any) -> None:
        del self.space[key]


class Items(Container):
    """A list."""

    def __init__(self, owner: Any, path: str) -> None:
        super().__init__(owner, path)
        self.tells = isinstance(owner, TellingList)

    def slots(self) -> dict[Any, Any]:
        return dict(enumerate(self.owner()))

    def views(self) -> list[Collection[Any]]:
        return [self.owner()]

    def assign(self, key: Any, value: Any) -> None:
        self.owner()[key] = value

    def restore(self, slots: dict[Any, Any]) -> None:
        self.owner()[:] = slots.values()


def _attribute(owner: Any, name: str) -> Any:
    """An attribute, `MISSING` if there is none, without the class noting that it was read."""
    try:
        return object.__getattribute__(owner, name)
    except AttributeError:
        return MISSING


def fields_of(cls: type) -> list[str]:
    """The names that a class and its bases declare as `__slots__`."""
    return [
        name
        for base in cls.__mro__
        if "__slots__" in vars(base)  # those of C, as `complex.real`, cannot be set
        for name, member in vars(base).items()
        if isinstance(member, MemberDescriptorType) and not name.startswith("__")
    ]
