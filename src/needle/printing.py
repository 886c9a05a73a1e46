"""The graph as text."""

from __future__ import annotations

from typing import IO, Any

from .graph.node import Node, Value
from .graph.order import nodes_of, topological_order
from .shapes import Spec


def graph_text(*values: Value) -> str:
    """The graph below some values, one line a node: name, operator with inputs, dtype and shape.

    Args:
        values: Tensors or tensor tuples.

    Raises:
        ArgumentError: a value is neither.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([1.0, 2.0])
        >>> print(ndl.graph_text((x * 2).sum()))
        %0 = leaf                    float64 (2,)  requires grad
        %1 = MulScalar(scalar=2) %0  float64 (2,)  requires grad
        %2 = Summation(axes=None, keepdims=False) %1  float64 ()  requires grad
    """
    order = topological_order(nodes_of(values, "graph_text"))
    names = {node: f"%{position}" for position, node in enumerate(order)}
    lines = []
    for node in order:
        made = (
            "leaf"
            if node.op is None
            else " ".join([repr(node.op), *(names[n] for n in node.inputs)])
        )
        grad = "  requires grad" if node.requires_grad else ""
        lines.append(f"{names[node]} = {made:<22}  {_described(node)}{grad}")
    return "\n".join(lines)


def print_graph(*values: Value, file: IO[str] | None = None) -> None:
    """Print the graph below some values, as `graph_text` gives it.

    Args:
        values: Tensors or tensor tuples.
        file: Where to, standard output by default.

    Example:
        >>> import needle as ndl
        >>> ndl.print_graph(ndl.Tensor([1.0]))
        %0 = leaf                    float64 (1,)  requires grad
    """
    print(graph_text(*values), file=file)


def _described(node: Node) -> str:
    specs: Any = node.specs()
    if isinstance(specs, Spec):
        return f"{specs.dtype} {specs.shape}"
    return "(" + ", ".join(f"{spec.dtype} {spec.shape}" for spec in specs) + ")"
