"""The inputs of a program: what is given at each call, and where it is found.

Machine code reads captured tensors where they are. A graph that a call becomes part of keeps the
values that they have now, so those that programs change in place are copied for it. A call that
changes nothing gets the same nodes again::

    before: a call of an unchanged world       after

    captured: model.weight, in place           a copy of it, unless one was made since a program
                                               last changed it
    captured: model.scale, an array            its own node
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from sys import getrefcount
from typing import Any
from weakref import ref

import numpy as np

from ...graph.node import Live, Node, realize, settled
from ...tensor import Tensor
from ..objects.slots import Slot
from ..tracing.signature import in_native_order
from ..tracing.trace import Source, Trace

_copy_of = attrgetter("copied")


class Captured:
    """An input that is no argument: a tensor that existed before the trace.

    Args:
        node: Its node in the trace.
        source: Where the tensor is found at a call.
    """

    def __init__(self, node: Node, source: Source) -> None:
        self.node = node
        self.read = source.tensor
        self.source = source
        self.slot = source if isinstance(source, Slot) and not source.path else None
        self.references = 0

    def count_references(self) -> int:
        """How often the tensor in a slot is referred to: more than before if a user took hold."""
        slot: Any = self.slot
        return getrefcount(slot.container.held(slot.key))


class Inputs:
    """The inputs of a trace.

    Args:
        trace: What a call does.

    Attributes:
        nodes: Those of the arguments, then of the hyperparameters, then of what is captured.
        scalars: Where the hyperparameters are read.
        captured: What is captured.
        snapshot: That, as it is now.
    """

    def __init__(self, trace: Trace) -> None:
        self.arguments = len(trace.arguments)
        self.scalars = [(slot.container.slots(), slot.key) for slot, _ in trace.scalars]
        self.captured = [Captured(node, source) for node, source in trace.captured]
        self.snapshot = Snapshot(self.captured)
        self.nodes = [
            *trace.arguments,
            *[node for _, node in trace.scalars],
            *[captured.node for captured in self.captured],
        ]
        self._given = [node.requires_grad for node in trace.arguments]

    def numbers(self) -> list[Any]:
        """The hyperparameters as arrays."""
        return [np.asarray(held[name], np.float64) for held, name in self.scalars]

    def values(self, leaves: Sequence[Any]) -> list[Any]:
        """All inputs as arrays that stay as they are."""
        captured = [node.storage for node in self.snapshot.nodes(leaves)]
        return [*[settled_array(leaf) for leaf in leaves], *self.numbers(), *captured]

    def parted(self, leaves: Sequence[Any]) -> tuple[list[Node], list[Any]]:
        """The inputs that need a gradient, and the values of the others, for a graph."""
        nodes: list[Node] = []
        arrays: list[Any] = []
        for leaf, needs_gradient in zip(leaves, self._given, strict=True):
            if needs_gradient:
                nodes.append(settled(leaf).node)
            else:  # the caller may write into an array later: the graph keeps a copy
                arrays.append(settled_array(leaf.copy() if isinstance(leaf, np.ndarray) else leaf))
        more, others = self.snapshot.parted(leaves)
        return [*nodes, *more], [*arrays, *self.numbers(), *others]


class Snapshot:
    """Captured tensors, as nodes whose values stay.

    Attributes:
        lasts: Whether they are where they were at the last call, so that only programs that change
            them in place have to be asked. Who looks for them sets it, and calls `drop`.
    """

    def __init__(self, captured: Sequence[Captured]) -> None:
        self._captured = captured
        self.drop()

    def drop(self) -> None:
        """They may be elsewhere now."""
        self.lasts = False
        self._nodes: list[Node] | None = None
        self._parted: tuple[list[Node], list[Any]] | None = None
        self._lives: list[Live] = []
        self._copies: list[Node | None] = []
        self._changing: list[tuple[Any, int]] = []  # programs, and how often they had run

    def nodes(self, leaves: Sequence[Any]) -> list[Node]:
        """One for each captured tensor; the same ones as before if surely nothing happened."""
        if self._nodes is not None and self._is_as_taken():
            return self._nodes
        self._parted = None
        tensors = [captured.read(leaves) for captured in self._captured]
        lives = [node for tensor in tensors if isinstance(node := tensor.node, Live)]
        changing = {program: program.calls for live in lives for program in live.programs()}
        nodes = [settled(tensor).node for tensor in tensors]
        if self.lasts:
            self._lives, self._copies = lives, [*map(_copy_of, lives)]
            self._changing = [(ref(program), calls) for program, calls in changing.items()]
            is_lent = None in self._copies  # memory that a user may write to, and nobody sees it
            self._nodes = None if is_lent else nodes
        return nodes

    def parted(self, leaves: Sequence[Any]) -> tuple[list[Node], list[Any]]:
        """The nodes of those that need a gradient, and the values of the others."""
        nodes = self.nodes(leaves)
        if self._parted is None:
            flags = [captured.node.requires_grad for captured in self._captured]
            parted = (
                [node for node, needs_gradient in zip(nodes, flags, strict=True) if needs_gradient],
                [node.storage for node, flag in zip(nodes, flags, strict=True) if not flag],
            )
            if self._nodes is None:
                return parted
            self._parted = parted
        return self._parted

    def _is_as_taken(self) -> bool:
        for reference, calls in self._changing:
            program = reference()
            if program is None or program.calls != calls:  # it may have run before it went
                return False
        return [*map(_copy_of, self._lives)] == self._copies


def array_of(leaf: Any) -> Any:
    """A leaf of the arguments as an array in the machine's byte order."""
    array = realize(leaf.node) if isinstance(leaf, Tensor) else np.asarray(leaf)
    return in_native_order(array)


def settled_array(leaf: Any) -> Any:
    """The same, and it stays as it is, unless it is the caller's own."""
    return array_of(settled(leaf) if isinstance(leaf, Tensor) else leaf)
