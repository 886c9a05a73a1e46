"""Topological order, iteratively: a chain of 100,000 operators is an ordinary graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ArgumentError
from ..shapes import holds_several
from .node import Node, Value, handle_of


def nodes_of(values: Any, operation: str) -> list[Node]:
    """The nodes of values: of one, or of each that a list or an iterator holds.

    Raises:
        ArgumentError: it is none.
    """
    if isinstance(values, Value) or not holds_several(values):
        values = [values]
    listed = list(values)
    for value in listed:
        if not isinstance(value, Value):
            raise ArgumentError(
                f"{operation}: a {type(value).__name__} is no tensor. Pass tensors, whose graphs "
                "are walked"
            )
    return [value.node for value in listed]


def topological_order(
    outputs: Iterable[Node], wanted: Callable[[Node], bool] | None = None
) -> list[Node]:
    """Post-order depth-first list of the nodes below `outputs`, inputs left to right.

    Args:
        outputs: Where the walk starts, in order.
        wanted: Nodes for which it is False are left out, with what only they reach.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    for output in outputs:
        if output in seen or (wanted is not None and not wanted(output)):
            continue
        seen.add(output)
        stack = [(output, iter(output.inputs))]
        while stack:
            node, children = stack[-1]
            for child in children:
                if child not in seen and (wanted is None or wanted(child)):
                    seen.add(child)
                    stack.append((child, iter(child.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


def find_topo_sort(node_list: Value | Iterable[Value]) -> list[Value]:
    """Values in post-order depth-first topological order, inputs left to right.

    Args:
        node_list: The values whose graphs are sorted, or one.

    Returns:
        Every value that `node_list` depends on, inputs before users, each once.

    Raises:
        ArgumentError: something in it is no tensor.

    Example:
        >>> import needle as ndl
        >>> a, b = ndl.Tensor([1.0]), ndl.Tensor([2.0])
        >>> c = a * b
        >>> ndl.autograd.find_topo_sort([c]) == [a, b, c]
        True
    """
    return [handle_of(node) for node in topological_order(nodes_of(node_list, "find_topo_sort"))]
