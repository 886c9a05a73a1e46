"""Where values lie, as the code of a program finds them: through a table of pointers.

Every stored value, input and constant has a slot in the table. Code is given the pointers that it
needs, each once and in a fixed order, so that work on other memory can share it::

    plan                           pointers of one kernel, b[i] = a[i] * x[i]

    slots  x 0, a 1, b 2           place 0: slot 2 (b), place 1: slot 0 (x), place 2: slot 1 (a)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.node import Node
from .access import spec
from .expression import base
from .kernels import Work

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Plan:
    """Where things are.

    Attributes:
        slot: Place in the table of pointers of each stored value, input and constant.
        offsets: Byte offset in the arena of what lies there, by slot.
        bytes: Its size in bytes, by slot.
        scratch: Slot of the scratch memory of work that needs some.
        arena: Bytes of the arena.
        constants: Arrays of the trace, by slot.
        results: Slots of the results, in order.
        size: Slots of values.
    """

    slot: dict[Node, int] = field(default_factory=dict[Node, int])
    offsets: dict[int, int] = field(default_factory=dict[int, int])
    bytes: dict[int, int] = field(default_factory=dict[int, int])
    scratch: dict[Work, int] = field(default_factory=dict["Work", int])
    arena: int = 0
    constants: dict[int, Array] = field(default_factory=dict[int, Array])
    results: list[int] = field(default_factory=list[int])
    size: int = 0

    @property
    def status(self) -> int:
        """The slot of the word that code sets where an index is out of range."""
        return self.size

    @property
    def stream(self) -> int:
        """The slot of the state of the random stream."""
        return self.size + 1

    @property
    def table(self) -> int:
        """Length of the table of pointers."""
        return self.size + 2

    def new_slot(self) -> int:
        """One more slot."""
        self.size += 1
        return self.size - 1

    def text(self) -> str:
        """The memory plan: each value in the arena with its offset, bytes and operator."""
        lines = [f"arena of {self.arena:,} bytes, {self.size} pointers"]
        for node, slot in self.slot.items():
            if slot in self.offsets:
                shape, dtype = spec(node)
                place = f"{self.offsets[slot]:>10,}  {self.bytes[slot]:>10,}"
                lines.append(f"  {place}  {dtype}{list(shape)} {node.op!r}")
        return "\n".join(lines)


class Pointers:
    """The memory that some code is given pointers to, each slot once, in a fixed order.

    Args:
        layout: The plan.
        made: Values that the code stores.
        read: Values that it reads.
        starts: Number of the element that a pointer leads to, where that is not the first one.

    Attributes:
        slots: The slots; the last one is that of the status word.
        moves: Bytes from the beginning of a value to where its pointer leads.
    """

    def __init__(
        self,
        layout: Plan,
        made: Iterable[Node],
        read: Iterable[Node],
        starts: Mapping[Node, int] | None = None,
    ) -> None:
        self._slot = slot = layout.slot
        self._starts = starts or {}
        places = [*[slot[node] for node in made], *sorted([slot[node] for node in read])]
        self.slots = [*dict.fromkeys(places), layout.status]
        self._places = {slot: place for place, slot in enumerate(self.slots)}
        self.moves = [0] * len(self.slots)
        for node, start in self._starts.items():
            self.moves[self._places[slot[node]]] = start * spec(node).dtype.itemsize

    def place(self, node: Node) -> int | None:
        """The number of the pointer to a value, None if there is none."""
        return self._places.get(self._slot.get(base(node), -1))

    def start(self, node: Node) -> int:
        """Number of the element that the pointer to a value leads to."""
        return self._starts.get(base(node), 0)
