"""What fusing makes of a graph: kernels, matrix products and specials, each with a level.

Work of one level may run side by side, after all work of lower levels. A program with two layers
and its loss, for example::

    level 1   Product   h = x @ w, epilogue: y = max(h + b, 0)
    level 2   Product   z = y @ v
    level 3   Kernel    for (): loss = Σ z[i, j] / n, over i and j
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..graph.node import Node
from ..shapes import Shape
from .access import Index
from .directions import Directions
from .expression import Stored, base, domain, untransposed
from .simplify import Graph


@dataclass(eq=False)
class Kernel:
    """A loop nest.

    Attributes:
        loops: Sizes of its loops.
        outer: The independent loops; None while any may be (no reduction yet).
        level: When it may run.
        steps: What it computes: reductions (over the other loops) and stored values, in order.
        home: For each value it makes, the index under which it does.
        along: The loops along which each step goes through memory.
        size: About the operators in the expressions of its steps.
    """

    loops: Shape
    outer: tuple[int, ...] | None
    level: int
    steps: list[Node] = field(default_factory=list[Node])
    home: dict[Node, Index] = field(default_factory=dict[Node, Index])
    along: list[Directions] = field(default_factory=list[Directions])
    size: int = 0

    @property
    def made(self) -> Sequence[Node]:
        """The stored values that it makes, in order."""
        return self.steps


@dataclass(eq=False)
class Product:
    """A matrix product, and the values computed over its result while that is in the cache.

    `size` is about the operators in the expressions of its epilogue.
    """

    node: Node
    level: int
    epilogue: list[Node] = field(default_factory=list[Node])
    size: int = 0

    @property
    def made(self) -> Sequence[Node]:
        """The stored values that it makes, in order."""
        return [self.node, *self.epilogue]


@dataclass(eq=False)
class Special:
    """An operator with code of its own (draws, scatters, copies), or called in Python."""

    node: Node
    level: int

    @property
    def made(self) -> Sequence[Node]:
        """The stored value that it makes."""
        return [self.node]


Work = Kernel | Product | Special


@dataclass(eq=False)
class Fused:
    """The kernels of a graph, in an order in which they may run.

    Attributes:
        graph: The graph.
        works: The kernels.
        last: Kernels that write state in place: they run after all others.
        stored: The nodes that are kept in memory.
        results: For each value that is handed out, the node that is stored where it goes, maybe in
            another shape.
        state: State inputs and the nodes that replace them in place.
    """

    graph: Graph
    works: list[Work]
    last: list[Kernel]
    stored: Stored
    results: dict[Node, Node]
    state: dict[Node, Node]

    @property
    def all_works(self) -> list[Work]:
        """All kernels, in order."""
        return [*self.works, *self.last]

    def sources(self, work: Work) -> list[Node]:
        """The values in memory that some work reads, each once, in a fixed order."""
        if isinstance(work, Special):
            return list(dict.fromkeys(map(base, work.node.inputs)))
        if isinstance(work, Kernel):
            return self.read_by(work.steps)
        factors = [base(untransposed(child)) for child in work.node.inputs]
        return list(dict.fromkeys([*factors, *self.read_by(work.epilogue)]))

    def read_by(self, steps: Iterable[Node]) -> list[Node]:
        """The values in memory that the expressions of some steps read, each once, in order."""
        found: dict[Node, None] = {}
        for node in steps:
            for source, _ in self.stored.reads(node, domain(node).index):
                found[base(source)] = None
        return list(found)
