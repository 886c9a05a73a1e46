"""The signature of a call: what of its arguments a program depends on, and what it reads.

Arrays and tensors count with shape, dtype and whether they need a gradient; floats are run-time
scalars and count as such; everything else counts with its value, or, where it has none, with its
identity::

    before: a call            after: leaves, and the key

    step(x, 0.1, "mean")      x, 0.1
                              (Tensor, (3, 4), float32, False, True), "float", (str, "mean")
"""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType, MethodType
from typing import Any
from weakref import ref

import numpy as np

from ...tensor import Tensor
from ..objects.things import attributes_of, is_users_object
from ..objects.trees import leaves_in

Key = tuple[Any, ...]
Likeness = tuple[Any, ...]
"""Shape and dtype; of a tensor also whether it needs a gradient, and is a leaf."""

_VALUES = (bool, int, str, bytes, type(None), EllipsisType, np.dtype, type)
_WITHOUT_ATTRIBUTES = {bool, int, str, float, bytes, type(None), list, tuple, dict, slice, type}
"""Classes of which nothing has attributes of its own."""


def signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Key]:
    """Leaves (tensors, arrays, floats) of a call's arguments, and the key that says the rest.

    >>> import needle as ndl
    >>> leaves, key = signature((ndl.Tensor([1.0]), 2), {"lr": 0.5})
    >>> len(leaves)
    2
    """
    leaves: list[Any] = []
    key = tuple([_key(argument, leaves) for argument in args])
    if kwargs:
        key += tuple([(name, _key(item, leaves)) for name, item in kwargs.items()])
    if len(leaves) > 1 and len(set(map(id, leaves))) < len(leaves):
        key += _repeats(leaves)
    return leaves, key


def attributes(leaves: list[Any], names: set[str]) -> Key:
    """What tensors among the arguments have of the attributes of these names, each with its key.

    >>> import needle as ndl
    >>> x = ndl.Tensor([1.0])
    >>> x.scale = 2
    >>> attributes([x], {"scale", "mask"})
    ((0, 'scale', (<class 'int'>, 2)),)
    """
    return tuple(
        [
            (place, name, _static_key(vars(leaf)[name], None))
            for place, leaf in enumerate(leaves)
            if isinstance(leaf, Tensor)
            for name in sorted(names & vars(leaf).keys())
        ]
    )


def is_leaf(item: Any) -> bool:
    """Whether an argument is read at each call: a tensor, an array of real numbers or a float.

    A float of a class of the user's own, which may have methods, is known by its value.
    """
    if isinstance(item, float | np.floating):
        return not is_users_object(item)
    return is_array(item) or isinstance(item, Tensor)


def is_array(item: Any) -> bool:
    """Whether an argument is an array of real numbers, which is read at each call."""
    return isinstance(item, np.ndarray) and item.dtype.kind in "biuf"


def holds_arrays(item: Any) -> bool:
    """Whether a tree has an array that is read at each call."""
    return any(is_array(leaf) for _, leaf in leaves_in(item))


def in_native_order(array: Any) -> Any:
    """The array, or a copy in the machine's own byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def likeness(tensor: Tensor) -> Likeness:
    """What of a tensor a program depends on."""
    node = tensor.node
    specs = tensor if node.storage is None else node.storage
    return specs.shape, specs.dtype, node.requires_grad, node.op is None


def _key(item: Any, leaves: list[Any] | None) -> Any:
    """The key of one thing; without `leaves` nothing is read at the call, all has to be equal."""
    if leaves is None:
        return _static_key(item, None)
    if isinstance(item, Tensor):
        leaves.append(item)
        return (type(item), *likeness(item))
    if is_leaf(item):
        if isinstance(item, np.ndarray):
            leaves.append(item)
            return ("array", item.shape, item.dtype)
        leaves.append(float(item))
        return "float"
    return _static_key(item, leaves)


def _static_key(item: Any, leaves: list[Any] | None) -> Any:
    key = _key_of_value(item, leaves)
    if type(item) in _WITHOUT_ATTRIBUTES or isinstance(item, type) or isinstance(key, Identity):
        return key
    beside = attributes_of(item)
    return (key, _static_key(beside, None)) if beside else key


def _key_of_value(item: Any, leaves: list[Any] | None) -> Any:
    if isinstance(item, _VALUES):
        return (type(item), item)
    if isinstance(item, float):
        return (type(item), float.__repr__(item))  # tells -0.0 from 0.0
    if isinstance(item, complex):
        return (type(item), complex.__repr__(item))
    if isinstance(item, np.generic):
        return (type(item), item.item())
    if isinstance(item, list | tuple):
        return (type(item), *[_key(part, leaves) for part in item])
    if isinstance(item, dict):
        return (
            type(item),
            *[(_static_key(k, None), _key(part, leaves)) for k, part in item.items()],
        )
    if isinstance(item, slice | range):
        parts = (item.start, item.stop, item.step)
        return (type(item), *[_static_key(part, leaves) for part in parts])
    if isinstance(item, MethodType):
        return (MethodType, item.__func__, Identity(item.__self__))
    if hasattr(type(item), "__dlpack__") and not isinstance(item, np.ndarray):
        # Another library's array, which may be filled anew: no call is like another.
        return (type(item), object())
    return Identity(item)


def keeps_objects(key: Any) -> bool:
    """Whether a key keeps an object alive that counts by identity."""
    if isinstance(key, tuple):
        return any(map(keeps_objects, key))
    return isinstance(key, Identity) and key.keeps


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
    """An argument that counts by identity. It is not kept alive where that can be helped."""

    def __init__(self, item: Any) -> None:
        self._hash = id(item)
        self.keeps = False
        try:
            self._item: Callable[[], Any] = ref(item)
        except TypeError:
            self._item = lambda: item
            self.keeps = True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return False
        item = self._item()
        return item is not None and item is other._item()

    def __hash__(self) -> int:
        return self._hash
