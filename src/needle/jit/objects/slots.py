"""Slots: the places where Python objects keep tensors and numbers between calls.

A *container* is what has slots; objects and functions are held weakly::

    in Python                        what is read and assigned, all in the same way

    model.width                      the slot "width" of the model's attributes
    opt.state[p]                     the slot p of the dict
    model.heads[0]["scale"]          the slot 0 of the list, and in it the path ("scale",)

`containers.py` has the kinds of containers, `names.py` those of variables that functions name,
`thread_slots.py` those of a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

from ...context import Relying, changes
from ...tensor import Tensor
from .trees import Path


class Missing:
    """Stands for what a slot holds that is not there."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()


class Container:
    """Something with slots.

    Args:
        owner: The object, dict, list or function.
        path: Its name in messages.
    """

    dotted = False
    """Whether slots are attributes: named with a dot, of an owner that is held weakly."""
    tells = False
    """Whether programs are told when a slot that they use is assigned."""
    expected: Collection[str] = ()
    """Slots that are watched also where there is nothing yet."""

    def __init__(self, owner: Any, path: str) -> None:
        self.path = path
        weakly = self.dotted and type(owner).__weakrefoffset__
        self.owner: Callable[[], Any] = ref(owner) if weakly else lambda: owner

    def slots(self) -> dict[Any, Any]:
        """What the slots hold now, by key."""
        raise NotImplementedError

    def held(self, key: Any) -> Any:
        """What a slot holds now; `MISSING` if there is no such slot."""
        return self.slots().get(key, MISSING)

    def reader(self, keys: Sequence[Any]) -> Callable[[], Iterable[Any]]:
        """A function that gives what some slots hold now, `MISSING` where there is nothing.

        Args:
            keys: The slots, in the order of `slots`; then those that are not there.
        """

        def read() -> list[Any]:
            slots = self.slots()
            return [slots.get(key, MISSING) for key in keys]

        return read

    def views(self) -> list[Collection[Any]]:
        """Collections that show all slots at any time, if there are any: a quick way to look."""
        return []

    def assign(self, key: Any, value: Any) -> None:
        """Put a value into a slot."""
        raise NotImplementedError

    def remove(self, key: Any) -> None:
        """Let there be no such slot any more."""
        raise NotImplementedError

    def restore(self, slots: dict[Any, Any]) -> None:
        """Make the container hold exactly `slots` again."""
        now = self.slots()
        for key in now.keys() - slots.keys():
            self.remove(key)
        for key, value in slots.items():
            if now.get(key, MISSING) is not value:
                self.assign(key, value)

    def is_fixed(self, key: Any, value: Any) -> bool:
        """Whether a slot holds what nobody assigns anew, as what an import put there."""
        return False

    def label(self, key: Any) -> str:
        """Name of a slot in messages."""
        if self.dotted:
            return f"{self.path}.{key}"
        return f"{self.path}[a tensor]" if isinstance(key, Tensor) else f"{self.path}[{key!r}]"


@dataclass(unsafe_hash=True, slots=True)  # not frozen: those take longer to make, and are many
class Slot:
    """A slot, or a place in the tree of lists, tuples and dicts that it holds.

    In a tree of a trace it stands for the tensor that is there when a call begins.
    """

    container: Container
    key: Any
    path: Path = ()

    def held(self) -> Any:
        """What the slot holds now; `MISSING` if there is no such slot."""
        return self.container.held(self.key)

    def assign(self, value: Any) -> None:
        """Put a value into the slot."""
        self.container.assign(self.key, value)

    def note(self, but: Relying) -> None:
        """Tell all programs but one that the slot was assigned."""
        changes.note(self.container.owner(), self.key, but)

    @property
    def label(self) -> str:
        """Name of the slot in messages."""
        return self.container.label(self.key)

    def found(self) -> Any:
        """What stands at the place now; `MISSING` if there is no such place."""
        item = self.container.held(self.key)
        try:
            for step in self.path:
                item = item[step]
        except (IndexError, KeyError, TypeError):
            return MISSING
        return item

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The tensor at the place in a call with these leaves; None if it is gone."""
        item = self.found() if self.path else self.container.held(self.key)
        return item if isinstance(item, Tensor) else None
