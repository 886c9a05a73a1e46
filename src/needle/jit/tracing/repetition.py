"""Does a function do the same when it is traced again? It may have read what it added to a list.

::

    log.append(1); return x * 2            MulScalar(2) of the argument, both times
    log.append(1); return x * len(log)     MulScalar(1), then MulScalar(2)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph.node import Node
from ..objects.sameness import is_equal
from ..objects.trees import outline
from .trace import Out, OutTuple, Trace

_VALUES = (int, float, complex, str, bytes, np.generic, np.ndarray, type(None))


def do_the_same(first: Trace, second: Trace, leaves: list[Any]) -> bool:
    """Whether two traces of one function with the same arguments record the same."""
    return is_equal(_steps(first, leaves), _steps(second, leaves))


def _steps(trace: Trace, leaves: list[Any]) -> tuple[Any, ...]:
    """What a trace does, in words that are equal for another one that does it."""
    read = [source.tensor(leaves) for _, source in trace.captured]
    known = [*trace.arguments, *[node for _, node in [*trace.scalars, *trace.captured]]]
    places = {node: place for place, node in enumerate([*known, *trace.nodes])}

    def name(node: Node | None) -> Any:
        if node is None or node in places:
            return node and places[node]
        array = np.asarray(node.storage)  # a constant
        return str(array.dtype), array.shape, array.tobytes()

    leaf = _leaf(name)

    def step(node: Node) -> tuple[Any, ...]:
        given = outline(getattr(node.op, "__dict__", {}), leaf)  # as the factor of `MulScalar`
        return type(node.op), given, node.specs(), *map(name, node.inputs)

    assigned = [name(node) for _, node in [*trace.rebound, *trace.grads]]
    trees = [trace.result, *[tree for _, tree in trace.slots]]
    return (*map(id, read), *map(step, trace.nodes), *assigned, outline(trees, leaf))


def _leaf(name: Callable[[Node | None], Any]) -> Callable[[Any], Any]:
    """What a leaf of a result is: a value of Python's or NumPy's itself, else its kind."""

    def described(item: Any) -> Any:
        if isinstance(item, OutTuple):
            return tuple(map(described, item.parts))
        if isinstance(item, Out):
            return name(item.node), name(item.grad), item.requires_grad, item.cls
        return item if isinstance(item, _VALUES) else type(item)

    return described
