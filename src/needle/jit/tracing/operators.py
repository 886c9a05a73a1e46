"""What users' operators keep between calls, so that a trace can leave it as it found it.

::

    an operator that is run in a trace         after the trace

    self.mask = x > 0                          the mask that it had before, if it had one
    self.calls.append(1)                       the list is as long as before
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...graph.node import Value
from ...graph.op import Op

Undo = Callable[[], Any]


class Operators:
    """The attributes of operators that are run to learn what they give."""

    def __init__(self) -> None:
        self._seen: dict[int, Op] = {}  # by identity: a class may have an equality of its own
        self._undo: list[Undo] = []

    def add(self, op: Op) -> None:
        """Remember what an operator has now, unless it was added before."""
        if id(op) not in self._seen and hasattr(op, "__dict__"):
            self._seen[id(op)] = op
            self._undo += [_contents(value) for value in vars(op).values()]
            self._undo.append(partial(_replace, vars(op), dict(vars(op))))

    def put_back(self) -> None:
        """Let every operator have what it had."""
        for undo in self._undo:
            undo()


def _contents(value: Any) -> Undo:
    """What gives an attribute's value the contents again that it has now."""
    if isinstance(value, np.ndarray):
        return partial(_copy, value, value.copy())
    if isinstance(value, dict | set):
        return partial(_replace, value, value.copy())
    if isinstance(value, list):
        return partial(value.__setitem__, slice(None), value.copy())
    if isinstance(value, Value):
        return partial(setattr, value, "node", value.node)
    return lambda: None


def _copy(array: Any, before: Any) -> None:
    if array.flags.writeable:
        np.copyto(array, before)


def _replace(held: Any, before: Any) -> None:
    held.clear()
    held.update(before)
