"""What says of a slot whether it still holds what a trace relied on.

::

    a slot held                              its pin wants

    0.5, "sum"                               what is equal
    a model, a list                          the same one
    (model, 2)                               a tuple of as many items, each of which passes
    a tensor that the program writes         one of the same class, shape and dtype
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from ...tensor import Tensor
from ..objects.sameness import is_as_good
from ..objects.things import is_users_object

Pin = Callable[[Any], bool]


def dies(value: Any) -> bool:
    """Whether a value can be held weakly."""
    return type(value).__weakrefoffset__ != 0


def pinned(value: Any, gone: Callable[[Any], None]) -> Pin:
    """Whether a slot still holds a value: equal, if it is a plain one, else the same.

    Args:
        value: What it held.
        gone: Is called when that dies, or a part of it.
    """
    if isinstance(value, tuple) and not is_users_object(value):  # which has attributes, too
        return _each(type(value), [pinned(part, gone) for part in value])
    if isinstance(value, list | dict):
        return lambda now: now is value
    if not dies(value):
        return lambda now: is_as_good(now, value)
    reference = ref(value, gone)
    return lambda now: now is reference()


def alike(value: Any) -> Pin:
    """Whether a slot that a program writes holds tensors of the same classes, shapes, dtypes."""
    if isinstance(value, Tensor):
        cls, specs, flag = type(value), value.node.specs(), value.requires_grad
        return lambda now: (
            type(now) is cls and now.requires_grad == flag and now.node.specs() == specs
        )
    if isinstance(value, list | tuple):
        return _each(type(value), [alike(part) for part in value])
    if isinstance(value, dict):
        inner = {key: alike(part) for key, part in value.items()}
        return lambda now: (
            isinstance(now, dict)
            and list(now) == list(inner)
            and all(pin(now[key]) for key, pin in inner.items())
        )
    return lambda now: is_as_good(now, value)


def _each(kind: type[Any], pins: list[Pin]) -> Pin:
    """Whether a list or tuple is of a class and each of its items passes."""
    return lambda now: (
        type(now) is kind
        and len(now) == len(pins)
        and all(pin(part) for pin, part in zip(pins, now, strict=True))
    )
