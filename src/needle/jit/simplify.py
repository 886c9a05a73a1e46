"""First stage: the traced graph made smaller without changing what it means.

- composite operators (`LogSumExp`, `LogSoftmax`) are written out in simpler ones,
- what changes nothing (`StopGradient`, casts to the same dtype, elements of a tuple just made) is passed over,
- operators on constants become constants,
- equal operators on equal inputs are merged; draws are not.

before::                         after::

    %3 = StopGradient %2             %4 = EWiseMul %2 %2
    %4 = EWiseMul %3 %2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..context import ambient_set
from ..graph.kinds import Elementwise
from ..graph.node import Node, new_handle
from ..ops.comparison import Cast, StopGradient
from ..ops.creation import Full
from ..ops.movement import BroadcastTo, Permute, Reshape, Slice, Transpose
from ..ops.tuples import MakeTensorTuple, TupleGetItem
from ..shapes import Spec
from ..tensor import Tensor
from .interpret import live_nodes
from .tracer import Tracer

_VIEWS = (BroadcastTo, Permute, Reshape, Slice, Transpose)


class Graph:
    """A traced graph: `inputs` are given at each call, `outputs` are wanted, `nodes` lie in program order.

    Constants are leaves with storage.
    """

    def __init__(self, inputs: Sequence[Node], nodes: Sequence[Node], outputs: Sequence[Node]) -> None:
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.nodes = live_nodes(nodes, self.outputs)

    def verify(self) -> None:
        """Check what every stage relies on: inputs before users, shapes and dtypes as the rules say."""
        known = set(self.inputs)
        for node in self.nodes:
            for child in node.inputs:
                assert child in known or child.storage is not None, f"{node.op} uses a value made later"
            assert node.op is not None
            inferred = node.op.infer(*[child.specs() for child in node.inputs])
            assert inferred is None or inferred == node.specs(), f"{node.op}: {inferred} is not {node.specs()}"
            known.add(node)
        for output in self.outputs:
            assert output in known or output.storage is not None, "an output is not made"

    def text(self) -> str:
        """The graph, one line a node."""
        names = {node: f"%{k}" for k, node in enumerate([*self.inputs, *self.nodes])}

        def name(node: Node) -> str:
            return names.get(node) or f"constant{node.specs()[0]}"  # type: ignore[index]

        lines = [f"{names[node]} = input  {_spec_text(node)}" for node in self.inputs]
        for node in self.nodes:
            arguments = " ".join(name(child) for child in node.inputs)
            where = f"  # {node.where}" if node.where else ""
            lines.append(f"{names[node]} = {node.op!r} {arguments}  {_spec_text(node)}{where}")
        lines.append("return " + " ".join(name(node) for node in self.outputs))
        return "\n".join(lines)


def simplify(graph: Graph) -> Graph:
    """The same results from fewer and simpler operators."""
    rewriting = _Rewriting(graph)
    for node in graph.nodes:
        rewriting.add(node)
    outputs = [rewriting.now(node) for node in graph.outputs]
    return Graph(graph.inputs, rewriting.nodes, outputs)


class _Rewriting:
    """One walk over a graph; `now` says what an old node has become."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self._given = frozenset(graph.inputs)
        self._became: dict[Node, Node] = {node: node for node in graph.inputs}
        self._merged: dict[Any, Node] = {}

    def now(self, node: Node) -> Node:
        """The node that stands for an old one."""
        return self._became.get(node, node)

    def add(self, node: Node) -> None:
        """Take over one node of the old graph."""
        op = node.op
        inputs = tuple([self.now(child) for child in node.inputs])
        if hasattr(op, "decompose"):
            self._became[node] = self._decomposed(node, inputs)
            return
        self._became[node] = self._made(op, inputs, node)

    def _made(self, op: Any, inputs: tuple[Node, ...], like: Node) -> Node:
        same = _passed_over(op, inputs, like)
        if same is not None:
            return same
        constant = None if self._given.intersection(inputs) else _folded(op, inputs, like)
        if constant is not None:
            op, inputs = constant, ()
        key = None if op.key is None else (op.key, like.spec, tuple(map(id, inputs)))
        if key is not None and key in self._merged:
            return self._merged[key]
        node = Node(op, inputs, None, like.requires_grad, like.specs(), like.where)
        self.nodes.append(node)
        if key is not None:
            self._merged[key] = node
        return node

    def _decomposed(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        """The node written out in simpler operators, which are recorded and taken over in turn."""
        stand_ins = [Node(None, (), None, False, child.specs()) for child in inputs]
        tracer = Tracer(dict.fromkeys(stand_ins))
        with ambient_set(evaluator=tracer, gradients=False):
            result = node.op.decompose(*[new_handle(n, Tensor) for n in stand_ins])  # type: ignore[union-attr]
        self._became.update(zip(stand_ins, inputs, strict=True))
        for inner in tracer.nodes:
            inner.where = node.where
            self.add(inner)
        if isinstance(result, tuple):
            parts = tuple([self.now(part.node) for part in result])
            return Node(MakeTensorTuple(), parts, None, False, node.specs(), node.where)
        return self.now(result.node)


def _passed_over(op: Any, inputs: tuple[Node, ...], like: Node) -> Node | None:
    """The input that stands for the result, where an operator changes nothing."""
    if isinstance(op, StopGradient):
        return inputs[0]
    if isinstance(op, TupleGetItem) and isinstance(inputs[0].op, MakeTensorTuple):
        return inputs[0].inputs[op.index]
    if isinstance(op, Cast | BroadcastTo | Reshape):
        return inputs[0] if inputs[0].specs() == like.specs() else None
    return None


def _folded(op: Any, inputs: tuple[Node, ...], like: Node) -> Full | None:
    """The constant that an operator on constants gives."""
    spec: Any = like.specs()
    if not inputs or not isinstance(spec, Spec):
        return None
    values = [_number(child) for child in inputs]
    if any(value is None for value in values):
        return None
    if isinstance(op, _VIEWS):
        return _full(spec, values[0])
    if not isinstance(op, Elementwise) or op.key is None:
        return None
    with np.errstate(all="ignore"):
        count = len(values) - op.scalars
        arrays = [np.asarray(value) for value in values[:count]]
        result = op.evaluate(*arrays, *[float(value) for value in values[count:]])  # type: ignore[arg-type]
    return _full(spec, result[()])


def _number(node: Node) -> Any:
    """The one number that a constant holds everywhere, as a NumPy scalar; None if it is none."""
    if isinstance(node.op, Full):
        return node.op.dtype.type(node.op.value)
    if node.storage is not None and node.op is None and isinstance(node.storage, np.ndarray):
        return node.storage[()] if node.storage.shape == () else None
    return None


def _full(spec: Spec, value: Any) -> Full:
    return Full(spec.shape, value.item(), spec.dtype)


def _spec_text(node: Node) -> str:
    specs: Any = node.specs()
    if isinstance(specs, Spec):
        return f"{specs.dtype}{list(specs.shape)}"
    return "(" + ", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in specs) + ")"
