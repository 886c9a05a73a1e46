"""Tensors in a result that a program would not put anew: keys of dicts, and what objects hold.

::

    {"loss": a, b: [c]}      b is hidden, a and c are not
    Output(a, [b])           both are, if Output is a class of the user's
    a, with a.twin = b       b is hidden
    lambda: a * b            both are: it would compute with those of the trace
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from gc import get_referents
from types import FunctionType
from typing import Any
from weakref import ref

import numpy as np

from ...tensor import Tensor
from ..objects.containers import Attributes, Fields
from ..objects.things import container_of, is_users_object, looked_through
from ..objects.trees import items_of


def hidden_in(tree: Any, is_state: Callable[[Any], bool]) -> Iterator[tuple[str, Tensor]]:
    """The hidden tensors of a tree, each with what hides it.

    Args:
        tree: A result, or what a slot is given.
        is_state: Whether an object is one whose attributes a program writes.
    """
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", tree)]
    while todo:
        inside, item = todo.pop()
        if inside and isinstance(item, Tensor):
            yield inside, item
        elif id(item) not in seen:
            seen.add(id(item))
            todo += [(inside, part) for _, part in items_of(item)]
            if not is_state(item):
                inside = inside or f"a {type(item).__name__}"
                todo += [(inside, part) for part in _hidden_parts(item)]


def _hidden_parts(item: Any) -> Iterable[Any]:
    if isinstance(item, dict | set | frozenset | deque):
        return list(item)
    if isinstance(item, Tensor):
        return vars(item).values()
    if isinstance(item, FunctionType):
        return _parts_of_function(item)
    if (parts := looked_through("", item)) is not None:
        return [part for _, part in parts]
    if isinstance(item, BaseException):
        return item.args, vars(item)
    if isinstance(item, np.ndarray):
        return item.flat if item.dtype.hasobject else ()
    if isinstance(item, ref):
        return (item(),)
    if isinstance(item, slice):
        return item.start, item.stop, item.step
    if is_users_object(item) or container_of(item) is Attributes:
        return Fields(item, "").slots().values()
    return ()


def _parts_of_function(function: FunctionType) -> list[Any]:
    """What a function keeps: variables of its closure, default arguments, attributes."""
    cells = function.__closure__ or ()
    found = [value for cell in cells for value in get_referents(cell)]  # none in an empty one
    return [*found, function.__defaults__, function.__kwdefaults__, vars(function)]
