"""The signature of a call: what of its arguments a program depends on, and the leaves that it reads.

Arrays and tensors count with shape, dtype and whether they need a gradient; floats are run-time scalars and
count as such; everything else counts with its value, or, where it has none, its identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import Tensor

Key = tuple[Any, ...]

_VALUES = (bool, int, str, bytes, type(None), np.dtype, type)


def signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Key]:
    """Leaves (tensors, arrays, floats) of a call's arguments in order, and the key that says the rest.

    >>> import needle as ndl
    >>> leaves, key = signature((ndl.Tensor([1.0]), 2), {"lr": 0.5})
    >>> len(leaves)
    2
    """
    leaves: list[Any] = []
    key = tuple([_key(argument, leaves) for argument in args])
    if kwargs:
        key += tuple([(name, _key(kwargs[name], leaves)) for name in sorted(kwargs)])
    if len(leaves) > 1:
        key += _repeats(leaves)
    return leaves, key


def _key(item: Any, leaves: list[Any]) -> Any:
    if isinstance(item, Tensor):
        leaves.append(item)
        return ("tensor", item.shape, item.dtype, item.node.requires_grad, type(item))
    if isinstance(item, np.ndarray):
        leaves.append(item)
        return ("array", item.shape, item.dtype)
    if isinstance(item, float | np.floating):
        leaves.append(float(item))
        return "float"
    if isinstance(item, _VALUES):
        return (type(item), item)
    if isinstance(item, np.generic):
        return (type(item), item.item())
    if isinstance(item, list | tuple):
        return (type(item), *[_key(part, leaves) for part in item])
    if isinstance(item, dict):
        return (dict, *[(name, _key(part, leaves)) for name, part in item.items()])
    return Identity(item)


def _repeats(leaves: list[Any]) -> Key:
    """Which tensors are passed twice: such a call is another program."""
    places: dict[int, int] = {}
    found = []
    for place, leaf in enumerate(leaves):
        first = places.setdefault(id(leaf), place)
        if first != place and isinstance(leaf, Tensor):
            found.append((first, place))
    return tuple(found)


class Identity:
    """An argument that counts by identity; it is kept alive, so that its identity stays its own."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.item is other.item

    def __hash__(self) -> int:
        return id(self.item)


def mapped(item: Any, function: Callable[[Any], Any]) -> Any:
    """A tree of lists, tuples and dicts with `function` applied to what stands in it."""
    if isinstance(item, tuple):
        parts = [mapped(part, function) for part in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    if isinstance(item, list):
        return [mapped(part, function) for part in item]
    if isinstance(item, dict):
        return {name: mapped(part, function) for name, part in item.items()}
    return function(item)
