"""First stage: the traced graph made smaller without changing what it means.

- lowering: composite operators (`LogSumExp`, `Standardize` and others) are written out in simpler
  ones,
- what changes nothing (`StopGradient`, casts to the same dtype, elements of a tuple just made) is
  passed over,
- constant folding: operators on constants become constants; products with a matrix of equal numbers
  become sums,
- axes that are put in order several times are so once; the last two swapped are a `Transpose`,
- common subexpressions: equal operators on equal inputs are merged; draws are not,
- functions that take long, of a value that was repeated, are computed before it is (`repeats.py`),
- a sum of values that are each in a slice of zeros (the gradient of what was read slice by slice)
  is put together in one array, instead of one as large for each,
- dead code: what no result depends on is dropped, but for draws, operators of the user's, and
  indices, which have to be checked (`indices.py`).

::

    before: y = tanh(x) * 2, y + y        after

    %1 = Tanh %0                          %1 = Tanh %0
    %2 = StopGradient %1                  %2 = MulScalar(2) %1
    %3 = MulScalar(2) %2                  %3 = EWiseAdd %2 %2
    %4 = MulScalar(2) %1
    %5 = EWiseAdd %3 %4
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from ...context import ambient_set
from ...graph.kinds import Pointwise
from ...graph.node import Node, new_handle
from ...ops.arithmetic import EWiseAdd
from ...ops.comparison import Cast, StopGradient
from ...ops.contraction import MatMul
from ...ops.creation import Full
from ...ops.movement import BroadcastTo, Permute, Reshape, Transpose
from ...ops.slicing import Slice, Unslice
from ...ops.tuples import MakeTensorTuple, TupleGetItem
from ...tensor import Tensor
from ..tracing.interpret import with_calls
from ..tracing.tracer import Tracer
from .access import order, spec
from .graph import Graph
from .indices import checks
from .repeats import Repeats
from .users import seen

_VIEWS = (BroadcastTo, Permute, Reshape, Slice, Transpose)
_SAME_VALUES = (BroadcastTo, Cast, Reshape)
_ORDERS = (Permute, Transpose)


def simplify(graph: Graph) -> Graph:
    """The same results from fewer and simpler operators."""
    rewriting = _Rewriting(graph)
    for node in graph.nodes:
        rewriting.add(node)
    outputs = [rewriting.now(node) for node in graph.outputs]
    used = Graph(graph.inputs, rewriting.nodes, outputs).nodes
    further = checks(rewriting.nodes, used, with_calls(used, outputs))
    return Graph(graph.inputs, [*rewriting.nodes, *further], outputs, further)


class _Rewriting:
    """One walk over a graph, inputs before users; `now` says what an old node has become."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Node] = []
        self._given = frozenset(graph.inputs)
        self._became: dict[Node, Node] = {node: node for node in graph.inputs}
        self._merged: dict[Any, Node] = {}
        self._sums = _sums_of_slices(graph)
        self._repeats = Repeats(self._made)

    def now(self, node: Node) -> Node:
        """The node that stands for an old one."""
        return self._became.get(node, node)

    def add(self, node: Node) -> None:
        """Take over one node of the old graph."""
        op, children = seen(node.op), node.inputs
        if node in self._sums:
            op, children = self._sums[node]
        inputs = tuple([self.now(child) for child in children])
        decompose = getattr(op, "decompose", None) or _as_sums(op, node, inputs)
        if decompose is None:
            self._became[node] = self._made(op, inputs, node)
        else:
            self._became[node] = self._decomposed(decompose, node, inputs)

    def _made(self, op: Any, inputs: tuple[Node, ...], like: Node) -> Node:
        if isinstance(op, _ORDERS):
            op, inputs = _in_order(op, inputs[0])
        same = _passed_over(op, inputs, like)
        if same is not None:
            return same
        constant = None if self._given.intersection(inputs) else _folded(op, inputs, like)
        if constant is not None:
            op, inputs = constant, ()
        key = op.key
        if key is not None:
            key = (key, like.spec, *map(id, inputs))
            merged = self._merged.get(key)
            if merged is not None:
                return merged
        node = Node(op, inputs, None, like.requires_grad, like.specs(), like.where)
        repeated = self._repeats.taken_over(node)
        if repeated is None:
            self.nodes.append(node)
        else:
            node = repeated
        if key is not None:
            self._merged[key] = node
        return node

    def _decomposed(
        self, decompose: Callable[..., Any], node: Node, inputs: tuple[Node, ...]
    ) -> Node:
        """The node written out in simpler operators, which are recorded and taken over in turn."""
        stand_ins = [Node(None, (), None, False, child.specs()) for child in inputs]
        tracer = Tracer()
        for stand_in in stand_ins:
            tracer.argument(stand_in)
        with ambient_set(evaluator=tracer, gradients=False):
            result = decompose(*[new_handle(stand_in, Tensor) for stand_in in stand_ins])
        self._became.update(zip(stand_ins, inputs, strict=True))
        for inner in tracer.nodes:
            inner.where = node.where
            self.add(inner)
        if isinstance(result, tuple):
            parts = tuple([self.now(part.node) for part in result])
            return Node(MakeTensorTuple(), parts, None, False, node.specs(), node.where)
        return self.now(result.node)


def _as_sums(op: Any, node: Node, inputs: tuple[Node, ...]) -> Callable[[Any, Any], Any] | None:
    """What a product with a matrix of equal numbers is: sums of the other's rows or columns.

    The gradient of the sum of a product is one.
    """
    if not isinstance(op, MatMul):
        return None
    (shape, dtype), (left, right) = spec(node), inputs
    if dtype.kind != "f" or spec(left).dtype != spec(right).dtype:
        return None
    if isinstance(right.op, Full):
        return lambda a, _: _times(a, right.op).sum(-1, keepdims=True).broadcast_to(shape)
    if isinstance(left.op, Full):
        return lambda _, b: _times(b, left.op).sum(-2, keepdims=True).broadcast_to(shape)
    return None


def _times(values: Any, constant: Any) -> Any:
    """Each times the number before they are added up: infinities and NaN come out as they do."""
    return values if constant.value == 1 else values * constant.value


def _sums_of_slices(graph: Graph) -> dict[Node, tuple[Unslice, tuple[Node, ...]]]:
    """The whole sums of values in slices of zeros: for each one operator that gives the same."""
    uses = Counter([child for node in graph.nodes for child in node.inputs])
    uses.update(graph.outputs)
    sums: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        op = seen(node.op)
        if isinstance(op, Unslice) and spec(node).dtype.kind == "f":
            sums[node] = [node]
        elif isinstance(op, EWiseAdd) and all(
            child in sums and uses[child] == 1 and child.specs() == node.specs()
            for child in node.inputs
        ):
            sums[node], others = (sums.pop(child) for child in node.inputs)
            sums[node] += others
    return {node: _together(parts) for node, parts in sums.items() if len(parts) > 1}


def _together(parts: Sequence[Node]) -> tuple[Unslice, tuple[Node, ...]]:
    """One operator that adds up several values in slices of zeros, and its inputs."""
    ranges = [of_one for part in parts for of_one in cast(Unslice, part.op).slices]
    op = Unslice(spec(parts[0]).shape, ranges[0], tuple(ranges[1:]))
    return op, tuple([child for part in parts for child in part.inputs])


def _passed_over(op: Any, inputs: tuple[Node, ...], like: Node) -> Node | None:
    """The input that stands for the result, where an operator changes nothing."""
    if isinstance(op, StopGradient):
        return inputs[0]
    if isinstance(op, TupleGetItem) and isinstance(inputs[0].op, MakeTensorTuple):
        return inputs[0].inputs[op.index]
    if isinstance(op, _SAME_VALUES) and inputs[0].specs() == like.specs():
        return inputs[0]
    if isinstance(op, Permute) and op.axes == tuple(range(len(op.axes))):
        return inputs[0]
    return None


def _in_order(op: Permute | Transpose, value: Node) -> tuple[Permute | Transpose, tuple[Node]]:
    """One operator for the order of axes of a value that may have been put in another before."""
    ndim = len(spec(value).shape)
    axes = order(op, ndim)
    if isinstance(value.op, _ORDERS):
        before, (value,) = order(value.op, ndim), value.inputs
        axes = tuple([before[axis] for axis in axes])
    swapped = (*range(ndim - 2), ndim - 1, ndim - 2)
    return Transpose() if axes == swapped else Permute(axes), (value,)


def _folded(op: Any, inputs: tuple[Node, ...], like: Node) -> Full | None:
    """The constant that an operator on constants gives."""
    if not inputs or like.is_tuple():
        return None
    values = [_number(child) for child in inputs]
    if any(value is None for value in values):
        return None
    if isinstance(op, _VIEWS):
        return _full(like, values[0])
    if not isinstance(op, Pointwise) or op.key is None:
        return None
    count = len(values) - op.scalars
    arrays = [np.asarray(value) for value in values[:count]]
    scalars = [float(value) for value in values[count:]]
    with np.errstate(all="ignore"):
        return _full(like, op.evaluate(*arrays, *scalars)[()])


def _number(node: Node) -> Any:
    """The one number that a constant holds everywhere, as a NumPy scalar; None if it is none."""
    if isinstance(node.op, Full):
        return node.op.dtype.type(node.op.value)
    if node.op is None and isinstance(node.storage, np.ndarray) and node.storage.shape == ():
        return node.storage[()]
    return None


def _full(like: Node, value: Any) -> Full:
    shape, dtype = spec(like)
    return Full(shape, value.item(), dtype)
