"""What arrays, sets, deques and bytearrays hold, which have no slots, and what was done to it.

::

    log.append(1)                      it grew: a side effect, which nothing relies on
    queue.popleft(), rates.rotate()    a program would not do it again: the call is made as
                                       written, on what was there before
    shapes.add(x.shape)                the same; next time nothing is changed
"""

from __future__ import annotations

from array import ArrayType
from typing import Any, NamedTuple

import numpy as np

from .sameness import is_as_good, is_equal, is_same


class Contents(NamedTuple):
    """What something without slots held: an array a copy, all others a list."""

    path: str
    owner: Any
    before: Any

    def are_same(self) -> bool:
        """Whether nothing was changed."""
        compare = is_equal if isinstance(self.owner, np.ndarray) else is_same
        return compare(self.owner, self.before)

    def added(self) -> list[Any]:
        """What was added at the end, if nothing else was changed."""
        count = len(self.before)
        if isinstance(self.owner, set) or len(self.owner) <= count:
            return []
        now = list(self.owner)
        return now[count:] if is_same(now[:count], self.before) else []

    def were_used_up(self) -> bool:
        """Whether something was taken out, and nothing else was changed."""
        rest = iter(self.before)
        return all(any(is_as_good(item, old) for old in rest) for item in self.owner)

    def put_back(self) -> None:
        """Let it hold that again."""
        refill(self.owner, self.before)


def refill(owner: Any, before: Any) -> None:
    """Let an array or collection hold what it held; nobody can have written what is read-only."""
    if isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            np.copyto(owner, before)
        return
    if isinstance(owner, ArrayType):
        del owner[:]
    else:
        owner.clear()
    add = owner.update if isinstance(owner, dict | set) else owner.extend
    add(before)
