"""Evaluation of a traced graph through NumPy: what a program means, and what runs without LLVM.

A call runs the operators in program order::

    before: a graph                after: a dict of values

    %2 = MulScalar(2) %0           v[%2] = MulScalar(2).evaluate(v[%0])
    %3 = EWiseAdd %2 %1            v[%3] = EWiseAdd().evaluate(v[%2], v[%1])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ShapeError
from ...graph.kinds import Indexed
from ...graph.node import Node
from ...graph.order import topological_order
from ...ops.loss import CrossEntropy
from ...shapes import Spec, spec_of
from .pullback import is_called


def live_nodes(nodes: Sequence[Node], wanted: Sequence[Node]) -> list[Node]:
    """The recorded nodes that results depend on, in program order; draws always count as wanted."""
    recorded = set(nodes)
    roots = [*wanted, *[node for node in nodes if is_random(node)]]
    needed = set(topological_order(roots, lambda node: node in recorded))
    return [node for node in nodes if node in needed]


def with_calls(nodes: Sequence[Node], wanted: Sequence[Node]) -> list[Node]:
    """What is wanted, and users' operators: they may do more than give a result that is used."""
    return [*wanted, *[node for node in nodes if node.op and is_called(node.op)]]


def gathers(nodes: Sequence[Node]) -> list[Node]:
    """The nodes that raise where an index is out of range, though nothing may use their results."""
    return [node for node in nodes if isinstance(node.op, Indexed | CrossEntropy)]


def is_random(node: Node) -> bool:
    """Whether the node draws from the random stream."""
    return getattr(node.op, "random", False)


class Interpreter:
    """Runs the operators of a trace one by one.

    Args:
        inputs: Nodes whose values are given at each call.
        nodes: Recorded nodes in program order.
        wanted: Nodes whose values are returned.
    """

    def __init__(
        self, inputs: Sequence[Node], nodes: Sequence[Node], wanted: Sequence[Node]
    ) -> None:
        self._inputs = inputs
        self._nodes = live_nodes(nodes, [*with_calls(nodes, wanted), *gathers(nodes)])
        self._wanted = wanted

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """The wanted values, given those of the inputs, in memory of their own."""
        values = dict(zip(self._inputs, arrays, strict=True))

        def value(node: Node) -> Any:
            return values.get(node, node.storage)  # a constant of the trace has its own

        for node in self._nodes:
            values[node] = self.evaluated(node, [value(child) for child in node.inputs])
        return [_own(value(node)) for node in self._wanted]

    def evaluated(self, node: Node, arrays: list[Any]) -> Any:
        """The value of a node."""
        result = evaluated(node, arrays)
        check_result(node, result)
        return result


def evaluated(node: Node, arrays: Sequence[Any]) -> Any:
    """What an operator gives; run-time scalars are numbers, which decide no dtype."""
    op = node.op
    assert op is not None
    if op.scalars:
        count = len(arrays) - op.scalars
        arrays = [*arrays[:count], *[float(number) for number in arrays[count:]]]
    return op.evaluate(*arrays)


def _own(value: Any) -> Any:
    """A result that shares memory with nothing that lives on: inputs and constants, mainly."""
    return tuple([part.copy() for part in value]) if isinstance(value, tuple) else value.copy()


def check_result(node: Node, result: Any) -> None:
    """A user's operator without a shape rule must give what it gave during the trace."""
    found = tuple([spec_of(a) for a in result]) if isinstance(result, tuple) else spec_of(result)
    if found != node.spec:
        raise ShapeError(
            f"{node.op.name if node.op else 'operator'}: gave {_text(node.spec)} when it was "
            f"traced and {_text(found)} now. A jitted function needs the same shapes and dtypes "
            "at each call: call it eagerly, or state the rule in infer"
        )


def _text(specs: Any) -> str:
    if isinstance(specs, Spec):
        return f"{specs.dtype} {specs.shape}"
    return f"({', '.join(map(_text, specs))})"
