"""Third stage: where every stored value lies.

All values of a call lie in one arena, and memory is used again once its value is read for the last
time. Inputs, results and state lie where they are. Code finds all of them through a table of
pointers, with one slot for each::

    before: kernels, by level      after: a plan

    1   a = x @ w                  slots    x 0, w 1, c 2 (the result), a 3, b 4
    2   b = Σ a                    arena    a at 0 ... 4096, b at 4096 ... 4160
    3   c = tanh(b)                         (a value of level 3 could lie where a was)

State that is replaced in place has the slot of the old value.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import Any

import numpy as np

from ..errors import CompileError
from ..graph.node import Node
from .access import bytes_of, spec
from .expression import base
from .kernels import Fused, Work

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""

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


def plan(fused: Fused, scratch: Mapping[Work, int]) -> Plan:
    """Lay out the memory of a program.

    Args:
        fused: The kernels.
        scratch: Bytes of scratch memory of work that needs some.
    """
    result = Plan()
    for node in fused.graph.inputs:
        result.slot[node] = result.new_slot()
    for old, new in fused.state.items():
        result.slot[new] = result.slot[old]
    for new in fused.results.values():
        result.slot[new] = result.new_slot()
        result.results.append(result.slot[new])
    _lay_out(result, fused, scratch)
    for work in fused.all_works:
        for source in fused.sources(work):
            if source not in result.slot and source.storage is not None:
                slot = result.slot[source] = result.new_slot()
                result.constants[slot] = np.ascontiguousarray(source.storage)
    return result


def _lay_out(result: Plan, fused: Fused, scratch: Mapping[Work, int]) -> None:
    """Give values that kernels make, and scratch memory, a place in the arena, level by level."""
    ends = _last_reads(fused)
    memory = _Memory()
    leaving: dict[int, list[tuple[int, int]]] = {}  # by the level after which it is free

    def place(size: int, end: int) -> int:
        slot = result.new_slot()
        whole = max(1, -(-size // ALIGNMENT)) * ALIGNMENT
        result.offsets[slot], result.bytes[slot] = memory.take(whole), size
        leaving.setdefault(end, []).append((result.offsets[slot], whole))
        return slot

    levels = [list(works) for _, works in groupby(fused.works, key=lambda work: work.level)]
    for works, following in zip_longest(levels, levels[1:], fillvalue=[]):
        level = works[0].level
        for work in works:
            for node in work.made:
                if node not in result.slot:
                    result.slot[node] = place(bytes_of(node), max(level, ends.get(node, level)))
        for work in [*works, *following]:  # an operand may be packed one level before
            if scratch.get(work) and work not in result.scratch:
                result.scratch[work] = place(scratch[work], work.level)
        for block in leaving.pop(level, ()):
            memory.give_back(*block)
    result.arena = memory.size


def _last_reads(fused: Fused) -> dict[Node, int]:
    """The last level at which each value is read."""
    ends: dict[Node, int] = {}
    for work in fused.all_works:
        for source in fused.sources(work):
            ends[source] = max(ends.get(source, 0), work.level)
    return ends


class _Memory:
    """Free blocks of a growing range of addresses; the first one that is large enough is taken."""

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []  # offset and size, neighbours merged

    def take(self, size: int) -> int:
        """Offset of a block of `size` bytes."""
        for place, (offset, available) in enumerate(self._free):
            if available >= size:
                rest = [(offset + size, available - size)] if available > size else []
                self._free[place : place + 1] = rest
                return offset
        self.size += size
        return self.size - size

    def give_back(self, offset: int, size: int) -> None:
        """Free a block, which becomes one with free ones beside it."""
        place = bisect(self._free, (offset, size))
        if place < len(self._free) and self._free[place][0] == offset + size:
            size += self._free.pop(place)[1]
        if place and sum(self._free[place - 1]) == offset:
            start, before = self._free.pop(place - 1)
            offset, size = start, before + size
        insort(self._free, (offset, size))


# -- verifier --------------------------------------------------------------------------------------


def verify(result: Plan, fused: Fused) -> None:
    """Check that all that is read has a place, and that values needed at a time do not overlap."""
    ends = _last_reads(fused)
    for node in ends:
        if node not in result.slot:
            raise CompileError(f"plan: {node.op!r} is read and has no place")
    spans = [span for work in fused.works for span in _spans(result, work, ends)]
    for place, (begin, end, start, stop, what) in enumerate(spans):
        if stop > result.arena:
            raise CompileError(f"plan: {what} lies beyond the end of the arena")
        for first, last, other, limit, who in spans[place + 1 :]:
            if begin <= last and first <= end and start < limit and other < stop:
                raise CompileError(f"plan: {what} and {who} overlap in the arena")


def _spans(
    result: Plan, work: Work, ends: dict[Node, int]
) -> Iterable[tuple[int, int, int, int, str]]:
    """Levels at which memory is needed (first, last), where it begins and ends, and what for."""
    level = work.level
    needs = [(result.slot[node], level, ends.get(node, level), repr(node.op)) for node in work.made]
    if work in result.scratch:
        what = f"scratch memory of {work.made[0].op!r}"
        needs.append((result.scratch[work], level - 1, level, what))
    for slot, first, last, what in needs:
        if slot in result.offsets:
            start = result.offsets[slot]
            yield first, max(level, last), start, start + result.bytes[slot], what
