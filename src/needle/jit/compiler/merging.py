"""Loops that become one (loop collapsing): neighbours that every access walks through as one.

One long loop has fewer ragged ends, and its turns can be shared out evenly::

    before                                    after

    for i < 100, j < 50:                      for ij < 5000:
        y[i, j] = x[i, j] * 2                     y[ij] = x[ij] * 2

    for i < 100, j < 50:                      the same: b does not move with i
        y[i, j] = x[i, j] * b[j]

Nor is a loop merged whose counter is a number that something is computed from, as the elements of
an `Arange` are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from ...ops.creation import Arange
from ...ops.indexing import OneHot, Pick, Take
from ...shapes import Shape
from .access import address, spec
from .expression import Read, Step, Stored, lookup

_POSITIONAL = (Arange, OneHot, Pick, Take)


class Accesses:
    """How some steps go through memory.

    Args:
        loops: Sizes of the loops around them.
        steps: The steps.
        stored: The nodes in memory.

    Attributes:
        positional: Whether they depend on where the loops are, beside through memory.
    """

    def __init__(self, loops: Shape, steps: Collection[Step], stored: Stored) -> None:
        positional = [*positions(steps, stored)]
        self.positional = bool(positional)
        self._loops = loops
        self._reads = self._strides([*stored.read_by(steps), *_lookups(positional)])
        self._all = [*self._reads, *self._strides([(step.node, step.home) for step in steps])]
        self._distinct = set(self._all)
        self._counted = {
            at[-1][0] for node, at in positional if not isinstance(node.op, Pick | Take)
        }

    def _strides(self, accesses: Iterable[Read]) -> list[tuple[int, ...]]:
        """How far apart what is read or written at neighbouring positions of each loop lies."""
        count = len(self._loops)
        return [address(at, spec(node).shape, count)[1] for node, at in accesses]

    def are_one(self, before: int, loop: int) -> bool:
        """Whether a loop, and the one inside it, can be one loop."""
        size = self._loops[loop]
        return self._counted.isdisjoint((before, loop)) and all(
            strides[before] == strides[loop] * size for strides in self._distinct
        )

    def merged(self, outer: tuple[int, ...] | None, lanes: int) -> list[list[int]]:
        """The loops of a kernel, each together with those that are one with it.

        They are in the order of the axes, unless what is reduced lies in another order.

        Args:
            outer: The independent loops, with which no other is merged; None if all are.
            lanes: Elements of a vector.
        """
        best = self._groups(range(len(self._loops)), outer)
        if outer is None or not best:
            return best
        for strides in self._reads:
            if not (gathers := self._gathers(best)):
                break
            order = sorted(range(len(strides)), key=lambda loop: -strides[loop])
            other = self._groups(order, outer)
            long = math.prod(self._loops[loop] for loop in other[-1]) >= lanes
            if long and self._gathers(other) < gathers:
                best = other
        return best

    def _groups(self, order: Iterable[int], outer: tuple[int, ...] | None) -> list[list[int]]:
        """Loops in some order, those that can be one together."""
        groups: list[list[int]] = []
        for loop in order:
            before = groups[-1][-1] if groups else None
            alike = outer is None or (before in outer) == (loop in outer)
            if before is not None and alike and self.are_one(before, loop):
                groups[-1].append(loop)
            else:
                groups.append([loop])
        return groups

    def _gathers(self, groups: Sequence[Sequence[int]]) -> int:
        """How many accesses lie apart in the lanes of vectors: along the last loop."""
        last = groups[-1][-1]
        return sum(strides[last] not in (-1, 0, 1) for strides in self._all)


def positions(steps: Iterable[Step], stored: Stored) -> Iterator[Read]:
    """The values that depend on where the loops are, beside through memory that they read."""
    for node, at, *_ in steps:
        for value in ((node, at), *stored.computes(node, at)):
            if isinstance(value[0].op, _POSITIONAL):
                yield value


def _lookups(positional: Iterable[Read]) -> Iterator[Read]:
    """What is read of tables, without the axis along which another value says the position."""
    for node, at in positional:
        if isinstance(node.op, Pick | Take):
            yield node.inputs[0], lookup(node, at)[2]
