"""What fusing makes of a graph: kernels, matrix products and specials, each with a level.

Work of one level may run side by side, after all work of lower levels. A program with two layers
and its loss, for example::

    level 1   Product   h = x @ w, epilogue: y = max(h + b, 0)
    level 2   Product   z = y @ v
    level 3   Kernel    for (): loss = Σ z[i, j] / n, over i and j
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from ...graph.kinds import Reduction
from ...graph.node import Node
from ...shapes import Shape, normalize_axes
from .access import FIXED, Index, loops_of, own_index, spec
from .expression import Step, Stored, base, untransposed
from .graph import Graph


class Domain(NamedTuple):
    """The loops that compute a value.

    Attributes:
        loops: Their sizes.
        outer: The loops that are independent of each other; None if all are.
        index: The index, in these loops, of the operands.
    """

    loops: Shape
    outer: tuple[int, ...] | None
    index: Index


def domain(node: Node) -> Domain:
    """The loops over a node's elements; for a reduction those over the elements it combines."""
    op = node.op
    if not isinstance(op, Reduction):
        shape = spec(node).shape
        return Domain(loops_of(shape), None, own_index(shape))
    shape = spec(node.inputs[0]).shape
    index = own_index(shape)
    reduced = {index[axis][0] for axis in normalize_axes(op.axes, len(shape), op.name)}
    loops = loops_of(shape)
    return Domain(loops, tuple([k for k in range(len(loops)) if k not in reduced]), index)


def result_index(node: Node, index: Index) -> Index:
    """The index of a node's own elements in the loops in which its operands have `index`."""
    op = node.op
    if not isinstance(op, Reduction):
        return index
    axes = normalize_axes(op.axes, len(index), op.name)
    if op.keepdims:
        return tuple([FIXED if axis in axes else entry for axis, entry in enumerate(index)])
    return tuple([entry for axis, entry in enumerate(index) if axis not in axes])


@dataclass(eq=False)
class Kernel:
    """A loop nest.

    Attributes:
        loops: Sizes of its loops.
        outer: The independent loops; None while any may be (no reduction yet).
        level: When it may run.
        steps: What it computes, in order: reductions (over the other loops) and other values.
        size: About the operators in the expressions of its steps.
    """

    loops: Shape
    outer: tuple[int, ...] | None
    level: int
    steps: dict[Node, Step] = field(default_factory=dict[Node, Step])
    size: int = 0

    @property
    def made(self) -> list[Node]:
        """The stored values that it makes, in order."""
        return list(self.steps)


@dataclass(eq=False)
class Product:
    """A matrix product, and the values computed over its result while that is in the cache.

    Attributes:
        node: The product.
        level: When it may run.
        steps: Those values, in order: its epilogue.
        size: About the operators in their expressions.
    """

    node: Node
    level: int
    steps: dict[Node, Step] = field(default_factory=dict[Node, Step])
    size: int = 0

    @property
    def made(self) -> list[Node]:
        """The stored values that it makes, in order."""
        return [self.node, *self.steps]


@dataclass(eq=False)
class Special:
    """An operator with code of its own (draws, scatters, copies), or called in Python."""

    node: Node
    level: int
    steps: ClassVar[dict[Node, Step]] = {}

    @property
    def made(self) -> list[Node]:
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
        whole = () if isinstance(work, Kernel) else work.node.inputs
        whole = map(untransposed, whole) if isinstance(work, Product) else whole
        read = [source for source, _ in self.stored.read_by(work.steps.values())]
        return list(dict.fromkeys(map(base, [*whole, *read])))
