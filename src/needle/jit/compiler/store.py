"""First half of fusing: which values are stored in memory, and which are computed where used.

Memory is far slower than arithmetic, so a value is computed again wherever it is used, in registers
(rematerialisation), unless something needs it as an array or would compute it too often::

    graph                          stored

    %2 = MulScalar(2) %0           no: one cheap operator, computed in %3 and in %4
    %3 = Exp %2                    yes: used twice, and an exponential is not cheap
    %4 = EWiseMul %2 %3            no: used once
    %5 = MatMul %4 %1              yes, and so is %4: a product reads its operands from memory
    %6 = EWiseAdd %5 %3            no, but the result handed out is a stored copy of it

Results and new state are copies by nodes of their own. So a value may be handed out twice, and an
input or a constant may be a result. Only matrix products, concatenations, slices of zeros and
scatters are made where they are handed out. What is handed out in another shape, after a `Reshape`,
is made in its own: the elements lie in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.kinds import Reduction
from ...graph.node import Node
from ...ops.activations import ReLUGradient
from ...ops.arithmetic import AddScalar, EWiseAdd, EWiseMul, MulScalar, Negate
from ...ops.comparison import StopGradient
from ...ops.contraction import MatMul
from ...ops.creation import Arange, Full
from ...ops.indexing import OneHot, Pick, Take
from ...ops.movement import Reshape
from ...ops.tuples import TupleGetItem
from .access import is_view, size_of, spec
from .expression import (
    Stored,
    UnsupportedError,
    base,
    is_called,
    is_copied,
    is_special,
    untransposed,
)
from .graph import Graph
from .kernels import domain

CHEAP_OPERATORS = (AddScalar, EWiseAdd, EWiseMul, MulScalar, Negate, ReLUGradient)
CHEAP_SIZE = 4
"""A value used several times is computed again if it takes at most so many cheap operators."""
LARGEST_EXPRESSION = 150
"""Operators in one expression; beyond, a value is stored."""
MOST_TERMS = 8
"""Values that wait in memory for one expression; beyond, it is stored, and they make room. So the
gradient of a weight that a network uses at each step is added up as it goes along."""

_ALWAYS = (MatMul, Reduction)
_FREE = (Arange, Full, OneHot, Reshape, TupleGetItem)


class Choice:
    """Which values of a graph are stored, with what is copied to where it is handed out.

    Args:
        graph: A simplified graph.
        results: The nodes whose values are handed out.
        state: For inputs that are state, the node that replaces each in place.

    Attributes:
        results: For each result, the node that is its copy where it is handed out; or itself. Its
            shape may be another.
        state: For inputs that are state, the copy that overwrites each.
        asides: Copies of new state that is computed before any state is overwritten.
        stored: The nodes that are kept in memory.
    """

    def __init__(self, graph: Graph, results: Sequence[Node], state: dict[Node, Node]) -> None:
        self.graph = graph
        self.results = _handed_out(results)
        self.state = {old: _copy_of(new) for old, new in state.items()}
        self.asides: list[Node] = []
        self.stored = Stored()
        self._sizes: dict[Node, int] = {}
        self._views: dict[Node, int] = {}  # among them, which compute nothing
        self._terms: dict[Node, int] = {}
        self._users: dict[Node, list[Node]] = {}
        for node in graph.nodes:
            for child in node.inputs:
                self._users.setdefault(child, []).append(node)
        self._new_state = set(state.values())
        self._uses = self._counted()
        self._choose()
        for node in [*self.results.values(), *self.state.values()]:
            self.stored.add(node)
        self._part_state()

    def _counted(self) -> dict[Node, int]:
        """How often each value is computed if it is not stored; views count through."""
        uses: dict[Node, int] = {}
        for node in reversed(self.graph.nodes):
            if node.is_tuple():
                uses[node] = 1  # its elements are computed together
                continue
            count = (node in self.results) + (node in self._new_state)
            for user in self._users.get(node, ()):
                count += uses[user] if _is_free_view(user) else 1
            uses[node] = count
        return uses

    def size(self, node: Node) -> int:
        """About the operators in the expression of a node."""
        size = self._sizes.get(node)
        if size is None:
            inner = [child for child in node.inputs if child not in self.stored]
            size = self._sizes[node] = 1 + sum([self._sizes.get(child, 0) for child in inner])
            views = sum([self._views.get(child, 0) for child in inner])
            self._views[node] = views + is_view(node)
        return size

    def _choose(self) -> None:
        for node in self.graph.nodes:
            if is_called(node) and node.is_tuple():
                raise UnsupportedError(f"{node.op!r} gives a tuple and is called in Python")
            if self._must_be_stored(node, self.size(node)):
                self.stored.add(node)
        for node in self.graph.nodes:
            self._store_operands(node)

    def _must_be_stored(self, node: Node, size: int) -> bool:
        op = node.op
        if isinstance(op, _ALWAYS) or is_special(node):
            return True
        if node.is_tuple() or isinstance(op, _FREE):
            return False
        if size > LARGEST_EXPRESSION or self._count_terms(node) > MOST_TERMS:
            return True
        if is_view(node):
            return False
        if isinstance(op, Pick | Take):
            return len(self._users.get(node, ())) > 1
        cheap = size - self._views[node] <= CHEAP_SIZE and isinstance(op, CHEAP_OPERATORS)
        return (self._uses[node] > 1 and not cheap) or self._is_repeated(node)

    def _count_terms(self, node: Node) -> int:
        """How many stored values the expression of a node is the only one to read."""
        count = 0
        for child in node.inputs:
            if child not in self.stored:
                count += self._terms.get(child, 0)
            elif self._uses[child] == 1:
                count += 1
        self._terms[node] = count
        return count

    def _is_repeated(self, node: Node) -> bool:
        """Whether broadcasting would compute a value again and again."""
        size = size_of(spec(node).shape)
        pending = list(self._users.get(node, ()))
        while pending:
            user = pending.pop()
            op = user.op
            if op is not None and op.scalars and node in user.inputs[-op.scalars :]:
                return True
            if is_view(user):
                if size_of(spec(user).shape) > size:
                    return True
                pending.extend(self._users.get(user, ()))
        return False

    def _store_operands(self, node: Node) -> None:
        """What an operator reads as an array must be in memory."""
        op = node.op
        read: Sequence[Node] = ()
        if isinstance(op, MatMul):
            read = [untransposed(child) for child in node.inputs]
        elif isinstance(op, Pick | Take):
            read = [table for table in node.inputs[:1] if not isinstance(table.op, Full)]
        elif isinstance(op, Reshape) and not is_view(node):
            is_read = node in self._users or node in self._new_state
            read = node.inputs[:1] if is_read else ()
        elif is_special(node):
            read = node.inputs
        for child in map(base, read):
            if child.op is not None:
                self.stored.add(child)

    # -- state -------------------------------------------------------------------------------------

    def made_with(self, new: Node) -> Node:
        """What the new state of one kernel has in common: the tuple that it is elements of.

        An element that is in memory is only copied, by a kernel of its own, as all other state is.
        """
        value = new.inputs[0]
        is_part = isinstance(value.op, TupleGetItem) and value not in self.stored
        return value.inputs[0] if is_part else new

    def _part_state(self) -> None:
        """Compute new state elsewhere first if its kernel would read state that others overwrite.

        An example is a swap, `a.data, b.data = b * 1, a * 2`: the new `b` reads the old `a`.
        """
        together: dict[Node, set[Node]] = {}  # state that one kernel overwrites
        for old, new in self.state.items():
            together.setdefault(self.made_with(new), set()).add(old)
        for old, new in list(self.state.items()):
            kernel = together[self.made_with(new)]
            if not self._reads_only(kernel, new):
                kernel.remove(old)
                aside = _copy_of(new.inputs[0])
                self.stored.add(aside)
                self.asides.append(aside)
                self.state[old] = _copy_of(aside)
                self.stored.add(self.state[old])

    def _reads_only(self, together: set[Node], new: Node) -> bool:
        """Whether new state reads no state but that which the same kernel overwrites there."""
        index = domain(new).index
        return all(
            base(source) not in self.state or (source in together and at == index)
            for source, at in self.stored.reads(new, index)
        )


def _is_free_view(node: Node) -> bool:
    return isinstance(node.op, Reshape) or is_view(node)


def _handed_out(results: Sequence[Node]) -> dict[Node, Node]:
    """For each result the node that is made where it is handed out, each for one."""
    found: dict[Node, Node] = {}
    taken: set[Node] = set()
    for node in dict.fromkeys(results):
        value = base(node)
        whole = _is_made_whole(value) and value not in taken
        taken.add(value)
        found[node] = value if whole else _copy_of(value)
    return found


def _is_made_whole(node: Node) -> bool:
    """Whether a value has code that fills an array, which may be the one that is handed out."""
    return isinstance(node.op, MatMul) or is_copied(node)


def _copy_of(node: Node) -> Node:
    return Node(StopGradient(), (node,), None, False, node.specs(), node.where)
