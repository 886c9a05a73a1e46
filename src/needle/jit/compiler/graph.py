"""The graph of a program, as it was traced and as it is made simpler: a value that stages hand on.

::

    %0 = input  float32[3, 4]
    %1 = Tanh() %0  float32[3, 4]  # model.py:12
    return %1
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import CompileError
from ...graph.node import Node
from ...shapes import Spec
from ..tracing.interpret import live_nodes, with_calls
from .access import spec


class Graph:
    """A traced graph. Nodes are immutable and each makes one value: static single assignment.

    Args:
        inputs: Nodes whose values are given at each call.
        nodes: Recorded nodes in program order.
        outputs: Nodes whose values are wanted. Constants among them are leaves with storage.
        further: Nodes that are computed though no output may depend on them.

    Attributes:
        nodes: What is computed, in program order: what the outputs and `further` nodes depend on.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        nodes: Sequence[Node],
        outputs: Sequence[Node],
        further: Sequence[Node] = (),
    ) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.nodes = live_nodes(nodes, [*with_calls(nodes, self.outputs), *further])

    def verify(self) -> None:
        """Check that inputs come before users, and that shapes and dtypes are as the rules say."""
        known = set(self.inputs)
        for node in self.nodes:
            if node.op is None:
                raise CompileError("graph: a node that is computed has no operator")
            for child in node.inputs:
                if child not in known and child.storage is None:
                    raise CompileError(f"graph: {node.op!r} uses a value made later or nowhere")
            inferred = node.op.infer(*[child.specs() for child in node.inputs])
            if inferred is not None and inferred != node.specs():
                raise CompileError(f"graph: {node.op!r} gives {inferred}, not {node.specs()}")
            known.add(node)
        if any(node not in known and node.storage is None for node in self.outputs):
            raise CompileError("graph: an output is not made")

    def text(self) -> str:
        """The graph, one line a node."""
        names = {node: f"%{k}" for k, node in enumerate([*self.inputs, *self.nodes])}

        def name(node: Node) -> str:
            return names.get(node) or f"constant{spec(node).shape}"

        lines = [f"{names[node]} = input  {_spec_text(node)}" for node in self.inputs]
        for node in self.nodes:
            arguments = " ".join(name(child) for child in node.inputs)
            where = f"  # {node.where}" if node.where else ""
            lines.append(f"{names[node]} = {node.op!r} {arguments}  {_spec_text(node)}{where}")
        lines.append("return " + " ".join(name(node) for node in self.outputs))
        return "\n".join(lines)


def _spec_text(node: Node) -> str:
    specs = node.specs()
    if isinstance(specs, Spec):
        return f"{specs.dtype}{list(specs.shape)}"
    return "(" + ", ".join(f"{part.dtype}{list(part.shape)}" for part in specs) + ")"
