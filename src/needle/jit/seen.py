"""What a trace has seen of one container: its slots as they were, and which of them were read.

::

    def step(x): return x * cfg.scale      Seen(cfg)    before  {"scale": 2.0, "name": "a"}
                                                        reads   "scale"
"""

from __future__ import annotations

from typing import Any

from .names import Names
from .slots import Container, Entries, Items


class Seen:
    """A container that was reached: its slots as they were, and those that were read.

    Attributes:
        assigned: Attributes that were assigned, as far as that is seen.
    """

    def __init__(self, owner: Any, container: Container, whole: bool) -> None:
        self.owner = owner
        self.container = container
        self.before = dict(container.slots())
        self.reads: dict[Any, None] = {}
        self.assigned: set[Any] = set()
        self.whole = whole
        """Whether all slots count as read."""

    def read(self) -> list[Any]:
        """The slots that were read, also where there is nothing yet."""
        slots = [*self.container.expected, *self.before] if self.whole else self.reads
        return list(dict.fromkeys(slots))

    def is_relied_on(self) -> bool:
        """Whether slots were read, or a dict or list may have been found empty, or code was run."""
        container = self.container
        return bool(self.read()) or (self.whole and isinstance(container, Entries | Items | Names))
