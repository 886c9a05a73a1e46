"""The expression of a stored value: how one element of it follows from other stored values.

Most operators of a graph are never computed for themselves. A value that is *stored* is computed
from an expression over the values in memory that it depends on; what lies between lives in
registers, and views only change the index::

    graph                                  expression of %4, which is stored

    %2 = BroadcastTo %1, (4, 5)            %4[i, j] = tanh(x0[i, j] * x1[j])
    %3 = EWiseMul %0 %2
    %4 = Tanh %3                           it reads x0 at [i, j] and x1 at [j]

Fusing asks what an expression reads, to know which kernels may hold it. Code generation walks over
the same operands, and appends instructions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...errors import CompileError
from ...graph.kinds import Pointwise, Reduction
from ...graph.node import Node
from ...ops.contraction import MatMul
from ...ops.creation import Arange, Full
from ...ops.indexing import OneHot, Pick, ScatterAdd, Take
from ...ops.movement import Reshape, Transpose
from ...ops.slicing import Concatenate, Unslice
from ...ops.tuples import TupleGetItem
from ..tracing.interpret import is_random
from .access import FIXED, Entry, Index, is_view, size_of, spec, through

Read = tuple[Node, Index]
"""A value, and the index at which it is read."""


class Step(NamedTuple):
    """A value that loops store, and how they go through its operands and itself.

    Of s[i] = Σ x[i, j], in the loops i and j, the operands are read at [i, j], and its home is [i].

    Attributes:
        node: The value.
        at: The index at which its operands are read.
        home: The index under which it is stored.
        along: The loops along which it goes through memory (`directions.py`).
    """

    node: Node
    at: Index
    home: Index
    along: frozenset[int] | None = frozenset()


_WITH_CODE = (
    Arange, Concatenate, Pointwise, Full, MatMul, OneHot, Pick, Reduction, Reshape, ScatterAdd,
    Take, TupleGetItem, Unslice,
)  # fmt: skip
_SPECIAL = (Concatenate, ScatterAdd, Unslice)


class UnsupportedError(CompileError):
    """The graph holds something that the code generator has no code for."""


class Stored:
    """The nodes that lie in memory, and what expressions read of them.

    Inputs and constants of the trace always lie in memory; `nodes` are the others.
    """

    def __init__(self) -> None:
        self.nodes: set[Node] = set()
        self._known: dict[Read, tuple[tuple[Read, ...], tuple[Read, ...]]] = {}

    def __contains__(self, node: Node) -> bool:
        return node in self.nodes

    def add(self, node: Node) -> None:
        """Keep one more node in memory."""
        self.nodes.add(node)
        self._known.clear()

    def ends_at(self, node: Node) -> bool:
        """Whether an expression ends at a node: it is in memory, or one number everywhere."""
        op = node.op
        if op is None or node in self.nodes or isinstance(op, Full):
            return True
        return isinstance(op, Reshape) and not is_view(node)

    def reads(self, node: Node, index: Index) -> tuple[Read, ...]:
        """The values that a node's expression reads from memory, with the indices of the reads.

        Args:
            node: The node, stored or not.
            index: The index of its operands; for a reduction that of the elements it combines.
        """
        return self._walked(node, index)[1]

    def read_by(self, steps: Iterable[Step]) -> list[Read]:
        """What the expressions of some steps read from memory, in order."""
        return [read for step in steps for read in self.reads(step.node, step.at)]

    def computes(self, node: Node, index: Index) -> tuple[Read, ...]:
        """The other values that a node's expression computes on the way, as `reads`."""
        return self._walked(node, index)[0]

    def _walked(self, node: Node, index: Index) -> tuple[tuple[Read, ...], tuple[Read, ...]]:
        found = self._known.get((node, index))
        if found is None:
            inner: list[Read] = []
            reads: list[Read] = []
            pending, seen = operands(node, index), set[Read]()
            while pending:
                read = pending.pop()
                if read in seen:
                    continue
                seen.add(read)
                if not self.ends_at(read[0]):
                    inner.append(read)
                    pending.extend(operands(*read))
                elif not isinstance(read[0].op, Full):
                    reads.append(read)
            found = self._known[node, index] = tuple(inner), tuple(reads)
        return found


def operands(node: Node, at: Index) -> list[Read]:
    """The operands of a value, each with the index at which it is read for the element `at`.

    Scalars, and tables of which a run-time index picks an element, have the empty index.
    """
    op = node.op
    if is_view(node):
        return [(node.inputs[0], through(node, at))]
    if isinstance(op, OneHot):
        return [(node.inputs[0], at[:-1])]
    if isinstance(op, Pick | Take):
        table, places = node.inputs
        return [(base(table), ()), (places, lookup(node, at)[1])]
    scalars = op.scalars if op else 0
    count = len(node.inputs) - scalars
    return [(child, at if k < count else ()) for k, child in enumerate(node.inputs)]


def lookup(node: Node, at: Index) -> tuple[int, Index, Index]:
    """How a `Pick` or `Take` finds an element in its table.

    Returns:
        The axis along which another value says the position, where that value is read, and where on
        the other axes the element is.
    """
    table, places = node.inputs
    ndim = len(spec(table).shape)
    if isinstance(node.op, Take):
        axis = node.op.axis % ndim
        after = axis + len(spec(places).shape)
        return axis, at[axis:after], (*at[:axis], FIXED, *at[after:])
    return ndim - 1, at, (*at, FIXED)


class Evaluation(ABC):
    """The expressions of a kernel, evaluated: on registers (`scope.py`), or text (`printer.py`).

    Attributes:
        stored: The nodes in memory.
        known: The values that were evaluated already.
    """

    stored: Stored
    known: dict[Read, Any]

    def value(self, node: Node, at: Index) -> Any:
        """The value of a node at an index, or a tuple of them: read from memory, or computed."""
        found = self.known.get((node, at))
        if found is None:
            if isinstance(node.op, Full) or not self.stored.ends_at(node):
                found = self.body(node, at)
            else:
                found = self.load(node, at)
            self.known[node, at] = found
        return found

    def body(self, node: Node, at: Index) -> Any:
        """What a node's operator makes of its operands, even if the node itself is in memory."""
        op = node.op
        if isinstance(op, Full):
            return self.constant(op)
        if isinstance(op, Arange):
            return self.count(op, spec(node).dtype, at[0])
        if isinstance(op, Take | Pick):
            return self.pick(node, *lookup(node, at))
        values = [self.value(*read) for read in operands(node, at)]
        if isinstance(op, Pointwise):
            return self.compute(node, op, values)
        if isinstance(op, TupleGetItem):
            return values[0][op.index]
        return self.one_hot(op, values[0], at[-1]) if isinstance(op, OneHot) else values[0]

    @abstractmethod
    def load(self, node: Node, at: Index) -> Any:
        """An element of a value in memory."""

    @abstractmethod
    def constant(self, op: Full) -> Any:
        """The number that is everywhere the same."""

    @abstractmethod
    def count(self, op: Arange, dtype: Any, entry: Entry) -> Any:
        """The element of an `Arange` at a position."""

    @abstractmethod
    def one_hot(self, op: OneHot, place: Any, entry: Entry) -> Any:
        """1 if the position along the last axis is the one that is given, else 0."""

    @abstractmethod
    def pick(self, node: Node, axis: int, where: Index, rest: Index) -> Any:
        """The element of a table at a position that another value says, as `lookup` has it."""

    @abstractmethod
    def compute(self, node: Node, op: Pointwise, values: list[Any]) -> Any:
        """What an operator's expression makes of its operands."""


# -- kinds of nodes --------------------------------------------------------------------------------


def base(node: Node) -> Node:
    """The node whose memory a node shares: another shape for dense memory costs nothing."""
    while isinstance(node.op, Reshape):
        node = node.inputs[0]
    return node


def untransposed(node: Node) -> Node:
    """The operand under a swap of its last two axes, which a product reads as it lies.

    In a simplified graph a `Transpose` is no other swap.
    """
    return node.inputs[0] if isinstance(node.op, Transpose) else node


def is_one_product(node: Node) -> bool:
    """Whether all batches of rows of a product meet one matrix: they are the rows of one."""
    left, right = node.inputs
    one_batch = size_of(spec(node).shape[:-2]) == 1
    return one_batch or (size_of(spec(right).shape[:-2]) == 1 and untransposed(left) is left)


def is_called(node: Node) -> bool:
    """Whether an operator is called in Python: it has no code here, or is a user's own."""
    return not (isinstance(node.op, _WITH_CODE) or is_view(node) or is_random(node))


def is_copied(node: Node) -> bool:
    """Whether an operator is one that copies its operands into an array, or adds them there."""
    return isinstance(node.op, _SPECIAL)


def is_special(node: Node) -> bool:
    """Whether an operator is no expression: it has code of its own, or is called in Python."""
    return is_copied(node) or is_random(node) or is_called(node)
