"""What a function did to sets, deques, bytearrays and arrays, which have no slots.

::

    log.append(1)                      it grew: a side effect, which nothing relies on
    queue.popleft(), rates.rotate()    a program would not do it again: the call is made as
                                       written, on what was there before
    shapes.add(x.shape)                the same; next time nothing is changed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Any

from .sameness import is_as_good, is_same


def grew(owner: Collection[Any], before: list[Any]) -> bool:
    """Whether something was added at the end, and nothing else was changed."""
    is_longer = not isinstance(owner, set) and len(owner) > len(before)
    return is_longer and is_same(list(owner)[: len(before)], before)


def was_used_up(owner: Collection[Any], before: list[Any]) -> bool:
    """Whether something was taken out, and nothing else was changed."""
    rest = iter(before)
    return all(any(is_as_good(item, old) for old in rest) for item in owner)


def refill(owner: Any, before: list[Any]) -> None:
    """Let a collection hold what it held."""
    if isinstance(owner, deque | set):
        owner.clear()
        add = owner.extend if isinstance(owner, deque) else owner.update
        add(before)
    else:
        del owner[:]
        owner.extend(before)
