"""Second stage: operators become kernels, loop nests that keep intermediate values in registers.

Some values are *stored*, because something needs them in memory: results, operands of matrix products, values
that are repeated by broadcasting or used often. All others are computed where they are used.

A `Kernel` visits a domain (`loops`). Its `outer` loops are independent of each other and shared out to
threads; for each outer position it does its steps one after the other: reductions over the inner loops, values
of the outer position alone, and values of the whole domain. So a batch norm is one kernel::

    for j: mean = Σᵢ x[i, j] / n
           var = Σᵢ (x[i, j] - mean)² / n
           for i: y[i, j] = …

A `Product` is a matrix product, with an epilogue over its result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import CompileError
from ..graph.kinds import Elementwise, Reduction
from ..graph.node import Node
from ..ops.arithmetic import AddScalar, EWiseAdd, EWiseMul, MulScalar, Negate
from ..ops.comparison import StopGradient
from ..ops.contraction import MatMul
from ..ops.creation import Arange, Full
from ..ops.functions import Step
from ..ops.indexing import OneHot, Pick, ScatterAdd, Take
from ..ops.movement import Concatenate, Reshape, Transpose, Unslice
from ..ops.tuples import TupleGetItem
from ..shapes import Shape, normalize_axes
from .access import Index, is_view, loops_of, own_index, through
from .interpret import is_random
from .simplify import Graph

CHEAP_OPERATORS = (AddScalar, EWiseAdd, EWiseMul, MulScalar, Negate, Step)
CHEAP_SIZE = 4
"""A value used several times is computed again if it takes at most so many cheap operators."""
NEAR_KERNELS = 32
"""A value may join one of so many kernels before it."""
LARGEST_EXPRESSION = 150
"""Operators in one expression; beyond, a value is stored."""


class Unsupported(Exception):
    """The graph holds something that the code generator has no code for."""


@dataclass(eq=False)
class Kernel:
    """A loop nest.

    Attributes:
        loops: Sizes of its loops.
        outer: The independent loops; None while any may be (no reduction yet).
        steps: What it computes: reductions (over the other loops) and stored values, in order.
        home: For each value it makes, the index under which it does.
        level: When it may run: after all kernels of lower levels.
    """

    loops: Shape
    outer: tuple[int, ...] | None
    level: int
    steps: list[Node] = field(default_factory=list)
    home: dict[Node, Index] = field(default_factory=dict)


@dataclass(eq=False)
class Product:
    """A matrix product with the values computed over its result."""

    node: Node
    level: int
    epilogue: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Special:
    """An operator with code of its own (draws, scatters, copies into parts), or called in Python."""

    node: Node
    level: int


Work = Kernel | Product | Special


@dataclass
class Fused:
    """The kernels of a graph, in an order in which they may run.

    Attributes:
        works: The kernels.
        stored: The nodes that are kept in memory.
        last: Kernels that write state in place: they run after all others.
        results: For each value that is handed out, the node that is stored where it goes.
        state: State inputs and the nodes that replace them in place.
    """

    graph: Graph
    works: list[Work]
    stored: set[Node]
    last: list[Kernel]
    results: dict[Node, Node]
    state: dict[Node, Node]


def spec(node: Node) -> Any:
    """Shape and dtype of a node."""
    return node.specs()


def base(node: Node) -> Node:
    """The stored node whose memory a node is: reshaping dense memory costs nothing."""
    while isinstance(node.op, Reshape):
        node = node.inputs[0]
    return node


def fuse(graph: Graph, results: Sequence[Node], state: dict[Node, Node]) -> Fused:
    """Decide what is stored, and gather the stored values into kernels.

    Args:
        graph: A simplified graph.
        results: The nodes whose values are handed out.
        state: For inputs that are state, the node that replaces each in place.
    """
    return _Fusing(graph, results, state).run()


class _Fusing:
    def __init__(self, graph: Graph, results: Sequence[Node], state: dict[Node, Node]) -> None:
        self.graph = graph
        self.works: list[Work] = []
        self.maker: dict[Node, Work] = {}
        self.users: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            for child in node.inputs:
                self.users.setdefault(child, []).append(node)
        # A result or new state that is not made here (or twice the same) is copied by a node of its own.
        self.outputs = {node: _copy_of(node) for node in results}
        self.state = {old: _copy_of(new) for old, new in state.items()}
        self.stored: set[Node] = set()

    def run(self) -> Fused:
        self._choose_stored()
        self._store_new_state()
        for node in self.graph.nodes:
            if node in self.stored:
                self._place(node)
        for node in self.outputs.values():
            self._place(node)
        last = self._place_state()
        self.works.sort(key=lambda work: work.level)
        return Fused(self.graph, self.works, self.stored, last, self.outputs, self.state)

    # -- what is stored ----------------------------------------------------------------------------------

    def _choose_stored(self) -> None:
        sizes: dict[Node, int] = {}
        for node in self.graph.nodes:
            if is_called(node) and node.is_tuple():
                raise Unsupported(f"{node.op!r} gives a tuple and is called in Python")
            sizes[node] = 1 + sum(sizes.get(c, 0) for c in node.inputs if c not in self.stored)
            if self._must_be_stored(node, sizes[node]):
                self.stored.add(node)
        for node in self.graph.nodes:
            self._store_operands(node)
        for node in [*self.outputs.values(), *self.state.values()]:
            self.stored.add(node)

    def _must_be_stored(self, node: Node, size: int) -> bool:
        op: Any = node.op
        if _is_special(node) or isinstance(op, Reduction | MatMul):
            return True
        if isinstance(op, Full | Arange) or is_view(node) or isinstance(op, Reshape | TupleGetItem):
            return False
        if isinstance(op, OneHot | Pick | Take):
            return len(self.users.get(node, ())) > 1 and not isinstance(op, OneHot)
        count = self._uses(node)
        return size > LARGEST_EXPRESSION or (count > 1 and not _is_cheap(node, size)) or self._is_repeated(node)

    def _uses(self, node: Node) -> int:
        """How often a value is computed if it is not stored; views and tuple elements count through."""
        count = 0
        for user in self.users.get(node, ()):
            through_view = is_view(user) or isinstance(user.op, Reshape)
            count += self._uses(user) if through_view and user not in self.stored else 1
        if isinstance(spec(node), tuple) and not hasattr(spec(node), "shape"):
            return 1  # elements of a tuple are computed together
        return count + (node in self.outputs) + any(new.inputs[0] is node for new in self.state.values())

    def _is_repeated(self, node: Node) -> bool:
        """Whether broadcasting would compute a value again and again."""
        pending = list(self.users.get(node, ()))
        while pending:
            user = pending.pop()
            if user.op is not None and user.op.scalars and node in user.inputs[-user.op.scalars :]:
                return True
            if is_view(user):
                if np.prod(spec(user).shape) > np.prod(spec(node).shape):
                    return True
                pending.extend(self.users.get(user, ()))
        return False

    def _store_operands(self, node: Node) -> None:
        """What an operator reads from memory must be there."""
        op: Any = node.op
        if isinstance(op, MatMul):
            for child in node.inputs:
                self._store(_untransposed(child))
        elif isinstance(op, Reshape) and not is_view(node):
            self._store(node.inputs[0])
        elif isinstance(op, Take | Pick):
            self._store(node.inputs[0])
        elif _is_special(node):
            for child in node.inputs:
                self._store(child)

    def _store(self, node: Node) -> None:
        node = base(node)
        if node.op is not None:
            self.stored.add(node)

    # -- which kernel ------------------------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        """Put a stored node into a kernel that is there, or a new one."""
        if isinstance(node.op, MatMul):
            work: Work = Product(node, 1 + self._level(map(base, map(_untransposed, node.inputs))))
            self.works.append(work)
            self.maker[node] = work
            return
        if _is_special(node):
            work = Special(node, 1 + self._level(map(base, node.inputs)))
            self.works.append(work)
            self.maker[node] = work
            return
        for work in reversed(self.works[-NEAR_KERNELS:]):
            if self._joins(node, work):
                return
        self._begin(node)

    def _level(self, nodes: Any) -> int:
        return max([self.maker[n].level for n in nodes if n in self.maker], default=0)

    def _begin(self, node: Node, forced: int | None = None) -> Kernel:
        loops, outer, home = _visit(node)
        reads = self._reads(node, home)
        kernel = Kernel(loops, outer, forced or 1 + self._level(reads))
        self.works.append(kernel)
        self._add(kernel, node, _result_index(node, home))
        return kernel

    def _add(self, kernel: Kernel, node: Node, home: Index) -> None:
        kernel.steps.append(node)
        kernel.home[node] = home
        self.maker[node] = kernel

    def _reads(self, node: Node, index: Index) -> dict[Node, list[Index]]:
        found: dict[Node, list[Index]] = {}
        for source, at in reads_of(node, index, self.stored):
            found.setdefault(base(source), []).append(at if base(source) is source else ())
        return found

    def _joins(self, node: Node, work: Work) -> bool:
        """Add a node to a kernel if that delays nothing and every value it reads there is there already."""
        if isinstance(work, Product):
            return self._joins_product(node, work)
        if isinstance(work, Special):
            return False
        for loops, outer, index in _visits_in(node, work):
            reads = self._reads(node, index)
            inside = {source: ats for source, ats in reads.items() if self.maker.get(source) is work}
            outside = [source for source in reads if source not in inside]
            if self._level(outside) >= work.level or (len(loops) < len(work.loops) and not inside):
                continue
            new_outer = outer if work.outer is None else work.outer
            if all(_same_position(work.home[s], at, new_outer) for s, ats in inside.items() for at in ats):
                work.outer = new_outer
                self._add(work, node, _result_index(node, index))
                return True
        return False

    def _joins_product(self, node: Node, product: Product) -> bool:
        if isinstance(node.op, Reduction) or spec(node).shape != spec(product.node).shape:
            return False
        index = own_index(spec(node).shape)
        if len(spec(node).shape) != 2 or 1 in spec(node).shape:
            return False
        reads = self._reads(node, index)
        inside = {s: ats for s, ats in reads.items() if self.maker.get(s) is product}
        outside = [source for source in reads if source not in inside]
        if not inside or self._level(outside) >= product.level:
            return False
        if any(at != index for ats in inside.values() for at in ats):
            return False
        product.epilogue.append(node)
        self.maker[node] = product
        return True

    # -- state -------------------------------------------------------------------------------------------

    def _store_new_state(self) -> None:
        """Keep aside what cannot be computed while the old state is overwritten."""
        for old, new in self.state.items():
            value = new.inputs[0]
            if not self._may_be_last(old, new) and base(value) not in self.stored:
                self._store(value)

    def _place_state(self) -> list[Kernel]:
        """Kernels that write new state over the old: last, each reading only what it writes itself."""
        level = 1 + max([work.level for work in self.works], default=0)
        last: list[Kernel] = []
        groups: dict[Any, list[Node]] = {}
        for new in self.state.values():
            value = new.inputs[0]
            key = value.inputs[0] if isinstance(value.op, TupleGetItem) and value not in self.stored else new
            groups.setdefault(key, []).append(new)
        before = len(self.works)
        for nodes in groups.values():
            kernel = self._begin(nodes[0], level)
            for node in nodes[1:]:
                self._add(kernel, node, _visit(node)[2])
            last.append(kernel)
        del self.works[before:]
        return last

    def _may_be_last(self, old: Node, new: Node) -> bool:
        """Whether new state can be computed in the kernel that overwrites the old."""
        value = new.inputs[0]
        together = {old}
        if isinstance(value.op, TupleGetItem):
            together |= {o for o, n in self.state.items() if n.inputs[0].inputs[:1] == value.inputs}
        index = _visit(new)[2]
        for source, at in reads_of(new, index, self.stored):
            if base(source) in self.state and (source not in together or at != index):
                return False
        return True


def _copy_of(node: Node) -> Node:
    return Node(StopGradient(), (node,), None, False, node.specs(), node.where)


def _untransposed(node: Node) -> Node:
    """The operand under a transposition of its last two axes, which a product reads as it lies."""
    if isinstance(node.op, Transpose) and len(spec(node).shape) >= 2:
        ndim = len(spec(node).shape)
        if {axis % ndim for axis in node.op.axes} == {ndim - 1, ndim - 2}:
            return node.inputs[0]
    return node


def _is_cheap(node: Node, size: int) -> bool:
    return size <= CHEAP_SIZE and isinstance(node.op, CHEAP_OPERATORS)


def _visit(node: Node) -> tuple[Shape, tuple[int, ...] | None, Index]:
    """Loops that compute a stored node, which of them are outer, and the index at which its body is read."""
    if not isinstance(node.op, Reduction):
        shape = spec(node).shape
        return loops_of(shape), None, own_index(shape)
    shape = spec(node.inputs[0]).shape
    axes = normalize_axes(node.op.axes, len(shape), node.op.name)
    index = own_index(shape)
    reduced = {index[axis][0] for axis in axes}
    loops = loops_of(shape)
    return loops, tuple([k for k in range(len(loops)) if k not in reduced]), index


def _visits_in(node: Node, kernel: Kernel) -> list[tuple[Shape, tuple[int, ...] | None, Index]]:
    """Ways to compute a node inside a kernel: over its whole domain, or for its outer positions alone."""
    loops, outer, index = _visit(node)
    ways = []
    if loops == kernel.loops and (outer is None or kernel.outer in (None, outer)):
        ways.append((loops, outer, index))
    if kernel.outer is not None and outer is None and len(kernel.outer) < len(kernel.loops):
        if loops == tuple([kernel.loops[axis] for axis in kernel.outer]):
            moved = tuple([(None if k is None else kernel.outer[k], f, s) for k, f, s in index])
            ways.append((loops, None, moved))
    return ways


def _result_index(node: Node, index: Index) -> Index:
    """The index of a node's own elements in the loops in which its body is read at `index`."""
    if not isinstance(node.op, Reduction):
        return index
    axes = normalize_axes(node.op.axes, len(index), node.op.name)
    if node.op.keepdims:
        return tuple([(None, 0, 0) if axis in axes else entry for axis, entry in enumerate(index)])
    return tuple([entry for axis, entry in enumerate(index) if axis not in axes])


def _same_position(home: Index, at: Index, outer: tuple[int, ...] | None) -> bool:
    """Whether a value is read at the outer position at which it is made."""
    if len(home) != len(at):
        return False
    if outer is None:
        return home == at
    return all(h == a for h, a in zip(home, at, strict=True) if h[0] in outer or a[0] in outer)


def reads_of(node: Node, index: Index, stored: set[Node]) -> list[tuple[Node, Index]]:
    """The values in memory that a stored node's expression reads, each with the index of the read."""
    found: list[tuple[Node, Index]] = []
    seen: set[tuple[Node, Index]] = set()
    if isinstance(node.op, TupleGetItem):
        pending = [(node, index)]
    elif isinstance(node.op, Reduction):  # its body is read over the loops of its operand
        pending = [(node.inputs[0], index)]
    else:
        pending = children_of(node, index)
    while pending:
        value, at = pending.pop()
        if (value, at) in seen:
            continue
        seen.add((value, at))
        if is_leaf_of_expression(value, stored):
            if not isinstance(value.op, Full):
                found.append((value, at))
        else:
            pending.extend(children_of(value, at))
    return found


def is_leaf_of_expression(value: Node, stored: set[Node]) -> bool:
    """Whether an expression ends at a value: it is in memory, or a constant."""
    if value.op is None or value in stored or isinstance(value.op, Full):
        return True
    return isinstance(value.op, Reshape) and not is_view(value)


def children_of(value: Node, at: Index) -> list[tuple[Node, Index]]:
    """The operands of a value that is computed in place, each with the index at which it is read."""
    op: Any = value.op
    if is_view(value):
        return [(value.inputs[0], through(value, at))]
    if isinstance(op, OneHot):
        return [(value.inputs[0], at[:-1])]
    if isinstance(op, Take):
        ndim = len(spec(value.inputs[1]).shape)
        axis = op.axis % len(spec(value.inputs[0]).shape)
        return [(value.inputs[0], ()), (value.inputs[1], at[axis : axis + ndim])]
    if isinstance(op, Pick):
        return [(value.inputs[0], ()), (value.inputs[1], at)]
    if op.scalars:
        count = len(value.inputs) - op.scalars
        return [(child, at if k < count else ()) for k, child in enumerate(value.inputs)]
    return [(child, at) for child in value.inputs]


_WITH_CODE = (
    Elementwise, Reduction, MatMul, OneHot, Pick, Take, ScatterAdd, Unslice, Concatenate, Full, Arange,
    Reshape, TupleGetItem,
)  # fmt: skip


def is_called(node: Node) -> bool:
    """Whether an operator is called in Python between kernels: it has no code, or is a user's own."""
    return not (isinstance(node.op, _WITH_CODE) or is_view(node) or is_random(node))


def _is_special(node: Node) -> bool:
    return (
        is_random(node) or is_called(node) or isinstance(node.op, ScatterAdd | Unslice | Concatenate)
    )


def verify(fused: Fused) -> None:
    """Check that every kernel reads only what earlier levels, inputs or itself have made."""
    made: dict[Node, int] = {}
    for work in fused.works:
        for node in made_by(work):
            if node in made:
                raise CompileError(f"{node.op!r} is made twice")
            made[node] = work.level
    for work in [*fused.works, *fused.last]:
        own = set(made_by(work))
        for source in sources(work, fused.stored):
            if source.op is not None and source not in own and made[source] >= work.level:
                raise CompileError(f"{source.op!r} is read at level {work.level}, made at {made[source]}")


def made_by(work: Work) -> Sequence[Node]:
    """The stored values that a kernel makes."""
    if isinstance(work, Kernel):
        return work.steps
    return [work.node, *work.epilogue] if isinstance(work, Product) else [work.node]


def sources(work: Work, stored: set[Node]) -> list[Node]:
    """The values in memory that a kernel reads, each once, in a fixed order."""
    if isinstance(work, Special):
        return list(dict.fromkeys(map(base, work.node.inputs)))
    found: dict[Node, None] = {}
    if isinstance(work, Product):
        found.update(dict.fromkeys(base(_untransposed(child)) for child in work.node.inputs))
    for node in work.epilogue if isinstance(work, Product) else work.steps:
        index = _visit(node)[2]
        found.update(dict.fromkeys(base(source) for source, _ in reads_of(node, index, stored)))
    return list(found)


untransposed = _untransposed
visit = _visit
