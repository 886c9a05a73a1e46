"""Parts of the first inner loop of a kernel, and memory for what each of them adds up.

::

    before: a sum of columns             after: two parts, and what adds their sums up

    s[j] = Σᵢ x[i, j], i < 100           sums[0, j] = Σᵢ x[i, j], i < 50
                                         sums[1, j] = Σᵢ x[i, j], 50 <= i
                                         s[j] = sums[0, j] + sums[1, j]

Which kernels are cut so is said by `nest.py`, and when sums are added up by `phases.py`.
"""

from __future__ import annotations

from functools import partial, reduce

from ..graph.node import Node
from ..native.values import I64, Type, Value
from ..native.vectors import Builder
from .blocks import combined
from .nest import Nest


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
        return reduce(partial(combined, b, node), sums)

    def _place(self, node: Node, item: Value, part: Value, kind: Type) -> Value:
        """Number of the element, of the type of the sums, at which a sum lies."""
        nest = self._nest
        start = nest.sums_place(nest.reductions.index(node)) * 64 // kind.bits
        return (part * nest.items + item) * max(kind.lanes, 1) + start
