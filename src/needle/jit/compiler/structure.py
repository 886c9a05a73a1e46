"""Which steps have the same code: those that differ only in the memory that they work on.

Expressions are written down as a list of entries that refer to earlier ones by number (value
numbering), so that equal lists mean equal code. Memory is entry by place among the pointers that
the code gets, not by name::

    before: steps of two layers      after: one structure, and so one function

    a5[i] = tanh(a4[i] + x2[i])      memory 2, memory 1, (add, 0, 1), (tanh, 2),
    a9[i] = tanh(a8[i] + x6[i])      (store 3 in memory 0)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from ...graph.node import Node
from ...ops.comparison import StopGradient
from ...ops.creation import Full
from .access import Index, address, is_view, spec
from .expression import Read, Step, Stored, operands
from .memory import Pointers


@dataclass(eq=False)
class Structure:
    """What the code of some steps follows from: steps with the same structure can share it.

    Attributes:
        stored: The nodes in memory.
        loops: Number of loops around.
        walked: Those of them that are loops of the code: others were merged into these.
        given: The memory that the code has pointers to.
        positions: Whether the code depends on where the loops are, beside through memory.
    """

    stored: Stored
    loops: int
    walked: Sequence[int]
    given: Pointers
    positions: bool
    _entries: list[Hashable] = field(default_factory=list[Hashable])
    _numbers: dict[Read, int] = field(default_factory=dict[Read, int])

    def of(self, steps: Iterable[Step]) -> Hashable:
        """The structure of some steps."""
        for node, at, home, *_ in steps:
            value = self._numbers[node, at] = self._computed(node, at)
            self._entries.append(("store", value, self._memory(node, home)))
        return tuple(self._entries)

    def _number(self, node: Node, at: Index) -> int:
        found = self._numbers.get((node, at))
        if found is None:
            is_leaf = self.stored.ends_at(node)
            found = self._added(self._leaf(node, at)) if is_leaf else self._computed(node, at)
            self._numbers[node, at] = found
        return found

    def _added(self, entry: Hashable) -> int:
        self._entries.append(entry)
        return len(self._entries) - 1

    def _leaf(self, node: Node, at: Index) -> Hashable:
        if isinstance(node.op, Full):
            return ("constant", repr(node.op.value), node.op.dtype)
        return self._memory(node, at)

    def _memory(self, node: Node, at: Index) -> Hashable:
        shape, dtype = spec(node)
        offset, strides = address(at, shape, self.loops)
        walked = range(self.loops) if self.positions else self.walked
        strides = tuple([strides[loop] for loop in walked])
        return self.given.place(node), offset - self.given.start(node), strides, dtype

    def _computed(self, node: Node, at: Index) -> int:
        parts = tuple([self._number(*read) for read in operands(node, at)])
        op = node.op
        if isinstance(op, StopGradient) or (is_view(node) and not self.positions):
            return parts[0]  # no code, or another index, which the leaves have
        key = id(node) if op is None or op.key is None else op.key
        # Positions follow from shapes: those in a table from the table's, which no leaf has.
        around = (node, *node.inputs) if self.positions else ()
        return self._added((key, *[value.specs() for value in around], parts))
