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
from ..objects.contents import refill


class Operators:
    """The attributes of operators that are run to learn what they give."""

    def __init__(self) -> None:
        self._seen: dict[int, Op] = {}  # by identity: a class may have an equality of its own
        self._undo: list[Callable[[], Any]] = []

    def add(self, op: Op) -> None:
        """Remember what an operator has now, unless it was added before."""
        if id(op) in self._seen or not hasattr(op, "__dict__"):
            return
        self._seen[id(op)] = op
        for value in [*vars(op).values(), vars(op)]:
            if isinstance(value, np.ndarray | list | dict | set):
                self._undo.append(partial(refill, value, value.copy()))
            elif isinstance(value, Value):
                self._undo.append(partial(setattr, value, "node", value.node))

    def put_back(self) -> None:
        """Let every operator have what it had."""
        for undo in self._undo:
            undo()
