"""Accumulators of a reduction, and long sums in blocks.

Rounding errors grow with the number of additions one after the other. So a loop that is long goes
through blocks, each of which begins with sums of 0, and where there are many blocks, through blocks
of blocks::

    before                              after: a block of 4096 elements

    for j < 100000, 64 a turn:          for block in j < 100000:
        a, b, c, d += x[j ...]              e, f, g, h = 0, 0, 0, 0
                                            for j in block, 64 a turn:
                                                e, f, g, h += x[j ...]
                                            a, b, c, d += e, f, g, h

The blocks follow from the shapes alone, so the bits of a sum do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..graph.kinds import Reduction
from ..graph.node import Node
from ..native.values import Value
from ..native.vectors import Builder
from .access import spec

BLOCK = 64
"""Additions to one accumulator one after the other, at most."""

Run = Callable[[Any, Any, list[Value]], list[Value]]
"""Goes from one turn of a loop to another: takes the accumulators, and returns them."""


class Blocks:
    """The accumulators of some reductions, and how loops over them are cut into blocks.

    Args:
        b: Where code is appended.
        reductions: The reductions.
        identities: What each of them starts with.
        copies: Accumulators of each.

    Attributes:
        starts: What the accumulators start with: one of each reduction, and again for each copy.
    """

    def __init__(
        self, b: Builder, reductions: list[Node], identities: list[Value], copies: int
    ) -> None:
        self.copies = copies
        self.starts = identities * copies
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
