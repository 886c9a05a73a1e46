"""What a trace has seen of one container: its slots as they were, and which of them were read.

::

    def step(x): return x * cfg.scale      Seen(cfg)    before  {"scale": 2.0, "name": "a"}
                                                        reads   "scale"
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .containers import Entries, Items
from .names import Closure
from .slots import Container


class Seen:
    """A container that was reached: its slots as they were, and those that were read.

    Attributes:
        assigned: Attributes that were assigned, as far as that is seen.
        overwritten: Those that held a number which nobody had read till then.
    """

    def __init__(self, owner: Any, container: Container, whole: bool) -> None:
        self.owner = owner
        self.container = container
        self.before = dict(container.slots())
        self.reads: dict[Any, None] = {}
        self.assigned: set[Any] = set()
        self.overwritten: set[Any] = set()
        self.whole = whole
        """Whether all slots count as read."""

    def read(self) -> list[Any]:
        """The slots that were read, also where there is nothing yet."""
        slots = [*self.container.expected, *self.before] if self.whole else self.reads
        return list(dict.fromkeys(slots))

    def was_read(self, key: Any) -> bool:
        """Whether a slot is one of those."""
        is_slot = key in self.before or key in self.container.expected
        return is_slot if self.whole else key in self.reads

    def assign(self, name: str) -> None:
        """Note that an attribute is about to be assigned."""
        self.assigned.add(name)
        if name not in self.reads and is_number(self.before.get(name)):
            self.overwritten.add(name)

    def is_relied_on(self) -> bool:
        """Whether slots were read, or a dict or list may have been found empty, or code was run."""
        kinds = Entries | Items | Closure
        return bool(self.read()) or (self.whole and isinstance(self.container, kinds))


def is_number(value: Any) -> bool:
    """Whether it is a number of Python's or NumPy's, which True and False are not."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
