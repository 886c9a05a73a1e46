"""Checks of indices that no kernel would look at.

An index is checked where the element that it picks is computed. What nobody uses, or uses in part,
is not computed, or in part. Then all indices are looked at by a kernel of their own, which picks
from a table that takes no memory::

    before                          after

    %2 = Take(axis=0) %0 %1         %2 = Take(axis=0) %0 %1
    %3 = Slice(0:1) %2              %3 = Slice(0:1) %2
                                    %4 = Full((2,), 0)
                                    %5 = Take(axis=0) %4 %1
                                    %6 = Summation() %5
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...graph.kinds import Indexed, Reduction
from ...graph.node import Node
from ...ops.contraction import MatMul
from ...ops.creation import Full
from ...ops.indexing import OneHot, Pick, ScatterAdd, Take
from ...ops.reduction import Summation
from ...ops.slicing import Slice
from ...shapes import Spec
from .access import size_of, spec
from .expression import is_special

INT64 = np.dtype(np.int64)


def checks(nodes: Sequence[Node], used: Sequence[Node], roots: Iterable[Node]) -> list[Node]:
    """What looks at the indices that are not all looked at otherwise.

    Args:
        nodes: What was recorded, in program order.
        used: What is computed of it.
        roots: Nodes that are computed whole, whoever uses them.
    """
    whole = _computed_whole(used, roots)
    found = [node for node in nodes if isinstance(node.op, Indexed)]
    looked_at = {_checked(node) for node in found if node in whole}
    made: list[Node] = []
    for node in found:
        what = _checked(node)
        if what not in looked_at:
            looked_at.add(what)
            made += _check(*what, node.where)
    return made


def _computed_whole(nodes: Sequence[Node], roots: Iterable[Node]) -> set[Node]:
    """The nodes of which every element is computed.

    Those that are put in memory, and what leads to one without a slice.
    """
    always = [n for n in nodes if isinstance(n.op, MatMul | Reduction) or is_special(n)]
    whole = {*roots, *always}
    for node in reversed(nodes):
        if node in whole and not isinstance(node.op, Slice):
            whole.update([child for child in node.inputs if _size(child)])
    return {node for node in whole if _size(node)}


def _size(node: Node) -> int:
    specs = node.specs()
    return size_of((specs if isinstance(specs, Spec) else specs[0]).shape)


def _checked(node: Node) -> tuple[Node, int, bool]:
    """The indices of a node, the size of their axis, and whether they may be negative."""
    op = node.op
    if isinstance(op, OneHot):
        return node.inputs[0], op.n, False
    values, index = node.inputs
    if isinstance(op, Pick):
        return index, spec(values).shape[-1], False
    assert isinstance(op, Take | ScatterAdd)
    shape = op.shape if isinstance(op, ScatterAdd) else spec(values).shape
    return index, shape[op.axis], True


def _check(index: Node, size: int, negative: bool, where: Any) -> list[Node]:
    """The nodes that look at all of some indices."""
    shape = spec(index).shape
    if not size_of(shape):
        return []
    op, table_shape = (Take(), (size,)) if negative else (Pick(), (*shape, size))
    table = Node(Full(table_shape, 0, INT64), (), None, False, Spec(table_shape, INT64), where)
    picked = Node(op, (table, index), None, False, Spec(shape, INT64), where)
    return [table, picked, Node(Summation(), (picked,), None, False, Spec((), INT64), where)]
