"""Code of one `Kernel`: its loops, the phases inside them, reductions, and what is stored.

For each outer position a kernel goes through phases. A "loop" phase runs over the inner loops: it adds up
reductions and stores values of the whole domain. A "tail" phase computes values of the outer position alone,
from reductions that are done. The last loop runs over the lanes of vectors, whether it is an outer or an
inner one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph.kinds import Reduction
from ..graph.node import Node
from ..native.llvm import Host
from ..native.values import Value
from ..native.vectors import Builder
from ..ops.creation import Arange, Full
from ..ops.indexing import OneHot, Pick, Take
from .access import Index, address, own_index
from .fuse import Kernel, Unsupported, children_of, is_leaf_of_expression, reads_of
from .scope import Memory, Scope
from .symbols import CODE, Symbol, register_type

CHUNK_WORK = 400_000
"""Elements times steps of one chunk, about 10 microseconds: below, sharing costs more than it gains."""
CHUNK_BLOCKS = 4
"""Least number of neighbouring vectors of columns in a chunk: rows share cache lines."""
FLAT_CHUNK = 16_384
"""Elements of one chunk of a flat kernel."""
ACCUMULATORS = 4
"""Independent sums in a reduction: they hide the latency of additions."""

Phase = tuple[str, list[Node]]


class Nest:
    """The loops of a kernel after neighbouring ones are merged, and its cut into chunks.

    Args:
        kernel: The kernel.
        stored: The nodes in memory.
        host: For the width of vectors.
    """

    def __init__(self, kernel: Kernel, stored: set[Node], host: Host) -> None:
        self.kernel = kernel
        self.stored = stored
        self.steps = [(node, body_index(node, kernel)) for node in kernel.steps]
        self.reads = {node: reads_of(node, at, stored) for node, at in self.steps}
        self.lanes = _lanes(kernel, host)
        # Whether some value depends on where the loops are, beside through memory.
        self.uses_positions = any(_finds_position(node, at, stored) for node, at in self.steps)
        groups = self._groups()
        self.merged = {loop: group for group in groups for loop in group[:-1]}
        self.loops = [group[-1] for group in groups]
        self.sizes = {group[-1]: math.prod(kernel.loops[k] for k in group) for group in groups}
        self.vector = self.loops[-1] if self.loops else None
        outer = set(kernel.outer if kernel.outer is not None else self.loops[:-1])
        self.flat = kernel.outer is None and len(self.loops) == 1
        self.outer = [k for k in self.loops if k in outer]
        self.inner = [k for k in self.loops if k not in outer]
        self.by_column = self.vector in self.outer
        self.phases = _phases(self)
        self._cut()

    def _groups(self) -> list[list[int]]:
        """Neighbouring loops that every access walks through as if they were one."""
        kernel = self.kernel
        strides = [s for node, at in self._accesses() for s in [_strides(node, at, len(kernel.loops))]]
        groups: list[list[int]] = []
        for loop, size in enumerate(kernel.loops):
            before = groups[-1][-1] if groups else None
            same_side = before is not None and (
                kernel.outer is None or (before in kernel.outer) == (loop in kernel.outer)
            )
            if same_side and not self.uses_positions and all(s[before] == s[loop] * size for s in strides):
                groups[-1].append(loop)
            else:
                groups.append([loop])
        return groups

    def _accesses(self) -> list[tuple[Node, Index]]:
        reads = [read for reads in self.reads.values() for read in reads]
        return [*reads, *[(node, self.kernel.home[node]) for node in self.kernel.steps]]

    def _cut(self) -> None:
        inner = math.prod(self.sizes[k] for k in self.inner)
        if self.flat:
            self.items, each = self.sizes[self.loops[0]], 1
        elif self.by_column:
            self.blocks = -(-self.sizes[self.vector] // self.lanes)  # type: ignore[index]
            self.items = math.prod(self.sizes[k] for k in self.outer[:-1]) * self.blocks
            each = inner * self.lanes
        else:
            self.items, each = math.prod(self.sizes[k] for k in self.outer), inner
        if self.flat:
            self.per_chunk = FLAT_CHUNK
        else:
            least = CHUNK_BLOCKS if self.by_column else 1
            self.per_chunk = max(least, CHUNK_WORK // max(each * len(self.kernel.steps), 1))
        self.chunks = -(-self.items // self.per_chunk)


def body_index(node: Node, kernel: Kernel) -> Index:
    """The index at which a step's expression is read."""
    if isinstance(node.op, Reduction):
        spec: Any = node.inputs[0].specs()
        return own_index(spec.shape)
    return kernel.home[node]


def write(b: Builder, nest: Nest, pointers: dict[Any, Value], bounds: Sequence[Value]) -> None:
    """Write the body of a kernel: chunks begin ... end - 1.

    Args:
        b: Builder of the function.
        nest: The kernel's loops.
        pointers: Where values lie.
        bounds: First item and end; for a flat kernel the elements, so that its code fits any size.
    """
    kernel = nest.kernel
    memory = Memory(pointers, nest.stored)
    top = Scope(b, memory, [None] * len(kernel.loops))
    own = set(kernel.steps)
    reads = [(n, at) for found in nest.reads.values() for n, at in found if n not in own]
    top.prepare(reads, nest.lanes if nest.vector is not None else 0)
    begin, end = bounds
    if nest.flat:
        _vector_loop(b, nest, top, begin, end, reads)
        return
    with b.loop(begin, end) as loop:
        _item(b, nest, top, loop.index, reads)
    return


def _item(b: Builder, nest: Nest, top: Scope, item: Value, reads: list[tuple[Node, Index]]) -> None:
    """One outer position, or one vector of them."""
    scope, rest = top, item
    if nest.by_column:
        block = b.binary("urem", rest, nest.blocks)
        rest = b.binary("udiv", rest, nest.blocks)
    for loop in reversed(nest.outer[:-1] if nest.by_column else nest.outer):
        scope = scope.inside(loop, b.binary("urem", rest, nest.sizes[loop]))
        rest = b.binary("udiv", rest, nest.sizes[loop])
    if nest.by_column:
        start = block * nest.lanes
        stop = b.minimum(b.constant(nest.sizes[nest.vector], start.type), start + nest.lanes)  # type: ignore[index]
        _vector_loop(b, nest, scope, start, stop, reads)
    else:
        scope.prepare(reads, nest.lanes if nest.vector is not None else 0)
        _run_phases(b, nest, scope)


def _vector_loop(
    b: Builder, nest: Nest, scope: Scope, start: Value, stop: Value, reads: list[tuple[Node, Index]]
) -> None:
    vector: Any = nest.vector

    def body(counter: Value, mask: Value | None) -> tuple[()]:
        inside = scope.inside(vector, counter, nest.lanes, mask)
        if not nest.flat:
            inside.prepare(reads, nest.lanes)
        _run_phases(b, nest, inside)
        return ()

    b.vector_loop(start, stop, nest.lanes, body)


def structure(nest: Nest, place: Callable[[Node], int]) -> Any:
    """What the code of a kernel follows from: kernels with the same structure share it.

    Args:
        nest: The kernel's loops.
        place: Number of the pointer to a stored value.
    """
    seen: dict[tuple[Node, Index], int] = {}
    entries: list[Any] = []

    def visit(node: Node, at: Index, root: bool = False) -> int:
        if (node, at) not in seen or root:
            spec: Any = node.specs()
            if not root and is_leaf_of_expression(node, nest.stored):
                constant = ("full", node.op.value) if isinstance(node.op, Full) else None
                where = constant or (place(node), _strides_of(node, at, len(nest.kernel.loops)))
                entry: Any = ("leaf", where, spec.dtype.name)
            else:
                children = tuple([visit(child, index) for child, index in children_of(node, at)])
                key = id(node) if node.op is None or node.op.key is None else node.op.key
                entry = (key, str(node.specs() if nest.uses_positions else None), children)
            seen[node, at] = len(entries)
            entries.append(entry)
        return seen[node, at]

    for node, at in nest.steps:
        visit(node, at, root=True)
        spec: Any = node.specs()
        home = _strides_of(node, nest.kernel.home[node], len(nest.kernel.loops))
        entries.append(("store", place(node), home, spec.dtype.name))
    shape = "flat" if nest.flat else (nest.kernel.loops, nest.kernel.outer)
    return shape, tuple(entries)


def _strides_of(node: Node, at: Index, loops: int) -> tuple[int, tuple[int, ...]]:
    spec: Any = node.specs()
    return address(at, spec.shape, loops) if at else (0, ())


# -- phases ----------------------------------------------------------------------------------------------


def _phases(nest: Nest) -> list[Phase]:
    """The steps in phases: even ones are loops, odd ones tails of the loop before."""
    place: dict[Node, int] = {}
    kernel = nest.kernel
    for node, at in nest.steps:
        full = _is_full(node, nest)
        earliest = 0 if full else 1
        for source, index in nest.reads[node]:
            if source in place:
                earliest = max(earliest, _after(source, index, place[source], full, nest))
        place[node] = earliest
    if not nest.inner or nest.flat:
        return [("loop", list(kernel.steps))]
    count = max(place.values()) + 1
    groups: list[Phase] = [("tail" if k % 2 else "loop", []) for k in range(count)]
    for node in kernel.steps:
        groups[place[node]][1].append(node)
    return [phase for phase in groups if phase[1]]


def _after(source: Node, index: Index, place: int, full: bool, nest: Nest) -> int:
    """The first phase in which a value that is made in phase `place` can be read."""
    if isinstance(source.op, Reduction):
        return place + 2 if full else place + 1
    if not _is_full(source, nest):
        return place + 1 if full else place
    return place if index == nest.kernel.home[source] else place + 2


def _is_full(node: Node, nest: Nest) -> bool:
    """Whether a step runs over the inner loops, rather than at the outer position alone."""
    if isinstance(node.op, Reduction):
        return True
    outer = nest.kernel.outer
    loops = {entry[0] for entry in nest.kernel.home[node]} - {None}
    return outer is None or not loops <= set(outer) or len(outer) == len(nest.kernel.loops)


def _run_phases(b: Builder, nest: Nest, scope: Scope) -> None:
    for kind, steps in nest.phases:
        if kind == "tail" or not nest.inner or nest.flat:
            for node in steps:
                _finish(nest, scope, scope, node)
        else:
            _run_loop(b, nest, scope, steps)


def _finish(nest: Nest, home: Scope, scope: Scope, node: Node) -> None:
    """Compute one step in a scope, keep it in a register there, and store it."""
    at = nest.kernel.home[node]
    if isinstance(node.op, Reduction):  # over nothing: its element is the result
        symbol = CODE.cast(scope.value(node.inputs[0], body_index(node, nest.kernel)), _dtype(node))
    else:
        symbol = scope.body(node, at)
    scope.known[node, at] = symbol
    scope.store(node, symbol, at)


def _run_loop(b: Builder, nest: Nest, scope: Scope, steps: list[Node]) -> None:
    """One pass over the inner loops."""
    reductions = [node for node in steps if isinstance(node.op, Reduction)]
    copies = ACCUMULATORS if reductions else 1
    lanes = nest.lanes if nest.vector is not None else 0
    carry = [_identity(b, node, lanes) for _ in range(copies) for node in reductions]

    def body(inside: Scope, values: Sequence[Value]) -> list[Value]:
        """One inner position: the first accumulators take it in and go to the end of the queue."""
        for node in steps:
            if not isinstance(node.op, Reduction):
                _finish(nest, scope, inside, node)
        used = [
            _accumulate(b, nest, node, inside, value)
            for node, value in zip(reductions, values, strict=False)
        ]
        return [*values[len(reductions) :], *used]

    sums = _nested(b, nest, scope, nest.inner, carry, body, copies)
    for place, node in enumerate(reductions):
        total = sums[place]
        for copy in range(1, copies):
            total = _combine(b, node, total, sums[place + copy * len(reductions)])
        if not nest.by_column and total.type.lanes:
            total = b.reduce(lambda x, y, node=node: _combine(b, node, x, y), total)
        symbol = Symbol(b, total, _dtype(node))
        at = nest.kernel.home[node]
        scope.known[node, at] = symbol
        scope.store(node, symbol, at)


def _nested(
    b: Builder, nest: Nest, scope: Scope, loops: list[int], carry: list[Value], body: Any, copies: int
) -> list[Value]:
    """The inner loops one in another; the innermost takes several positions a turn if it reduces."""
    loop, rest = loops[0], loops[1:]
    size = nest.sizes[loop]
    if not rest and loop == nest.vector:

        def vector(counter: Value, mask: Value | None, *values: Value) -> list[Value]:
            return body(scope.inside(loop, counter, nest.lanes, mask), values)

        return list(b.vector_loop(0, size, nest.lanes, vector, carry, unroll=copies))
    step = copies if not rest else 1
    values = carry
    for start, stop, width in [(0, size - size % step, step), (size - size % step, size, 1)]:
        if start == stop:
            continue
        with b.loop(start, stop, width, values) as turn:
            inner: Sequence[Value] = turn.values
            for part in range(width):
                inside = scope.inside(loop, turn.index + part if part else turn.index)
                inner = body(inside, inner) if not rest else _nested(b, nest, inside, rest, list(inner), body, copies)
            turn.update(*inner)
        values = list(turn.values)
    return values


def _accumulate(b: Builder, nest: Nest, node: Node, inside: Scope, total: Value) -> Value:
    symbol = inside.value(node.inputs[0], body_index(node, nest.kernel))
    value = symbol.to(_dtype(node))
    if total.type.lanes and not value.type.lanes:
        value = b.splat(value, total.type.lanes)
    new = _combine(b, node, total, value)
    if inside.mask is not None and not nest.by_column:
        return b.select(inside.mask, new, total)
    return new


def _combine(b: Builder, node: Node, x: Value, y: Value) -> Value:
    op: Any = node.op
    return x + y if op.combine == "add" else getattr(b, op.combine)(x, y)


def _identity(b: Builder, node: Node, lanes: int) -> Value:
    """What a reduction starts with."""
    op: Any = node.op
    dtype = _dtype(node)
    kind = register_type(dtype).vector(lanes)
    if op.combine == "add":
        return b.constant(0, kind)
    if dtype.kind == "b":
        raise Unsupported("extremes of bools")
    largest = np.inf if dtype.kind == "f" else int(np.iinfo(dtype).max)
    smallest = -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)
    return b.constant(smallest if op.combine == "maximum" else largest, kind)


def _dtype(node: Node) -> Any:
    spec: Any = node.specs()
    return spec.dtype


def _lanes(kernel: Kernel, host: Host) -> int:
    """As many lanes as a register has of the kernel's main dtype."""
    dtypes = {_dtype(node) for node in kernel.steps}
    return host.lanes if any(d.itemsize <= 4 for d in dtypes) else max(2, host.lanes // 2)


def _strides(node: Node, at: Index, loops: int) -> tuple[int, ...]:
    spec: Any = node.specs()
    return address(at, spec.shape, loops)[1] if at else (0,) * loops


def _finds_position(node: Node, at: Index, stored: set[Node]) -> bool:
    pending = [(child, at) for child in node.inputs]
    seen: set[Node] = set()
    while pending:
        value, index = pending.pop()
        if value in seen or is_leaf_of_expression(value, stored):
            continue
        seen.add(value)
        if isinstance(value.op, OneHot | Take | Pick | Arange):
            return True
        pending.extend(children_of(value, index))
    return isinstance(node.op, OneHot | Take | Pick | Arange)
