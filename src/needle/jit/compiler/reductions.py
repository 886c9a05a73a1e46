"""How reductions are written: accumulators, long sums in blocks, and sums of parts of a loop.

Rounding errors grow with the number of additions one after the other. So a loop that is long goes
through blocks, each of which begins with sums of 0, and where there are many blocks, through blocks
of blocks::

    before                              after: a block of 4096 elements

    for j < 100000, 64 a turn:          for block in j < 100000:
        a, b, c, d += x[j ...]              e, f, g, h = 0, 0, 0, 0
                                            for j in block, 64 a turn:
                                                e, f, g, h += x[j ...]
                                            a, b, c, d += e, f, g, h

Where columns are added up, or a few long rows, the first inner loop is cut into parts, which
threads share out (`nest.py` says when). Each leaves sums of its own in scratch memory::

    before: a sum of columns             after: two parts, and what adds their sums up

    s[j] = Σᵢ x[i, j], i < 100           sums[0, j] = Σᵢ x[i, j], i < 50
                                         sums[1, j] = Σᵢ x[i, j], 50 <= i
                                         s[j] = sums[0, j] + sums[1, j]

Blocks and parts follow from the shapes alone, so the bits of a sum do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np

from ...graph.kinds import Reduction
from ...graph.node import Node
from ...native.values import I64, Type, Value
from ...native.vectors import Builder
from .access import spec
from .expression import UnsupportedError
from .nest import Nest
from .symbols import register_type

BLOCK = 64
"""Additions to one accumulator one after the other, at most."""

Run = Callable[[Any, Any, list[Value]], list[Value]]
"""Goes from one turn of a loop to another: takes the accumulators, and returns them."""


class Accumulators:
    """The accumulators of some reductions, and how loops over them are cut into blocks.

    Args:
        b: Where code is appended.
        reductions: The reductions.
        lanes: Lanes of each accumulator, 0 for a number.
        copies: Accumulators of each reduction, which take turns: they hide each other's latency.

    Attributes:
        starts: What the accumulators start with: one of each reduction, and again for each copy.
    """

    def __init__(self, b: Builder, reductions: list[Node], lanes: int, copies: int) -> None:
        self.copies = copies
        self.starts = [identity(b, node, lanes) for node in reductions] * copies
        self._b = b
        self._nodes = reductions * copies
        self._rounds = any(rounds(node) for node in reductions)

    def run(
        self, bounds: tuple[Any, Any], turns: int, length: int, run: Run, carry: list[Value]
    ) -> list[Value]:
        """A loop of at most so many turns, in blocks of `length` if there are more."""
        if turns <= length or not self._rounds:
            return run(*bounds, carry)
        size = length
        while size * BLOCK < turns:
            size *= BLOCK
        b = self._b
        with b.loop(*bounds, size, carry) as block:
            after = b.minimum(block.index + size, bounds[1])
            inside = self.run((block.index, after), size, length, run, self.starts)
            pairs = zip(self._nodes, block.values, inside, strict=True)
            block.update(*[combined(b, node, total, value) for node, total, value in pairs])
        return list(block.values)


def rounds(node: Node) -> bool:
    """Whether a reduction adds up floats."""
    assert isinstance(node.op, Reduction)
    return node.op.combine == "add" and spec(node).dtype.kind == "f"


def combined(b: Builder, node: Node, x: Value, y: Value) -> Value:
    """What a reduction makes of two elements."""
    assert isinstance(node.op, Reduction)
    if node.op.combine == "add":
        return x + y
    return b.maximum(x, y) if node.op.combine == "maximum" else b.minimum(x, y)


def identity(b: Builder, node: Node, lanes: int) -> Value:
    """What a reduction starts with."""
    assert isinstance(node.op, Reduction)
    dtype = spec(node).dtype
    kind = register_type(dtype).vector(lanes)
    if node.op.combine == "add":
        return b.constant(0, kind)
    if dtype.kind == "b":
        raise UnsupportedError("extremes of bools")
    largest = np.inf if dtype.kind == "f" else int(np.iinfo(dtype).max)
    smallest = -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)
    return b.constant(smallest if node.op.combine == "maximum" else largest, kind)


def total(b: Builder, node: Node, accumulators: list[Value], *, lanes: bool) -> Value:
    """All accumulators, and if asked for all their lanes, as one."""
    combine = partial(combined, b, node)
    found = reduce(combine, accumulators)
    return b.reduce(combine, found) if lanes and found.type.lanes else found


class Part:
    """A part of the first inner loop, and where the sums of all parts lie.

    Attributes:
        bounds: First turn of the loop and the end.
        is_first: Whether this is the part that stores what all parts compute alike.
    """

    def __init__(self, b: Builder, nest: Nest, part: Value, sums: Value) -> None:
        size = nest.sizes[nest.inner[0]]
        begin, end = (b.binary("udiv", p * size, nest.parts) for p in (part, part + 1))
        self.bounds = begin, end
        self.is_first = b.compare("==", part, 0)
        self._b = b
        self._nest = nest
        self._part = part
        self._sums = sums

    def put(self, node: Node, item: Value, total: Value) -> None:
        """Leave this part's sum."""
        self._b.store(total, self._sums, self._place(node, item, self._part, total.type))

    def total(self, node: Node, item: Value, kind: Type) -> Value:
        """The sums of all parts as one, added up in their order."""
        b = self._b
        sums = [
            b.load(self._sums, kind, self._place(node, item, b.constant(part, I64), kind))
            for part in range(self._nest.parts)
        ]
        return total(b, node, sums, lanes=False)

    def _place(self, node: Node, item: Value, part: Value, kind: Type) -> Value:
        """Number of the element, of the type of the sums, at which a sum lies."""
        nest = self._nest
        start = nest.sums_place(nest.reductions.index(node)) * 64 // kind.bits
        return (part * nest.items + item) * max(kind.lanes, 1) + start
