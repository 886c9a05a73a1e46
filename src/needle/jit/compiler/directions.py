"""Along which loops a step goes through memory, which decides whether it may join a kernel.

Elements that follow each other in memory are read and stored as vectors. A kernel that adds up goes
through memory in one order only, so its steps should have a loop in common along which their
operands, or what they store, lie::

    before: one kernel, by rows of y             after: two, and none goes against memory

    m[i] = max y[j, i]            along i        m[i] = max y[j, i]                 along i
    e[i, j] = exp(y[j, i] - m[i]) stored along j e[i, j] = exp(y[j, i] - m[i])      in tiles

An elementwise kernel may do both: it copies tiles (`tiles`).
"""

from __future__ import annotations

from collections.abc import Iterable

from ...graph.kinds import Reduction
from ...graph.node import Node
from ...native.transposing import BLOCK
from ...shapes import Shape
from .access import Index, address, spec
from .expression import Read, Step

Directions = frozenset[int] | None
"""Loops along which values of the whole domain lie; None if a step stores across what it reads."""


def directions(node: Node, index: Index, reads: Iterable[Read], loops: Shape) -> Directions:
    """Where a step goes: along the loops of its operands and, if it is stored whole, of itself.

    Args:
        node: The step.
        index: The index at which its operands are read, and it is stored if it is no reduction.
        reads: What it reads from memory.
        loops: Sizes of the loops.
    """
    found = {_along(*read, loops) for read in reads} - {None}
    own = None if isinstance(node.op, Reduction) else _along(node, index, loops)
    if own is not None and found and own not in found:
        return None
    return frozenset(loop for loop in (*found, own) if loop is not None)


def agree(steps: Iterable[Step], new: Step) -> bool:
    """Whether a step goes along a loop in common with each of others, and none stores across."""
    own, others = new.along, [step.along for step in steps]
    if own is None or None in others:
        return False
    return all(own & other for other in others if own and other)


def _along(node: Node, at: Index, loops: Shape) -> int | None:
    """The loop along which elements of a value of all loops follow each other, if it is long."""
    strides = address(at, spec(node).shape, len(loops))[1]
    if any(size > 1 and not stride for size, stride in zip(loops, strides, strict=True)):
        return None
    return next((k for k, s in enumerate(strides) if s == 1 and loops[k] >= BLOCK), None)
