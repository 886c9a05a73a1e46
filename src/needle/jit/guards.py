"""Guards: what must still hold for a program to be the right one.

The cheap look: nothing in the process was given new data or set as an attribute since the last call, and the
dicts and lists that were reached hold the same things. Only if that fails are all slots compared in detail.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from ..context import changes
from ..shapes import Spec
from ..state import Stateful
from ..tensor import Tensor
from .trace import Trace

_MISSING = object()


class Guards:
    """The state of the world that a trace relies on.

    Args:
        trace: The trace.
    """

    def __init__(self, trace: Trace) -> None:
        self._expected = [(container, dict(slots)) for container, slots in trace.containers]
        self._place = {id(container.owner): slots for container, slots in self._expected}
        self._free = {(id(owner), name) for owner, name, _ in trace.scalars}
        self._written = {(id(owner), key) for owner, key, _ in trace.slots}
        self._dicts = [c.owner for c, _ in self._expected if isinstance(c.owner, dict)]
        self._lists = [c.owner for c, _ in self._expected if isinstance(c.owner, list)]
        self._flags = [(r, t.requires_grad) for r in trace.tensors if (t := r()) is not None]
        self._seen = changes.count
        self._held = self._contents()

    def _contents(self) -> list[Any]:
        """What the reached dicts and lists hold; comparing two of these stops at identical things."""
        return [*chain(*map(dict.values, self._dicts), *self._lists), *map(len, self._dicts)]

    def unchanged(self) -> bool:
        """The cheap look: True when surely nothing changed."""
        return self._seen == changes.count and _identical(self._held, self._contents())

    def accept(self) -> None:
        """Take the world as it is for the one that the next cheap look compares with."""
        self._seen = changes.count
        self._held = self._contents()

    def expected(self, owner: Any, key: Any) -> Any:
        """What a slot held when it was traced, or what a program put there since."""
        return self._place[id(owner)].get(key)

    def expect(self, owner: Any, key: Any, value: Any) -> None:
        """A program put `value` into a slot."""
        slots = self._place.get(id(owner))
        if slots is not None:
            slots[key] = value

    def difference(self) -> str | None:
        """The detailed look: what differs from the world of the trace, None if nothing does."""
        for container, slots in self._expected:
            now = container.items()
            if len(now) != len(slots):
                return f"{container.path} holds {len(now)} things, {len(slots)} when it was traced"
            for key, expected in slots.items():
                value = now.get(key, _MISSING)
                if value is not expected and not self._agrees(
                    container.owner, key, expected, value
                ):
                    return f"{container.path}.{key} changed"
        for reference, flag in self._flags:
            tensor = reference()
            if tensor is not None and tensor.requires_grad != flag:
                return f"requires_grad of a tensor of shape {tensor.shape} changed"
        return None

    def _agrees(self, owner: Any, key: Any, expected: Any, value: Any) -> bool:
        if value is _MISSING:
            return False
        slot = (id(owner), key)
        if slot in self._free:
            return isinstance(value, int | float) and value != 0
        if slot in self._written:
            return _alike(expected, value)
        if isinstance(expected, Tensor | Stateful | dict | list) or type(value) is not type(
            expected
        ):
            return False
        if isinstance(expected, tuple):
            return len(value) == len(expected) and all(
                a is b or self._agrees(None, None, a, b)
                for a, b in zip(expected, value, strict=True)
            )
        try:
            return bool(value == expected)
        except Exception:
            return False


def _identical(a: list[Any], b: list[Any]) -> bool:
    # Lists compare items by identity first; tensors and modules have no other equality.
    return a == b


def _alike(expected: Any, value: Any) -> bool:
    """Whether a slot that a program writes holds tensors of the same shapes and dtypes."""
    if isinstance(expected, Tensor):
        return isinstance(value, Tensor) and _spec(value) == _spec(expected)
    if isinstance(expected, list | tuple):
        return (
            type(value) is type(expected)
            and len(value) == len(expected)
            and all(_alike(a, b) for a, b in zip(expected, value, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(value, dict)
            and list(value) == list(expected)
            and all(_alike(expected[k], value[k]) for k in expected)
        )
    return value is expected or value == expected


def _spec(tensor: Tensor) -> tuple[Any, bool]:
    return Spec(tensor.shape, tensor.dtype), tensor.requires_grad
