"""Where values lie, as the code of a program finds them: through a table of pointers.

Every stored value, input and constant has a slot in the table. Code is given the pointers that it
needs, each once and in a fixed order, so that work on other memory can share it::

    plan                           pointers of one kernel, b[i] = a[i] * x[i]

    slots  x 0, a 1, b 2           place 0: slot 2 (b), place 1: slot 0 (x), place 2: slot 1 (a)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.node import Node
from .access import address, spec
from .expression import Read, base
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

    To a value that is only read, a pointer leads from the first element that is read on: so code
    that reads other slices of a value is shared.

    Args:
        layout: The plan.
        made: Values that the code stores.
        reads: What it reads, with the indices of the reads; () for all of a value.
        loops: How many loops the indices follow.

    Attributes:
        words: For each pointer its slot, and the bytes from the beginning of the value there to
            where it leads. The last one is that of the status word.
    """

    def __init__(
        self, layout: Plan, made: Iterable[Node], reads: Iterable[Read], loops: int
    ) -> None:
        self._slot = slot = layout.slot
        self._starts: dict[Node, int] = {}
        written = dict.fromkeys([slot[node] for node in made])
        moves: dict[int, int] = {}
        for node, at in reads:
            source, (shape, dtype) = base(node), spec(node)
            first = 0 if slot[source] in written else address(at, shape, loops)[0]
            first = self._starts[source] = min(first, self._starts.get(source, first))
            moves[slot[source]] = first * dtype.itemsize
        slots = [*dict.fromkeys([*written, *sorted(moves)]), layout.status]
        self.words = [(slot, moves.get(slot, 0)) for slot in slots]
        self._places = {slot: place for place, slot in enumerate(slots)}

    def place(self, node: Node) -> int | None:
        """The number of the pointer to a value, None if there is none."""
        return self._places.get(self._slot.get(base(node), -1))

    def start(self, node: Node) -> int:
        """Number of the element that the pointer to a value leads to."""
        return self._starts.get(base(node), 0)
