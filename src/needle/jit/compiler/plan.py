"""Fourth stage: where every stored value lies.

All values of a call lie in one arena. From the first stage that needs a value to the last one, its
live range, no other value lies there, unless a chain makes both row by row, one after the other.
Then the memory is used again. Inputs, results and state lie where they are. Code finds all of them
through a table of pointers, with one slot for each::

    before: stages                 after: a plan

    1   a = x @ w                  slots    x 0, w 1, v 2, c 3 (the result), a 4, b 5
    2   b = Σᵢ a                   arena    a at 0 ... 4096, b at 4096 ... 4224
    3   c = b @ v                           (a value of stage 3 could lie where a was)

State that is replaced in place has the slot of the old value.
"""

from __future__ import annotations

import math
from bisect import bisect, insort
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from ...errors import CompileError
from ...graph.node import Node
from .access import bytes_of, spec
from .kernels import Fused, Work
from .tasks import Chain, Schedule

Array = np.ndarray[Any, Any]

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""
SMALL_BYTES = 2**16
"""Of values whose parts stay in the caches of the threads that make them."""


@dataclass(eq=False)
class Plan:
    """Where things are.

    Attributes:
        slot: Place in the table of pointers of each stored value, input and constant, and of the
            scratch memory of work that needs some.
        offsets: Byte offset in the arena of what lies there, by slot.
        bytes: Its size in bytes, by slot.
        arena: Bytes of the arena.
        constants: Arrays of the trace, by slot.
        results: Slots of the results, in order.
        size: Slots of values.
    """

    slot: dict[Node | Work, int] = field(default_factory=dict[Node | Work, int])
    offsets: dict[int, int] = field(default_factory=dict[int, int])
    bytes: dict[int, int] = field(default_factory=dict[int, int])
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
            if isinstance(node, Node) and slot in self.offsets:
                shape, dtype = spec(node)
                place = f"{self.offsets[slot]:>10,}  {self.bytes[slot]:>10,}"
                lines.append(f"  {place}  {dtype}{list(shape)} {node.op!r}")
        return "\n".join(lines)


LiveRanges = dict[Node | Work, tuple[int, int]]
"""The first and the last stage in which values, and the scratch memory of work, are needed."""


def plan(fused: Fused, scheduled: Schedule) -> Plan:
    """Lay out the memory of a program.

    Args:
        fused: The kernels.
        scheduled: What runs when.
    """
    result = Plan()
    for node in fused.graph.inputs:
        result.slot[node] = result.new_slot()
    for old, new in fused.state.items():
        result.slot[new] = result.slot[old]
    for new in fused.results.values():
        result.slot[new] = result.new_slot()
        result.results.append(result.slot[new])
    _fill_arena(result, _live_ranges(fused, scheduled), scheduled)
    for work in fused.all_works:
        for source in fused.sources(work):
            if source not in result.slot and source.storage is not None:
                slot = result.slot[source] = result.new_slot()
                result.constants[slot] = np.ascontiguousarray(source.storage)
    return result


def _fill_arena(result: Plan, live: LiveRanges, scheduled: Schedule) -> None:
    """Give values that kernels make, and scratch memory, a place in the arena, stage by stage."""
    heirs = _heirs(scheduled, live, result.slot)
    ends = {what: end for what, (_, end) in live.items()}
    for heir, first in heirs.items():
        ends[first] = max(ends[first], ends[heir])
    memory = _Memory()
    leaving = defaultdict[int, list[tuple[int, int]]](list)  # by the stage after which it is free
    stage = 0
    for what, (begin, _) in sorted(live.items(), key=lambda item: item[1][0]):
        for left in range(stage, begin):
            for block in leaving[left]:
                memory.give_back(*block)
        stage = begin
        if what in result.slot:  # it lies elsewhere
            continue
        slot = result.slot[what] = result.new_slot()
        size = bytes_of(what) if isinstance(what, Node) else scheduled.scratch[what]
        if what in heirs:
            offset = result.offsets[result.slot[heirs[what]]]
        else:
            whole = max(1, -(-size // ALIGNMENT)) * ALIGNMENT
            offset = memory.take(whole)
            leaving[ends[what]].append((offset, whole))
        result.offsets[slot], result.bytes[slot] = offset, size
    result.arena = memory.size


def _live_ranges(fused: Fused, scheduled: Schedule) -> LiveRanges:
    stages, made = scheduled.stages, [node for work in fused.works for node in work.made]
    known, later = {*made, *scheduled.scratch}, set[Node]().union(*[stage.made for stage in stages])
    found: LiveRanges = {}

    def need(stage: int, *things: Node | Work) -> None:
        for thing in things:
            if thing in known:
                found[thing] = found.get(thing, (stage, stage))[0], stage

    need(0, *[node for node in made if node not in later])  # what is drawn before, or empty
    for number, stage in enumerate(stages):
        for task in stage.tasks:
            need(number, task.work, *task.makes, *task.sources)
        for work in stage.called:
            need(number, work.node, *fused.sources(work))
    return found


def _heirs(
    scheduled: Schedule, live: LiveRanges, placed: Mapping[Node | Work, int]
) -> dict[Node | Work, Node]:
    """Values that lie where others did that were needed earlier in the same chain.

    All of them are made row by row: a chunk has the same bytes of each to itself.
    """
    heirs: dict[Node | Work, Node] = {}
    by_rows = scheduled.by_rows.difference(placed)
    for number, stage in enumerate(scheduled.stages):
        for chain in [chain for chain in stage.chains if len(chain.tasks) > 1]:
            free = defaultdict[int, list[Node]](list)  # by size, those that nobody needs any more
            for place, leaving in enumerate(_last_uses(chain)):
                for node in chain.tasks[place].makes:
                    if node in by_rows and free[bytes_of(node)]:
                        heirs[node] = free[bytes_of(node)].pop()
                for node in leaving:
                    if live.get(node) == (number, number) and node in by_rows:
                        free[bytes_of(node)].append(heirs.get(node, node))
    return heirs


def _last_uses(chain: Chain) -> list[list[Node]]:
    """For each function of a chain, the values that it is the last one to need."""
    last = {
        node: place
        for place, task in enumerate(chain.tasks)
        for node in [*task.makes, *task.sources]
    }
    uses: list[list[Node]] = [[] for _ in chain.tasks]
    for node, place in last.items():
        uses[place].append(node)
    return uses


class _Memory:
    """Free blocks of a growing range of addresses.

    Small ones are used again for the same size alone: a thread that makes the same rows of several
    values then writes to memory that its own cache holds, not another's. Of large ones, which stay
    in no cache, the first one that is large enough is taken.
    """

    def __init__(self) -> None:
        self.size = 0
        self._small: defaultdict[int, list[int]] = defaultdict(list)  # offsets by size
        self._large: list[tuple[int, int]] = []  # offset and size, neighbours merged

    def take(self, size: int) -> int:
        """Offset of a block of `size` bytes."""
        if size <= SMALL_BYTES:
            if self._small[size]:
                return self._small[size].pop()
        else:
            for place, (offset, available) in enumerate(self._large):
                if available >= size:
                    rest = [(offset + size, available - size)] if available > size else []
                    self._large[place : place + 1] = rest
                    return offset
        self.size += size
        return self.size - size

    def give_back(self, offset: int, size: int) -> None:
        """Free a block; a large one becomes one with free ones beside it."""
        if size <= SMALL_BYTES:
            self._small[size].append(offset)
            return
        place = bisect(self._large, (offset, size))
        if place < len(self._large) and self._large[place][0] == offset + size:
            size += self._large.pop(place)[1]
        if place and sum(self._large[place - 1]) == offset:
            start, before = self._large.pop(place - 1)
            offset, size = start, before + size
        insort(self._large, (offset, size))


# -- verifier --------------------------------------------------------------------------------------


def verify(result: Plan, fused: Fused, scheduled: Schedule) -> None:
    """Check that all that is read has a place, and that values needed at a time do not overlap."""
    for work in fused.all_works:
        for node in fused.sources(work):
            if node not in result.slot:
                raise CompileError(f"plan: {node.op!r} is read and has no place")
    live = _live_ranges(fused, scheduled)
    order = _order_in_chains(scheduled, live)
    places: list[tuple[Node | Work, int, int]] = []
    for what in live:
        slot = result.slot[what]
        if slot in result.offsets:
            start, stop = result.offsets[slot], result.offsets[slot] + result.bytes[slot]
            places.append((what, start, stop))
            if stop > result.arena:
                raise CompileError(f"plan: {_name(what)} lies beyond the end of the arena")
    for (what, start, stop), (other, low, high) in combinations(places, 2):
        (begin, end), (first, last) = live[what], live[other]
        if begin <= last and first <= end and start < high and low < stop:
            chain, made, read = order.get(what, (None, 0, 0))
            same, its_making, its_reading = order.get(other, (None, 0, 0))
            takes_turns = chain is same is not None and (start, stop) == (low, high)
            if not takes_turns or (made <= its_reading and its_making <= read):
                raise CompileError(f"plan: {_name(what)} and {_name(other)} overlap in the arena")


def _name(what: Node | Work) -> str:
    return repr(what.op) if isinstance(what, Node) else f"scratch memory of {what.made[0].op!r}"


def _order_in_chains(
    scheduled: Schedule, live: LiveRanges
) -> dict[Node | Work, tuple[Chain | None, int, float]]:
    """Of values made row by row the chain, and the first and last function that needs them."""
    found: dict[Node | Work, tuple[Chain | None, int, float]] = {}
    for number, stage in enumerate(scheduled.stages):
        for chain in stage.chains:
            made = {node: k for k, task in enumerate(chain.tasks) for node in task.makes}
            for place, leaving in enumerate(_last_uses(chain)):
                for node in scheduled.by_rows.intersection(leaving).intersection(made):
                    stays = live[node][1] > number
                    found[node] = chain, made[node], math.inf if stays else place
    return found
