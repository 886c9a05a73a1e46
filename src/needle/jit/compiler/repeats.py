"""Functions of a value that was repeated: computed before it is, once, instead of for each repeat.

An elementwise operator may be moved in front of the broadcasts of its operands. That is done where
a function takes long, and with what leads there. Elsewhere they stay: an addition takes less than
the kernel that would keep its result::

    before                               after

    %1 = BroadcastTo((400, 50)) %0       %1 = AddScalar(1) %0
    %2 = AddScalar(1) %1                 %2 = Tanh %1
    %3 = Tanh %2                         %3 = BroadcastTo((400, 50)) %2
    %4 = MulScalar(2) %3                 %4 = MulScalar(2) %3
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...graph.kinds import Pointwise
from ...graph.node import Node
from ...ops.activations import GELU, SiLU
from ...ops.creation import Full
from ...ops.functions import Cos, Erf, Exp, Log, Sigmoid, Sin, Sqrt, Tanh
from ...ops.movement import BroadcastTo
from ...ops.power import EWisePow, PowerScalar
from ...shapes import Shape, Spec
from .access import size_of, spec

LEAST_SAVED = 2_000
"""Elements that are computed no more, at least: about what another kernel costs."""

_LONG = (Cos, Erf, EWisePow, Exp, GELU, Log, Sigmoid, SiLU, Sin, Sqrt, Tanh)

_Make = Callable[[Any, tuple[Node, ...], Node], Node]


class Repeats:
    """What is repeated in a graph that is being rewritten.

    Args:
        make: Makes a node of the new graph, given an operator, inputs, and a node that it is like.
    """

    def __init__(self, make: _Make) -> None:
        self._make = make
        self._shapes: dict[Node, Shape] = {}  # of what each repeated value is repeated from
        self._once: dict[Node, Node] = {}  # and that itself, where it was made

    def taken_over(self, node: Node) -> Node | None:
        """A node that repeats what a new one can be computed from; None to take it as it is."""
        op = node.op
        if isinstance(op, BroadcastTo):
            self._once[node] = node.inputs[0]
            self._shapes[node] = spec(node.inputs[0]).shape
        elif isinstance(op, Pointwise) and op.key is not None and not node.is_tuple():
            shapes = {self._shapes.get(child) for child in _varying(node)}
            small = shapes.pop() if len(shapes) == 1 else None
            if small is not None:
                self._shapes[node] = small
                saved = size_of(spec(node).shape) - size_of(small)
                if saved >= LEAST_SAVED and _takes_long(op):
                    return self._make(BroadcastTo(spec(node).shape), (self._made_once(node),), node)
        return None

    def _made_once(self, node: Node) -> Node:
        """What a repeated value is repeated from, made with all that leads there."""
        pending = [node]
        while pending:
            last = pending[-1]
            missing = [child for child in _varying(last) if child not in self._once]
            if missing:
                pending += missing
            elif pending.pop() not in self._once:
                self._once[last] = self._applied(last)
        return self._once[node]

    def _applied(self, node: Node) -> Node:
        """The operator of a node on what its operands are repeated from."""
        assert isinstance(node.op, Pointwise)
        small = self._shapes[node]
        count = len(node.inputs) - node.op.scalars
        inputs = [self._operand(child, small) for child in node.inputs[:count]]
        return self._make(node.op, (*inputs, *node.inputs[count:]), _of_shape(node, small))

    def _operand(self, node: Node, small: Shape) -> Node:
        if isinstance(node.op, Full):
            constant = Full(small, node.op.value, node.op.dtype)
            return self._make(constant, (), _of_shape(node, small))
        return self._once[node]


def _varying(node: Node) -> Sequence[Node]:
    """The operands that are no constants; without numbers."""
    op = node.op
    count = len(node.inputs) - (op.scalars if op else 0)
    return [child for child in node.inputs[:count] if not isinstance(child.op, Full)]


def _takes_long(op: Pointwise) -> bool:
    return isinstance(op, _LONG) or (isinstance(op, PowerScalar) and op.scalar % 1 != 0)


def _of_shape(node: Node, shape: Shape) -> Node:
    """What the operator of a node gives for operands of another shape."""
    result = Spec(shape, spec(node).dtype)
    return Node(None, (), None, node.requires_grad, result, node.where)
