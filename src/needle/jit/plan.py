"""Third stage: where every stored value lies, and what runs when.

All values of a call lie in one arena; memory is used again once its value is read for the last time. Inputs,
results and state lie where they are. Code finds memory through a table of pointers, one slot for each.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph.node import Node
from ..shapes import Spec
from .access import size_of
from .fuse import Fused, Product, Work, base, made_by, sources

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""


@dataclass
class Plan:
    """Where things are.

    Attributes:
        slot: Place in the table of pointers of each stored value, input and constant.
        offsets: Byte offset in the arena of the values that lie there, by slot.
        scratch: Slot of the scratch memory of each matrix product.
        arena: Bytes of the arena.
        constants: Arrays of the trace, by slot.
        results: Slots of the results, in order.
    """

    slot: dict[Node, int] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    scratch: dict[Node, int] = field(default_factory=dict)
    arena: int = 0
    constants: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    results: list[int] = field(default_factory=list)
    size: int = 0

    def text(self) -> str:
        """The memory plan: each value in the arena with its place and size."""
        lines = [f"arena of {self.arena:,} bytes, {self.size} pointers"]
        for node, slot in self.slot.items():
            if slot in self.offsets:
                spec: Any = node.specs()
                lines.append(f"  {self.offsets[slot]:>10,}  {_bytes(spec):>10,}  {spec.dtype}{list(spec.shape)} {node.op!r}")
        return "\n".join(lines)


def plan(fused: Fused, scratch: dict[Node, int]) -> Plan:
    """Lay out the memory of a program.

    Args:
        fused: The kernels.
        scratch: Bytes of scratch memory of each matrix product.
    """
    result = Plan()
    for node in fused.graph.inputs:
        _new_slot(result, node)
    for old, new in fused.state.items():
        result.slot[new] = result.slot[old]
    for new in fused.results.values():
        result.results.append(_new_slot(result, new))
    _Arena(result, fused, scratch).lay_out()
    for work in [*fused.works, *fused.last]:
        for source in sources(work, fused.stored):
            if source not in result.slot and source.storage is not None:
                result.constants[_new_slot(result, source)] = np.ascontiguousarray(source.storage)
    return result


def _new_slot(result: Plan, node: Node | None) -> int:
    slot = result.size
    result.size += 1
    if node is not None:
        result.slot[node] = slot
    return slot


class _Arena:
    """First free place that is large enough, level by level."""

    def __init__(self, result: Plan, fused: Fused, scratch: dict[Node, int]) -> None:
        self.plan = result
        self.fused = fused
        self.scratch = scratch
        self.free: list[tuple[int, int]] = []

    def lay_out(self) -> None:
        """Give every value that is made by a kernel, and every scratch memory, a place."""
        ends = self._last_reads()
        leaving: dict[int, list[tuple[int, int]]] = {}
        for level, works in _by_level(self.fused.works):
            for work in works:
                for node, size, end in self._needs(work, level, ends):
                    slot = _new_slot(self.plan, node)
                    if node is None:
                        self.plan.scratch[work.node] = slot  # type: ignore[union-attr]
                    self.plan.offsets[slot] = self._take(size)
                    leaving.setdefault(end, []).append((self.plan.offsets[slot], size))
            for offset, size in leaving.pop(level, ()):
                self._give_back(offset, size)

    def _needs(self, work: Work, level: int, ends: dict[Node, int]) -> Iterable[tuple[Node | None, int, int]]:
        for node in made_by(work):
            if node not in self.plan.slot:
                yield node, _rounded(_bytes(node.specs())), max(level, ends.get(node, level))
        if isinstance(work, Product) and self.scratch.get(work.node):
            yield None, _rounded(self.scratch[work.node]), level

    def _last_reads(self) -> dict[Node, int]:
        ends: dict[Node, int] = {}
        for work in [*self.fused.works, *self.fused.last]:
            for source in sources(work, self.fused.stored):
                ends[base(source)] = max(ends.get(base(source), 0), work.level)
        return ends

    def _take(self, size: int) -> int:
        for place, (offset, available) in enumerate(self.free):
            if available >= size:
                del self.free[place]
                if available > size:
                    insort(self.free, (offset + size, available - size))
                return offset
        offset = self.plan.arena
        self.plan.arena += size
        return offset

    def _give_back(self, offset: int, size: int) -> None:
        insort(self.free, (offset, size))
        merged: list[tuple[int, int]] = []
        for start, length in self.free:
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self.free = merged


def verify(result: Plan, fused: Fused) -> None:
    """Check that values that are needed at the same time do not overlap."""
    arena = _Arena(result, fused, {})
    ends = arena._last_reads()
    spans = []
    for work in fused.works:
        for node in made_by(work):
            slot = result.slot[node]
            if slot in result.offsets:
                start = result.offsets[slot]
                spans.append((work.level, max(work.level, ends.get(node, 0)), start, start + _bytes(node.specs())))
    for i, (a, b, start, stop) in enumerate(spans):
        for c, d, other, end in spans[i + 1 :]:
            assert b < c or d < a or stop <= other or end <= start, "values overlap in the arena"


def _by_level(works: list[Work]) -> list[tuple[int, list[Work]]]:
    groups: dict[int, list[Work]] = {}
    for work in works:
        groups.setdefault(work.level, []).append(work)
    return sorted(groups.items())


def _bytes(spec: Spec) -> int:
    return size_of(spec.shape) * spec.dtype.itemsize


def _rounded(size: int) -> int:
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT
