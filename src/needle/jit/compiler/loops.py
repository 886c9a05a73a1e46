"""Code of one `Kernel`: its loops, the phases inside them, reductions, and what is stored.

The loops are those of `nest.py`. The last one is vectorised: it takes a vector of elements a turn,
and what is left at its end under a mask. A reduction is unrolled over several independent sums,
which hide the latency of additions::

    before: a step                   after: code for 8 lanes

    s[i] = Σⱼ x[i, j]                for i in the chunks of the call:
                                         a, b, c, d = 0, 0, 0, 0        (vectors)
                                         for j < n, 32 a turn:
                                             a, b, c, d += x[i, j ...]
                                         s[i] = sum of the lanes of a + b + c + d
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...graph.kinds import Reduction
from ...native.values import I64, Value
from ...native.vectors import Builder
from .access import spec
from .expression import Step
from .memory import Memory
from .nest import Nest
from .phases import Pass
from .reductions import BLOCK, Accumulators, Part, combined, total
from .scope import Scope
from .symbols import CODE, Symbol, register_type
from .tiles import Bounds, Tiles

ACCUMULATORS = 4
"""Independent sums in a reduction: a power of two."""
HIDING = 64
"""Operators of a kernel beyond which they alone hide the latency of an addition."""

Body = Callable[[Scope, Sequence[Value]], list[Value]]


def write(
    b: Builder,
    nest: Nest,
    what: Pass,
    memory: Memory,
    bounds: tuple[Value, Value],
    sums: Value | None,
) -> None:
    """Append the loops of a pass of a kernel.

    Args:
        b: Builder of the function.
        nest: The kernel's loops.
        what: The pass.
        memory: Where values lie.
        bounds: First item and end, or first part and end, of what the nest shares out.
        sums: Where the sums of parts lie, if there are parts.
    """
    top = Scope(b, memory, [None] * len(nest.kernel.loops))
    if sums is None:
        writer = _Writer(b, nest, what)
        writer.prepare(top)
        if nest.flat:
            writer.vectors(top, *bounds)
            return
        with b.loop(*bounds) as loop:
            writer.item(top, loop.index)
        return
    with b.loop(*bounds) as parts:
        writer = _Writer(b, nest, what, Part(b, nest, parts.index, sums))
        writer.prepare(top)
        with b.loop(0, nest.items) as loop:
            writer.item(top, loop.index)


class _Writer:
    """Appends the loops of one nest to a function."""

    def __init__(self, b: Builder, nest: Nest, what: Pass, part: Part | None = None) -> None:
        self.b = b
        self.nest = nest
        self.what = what
        self.part = part
        self.kernel = nest.kernel
        self.number = b.constant(0, I64)  # of the item
        self.tiles = Tiles(b, nest.tiling) if nest.tiling else None
        self.lanes = nest.lanes if nest.vector is not None else 0
        self.reads = [read for read in nest.reads if read[0] not in nest.kernel.steps]

    def prepare(self, scope: Scope) -> None:
        """Read what the loops inside a scope do not move through."""
        scope.prepare(self.reads, self.lanes)

    def item(self, scope: Scope, item: Value) -> None:
        """One outer position, one vector of them, or one tile."""
        nest = self.nest
        self.number = item
        scope, bounds = self._placed(scope, item)
        self.prepare(scope)
        if self.tiles and nest.tiling:
            rows, columns = (bounds[loop] for loop in nest.tiling[:2])
            self.tiles.fill(scope, rows, columns)
            self._rows(scope, nest.tiling.row, rows, columns)
        elif nest.by_column:
            self.vectors(scope, *bounds[nest.loops[-1]])
        else:
            self.phases(scope)

    def _placed(self, scope: Scope, item: Value) -> tuple[Scope, dict[int, Bounds]]:
        """The scope inside outer loops, whose counters are the digits of one number.

        Loops of which an item takes in several positions are not entered: of them, the bounds.
        """
        b, nest, bounds = self.b, self.nest, dict[int, Bounds]()
        places = b.digits(item, [nest.count(loop) for loop in nest.outer])
        for loop, place in zip(nest.outer, places, strict=True):
            span = nest.spans[loop]
            if span == 1:
                scope = scope.inside(loop, place)
            else:
                start = place * span
                bounds[loop] = start, b.minimum(b.constant(nest.sizes[loop], I64), start + span)
        return scope, bounds

    def _rows(self, scope: Scope, loop: int, rows: Bounds, columns: Bounds) -> None:
        """The rows of a tile."""
        with self.b.loop(*rows) as row:
            inside = scope.inside(loop, row.index)
            self.prepare(inside)
            self.vectors(inside, *columns)

    def vectors(self, scope: Scope, start: Value, stop: Value) -> None:
        """The vector loop, where it is not inside of others."""

        def body(counter: Value, mask: Value | None) -> None:
            inside = scope.inside(self.nest.loops[-1], counter, self.lanes, mask)
            if self.tiles is not None:
                self.tiles.read(inside)
            if not self.nest.flat:
                self.prepare(inside)
            self.phases(inside)

        self.b.vector_loop(start, stop, self.lanes, body)

    # -- phases ------------------------------------------------------------------------------------

    def phases(self, scope: Scope) -> None:
        """All that is done at one outer position."""
        if self.part is not None and self.what.sums:
            self._add_parts(scope, self.part)
        for kind, steps in self.what.phases:
            if kind == "tail" or not self.nest.inner or self.nest.flat:
                for step in steps:
                    self._finish(scope, step, once=kind == "tail")
            else:
                self._run_loop(scope, steps)

    def _add_parts(self, scope: Scope, part: Part) -> None:
        """Reductions from the sums that the pass before left."""
        lanes = self.lanes if self.nest.by_column else 0
        for node in self.what.sums:
            dtype = spec(node).dtype
            value = part.total(node, self.number, register_type(dtype).vector(lanes))
            self._keep(scope, self.kernel.steps[node], Symbol(self.b, value, dtype), once=True)

    def _finish(self, scope: Scope, step: Step, *, once: bool = False) -> None:
        """Compute one step in a scope, keep it in a register there, and store it."""
        node = step.node
        if isinstance(node.op, Reduction):  # over nothing: one element is all
            symbol = CODE.cast(scope.value(node.inputs[0], step.at), spec(node).dtype)
            if node.op.combine == "add" and symbol.dtype.kind == "f":
                symbol = symbol + 0  # which a sum starts with: that of -0.0 is 0.0
        else:
            symbol = scope.body(node, step.at)
        self._keep(scope, step, symbol, once=once)

    def _keep(self, scope: Scope, step: Step, symbol: Symbol, *, once: bool = False) -> None:
        """Remember a value in a scope, and store it: `once`, if all parts compute it."""
        scope.known[step.node, step.home] = symbol
        store = partial(scope.store, step.node, symbol, step.home)
        if once and self.part is not None:
            self.b.when(self.part.is_first, store)
        else:
            store()

    def _run_loop(self, scope: Scope, steps: list[Step]) -> None:
        """One pass over the inner loops."""
        reductions = [step for step in steps if isinstance(step.node.op, Reduction)]
        count, nodes = len(reductions), [step.node for step in reductions]
        copies = ACCUMULATORS if reductions and self.kernel.size < HIDING else 1
        accumulators = Accumulators(self.b, nodes, self.lanes, copies)

        def body(inside: Scope, values: Sequence[Value]) -> list[Value]:
            """One position: the first accumulators take it in and go to the end of the queue."""
            for step in steps:
                if not isinstance(step.node.op, Reduction):
                    self._finish(inside, step)
            pairs = zip(reductions, values, strict=False)
            used = [self._accumulated(step, inside, value) for step, value in pairs]
            return [*values[count:], *used]

        sums = self._nested(scope, self.nest.inner, accumulators.starts, body, accumulators)
        for place, step in enumerate(reductions):
            across = not self.nest.by_column  # else each lane is a column
            value = total(self.b, step.node, sums[place::count], lanes=across)
            if self.part is None:
                self._keep(scope, step, Symbol(self.b, value, spec(step.node).dtype))
            else:
                self.part.put(step.node, self.number, value)

    def _nested(
        self,
        scope: Scope,
        loops: list[int],
        carry: list[Value],
        body: Body,
        accumulators: Accumulators,
    ) -> list[Value]:
        """The inner loops one in another; the innermost one takes several positions a turn."""
        loop, *rest = loops
        copies, lanes = accumulators.copies, self.lanes if loop == self.nest.vector else 0

        def turn(counter: Value, mask: Value | None, *values: Value) -> list[Value]:
            inside = scope.inside(loop, counter, lanes, mask)
            if rest:
                return self._nested(inside, rest, list(values), body, accumulators)
            return body(inside, values)

        def run(begin: Any, end: Any, carry: list[Value]) -> list[Value]:
            unroll = 1 if rest else copies
            return [*self.b.vector_loop(begin, end, lanes or 1, turn, carry, unroll)]

        turns = self.nest.sizes[loop]
        bounds: tuple[Any, Any] = 0, turns
        if self.part is not None and loop == self.nest.inner[0]:
            bounds, turns = self.part.bounds, -(-turns // self.nest.parts)  # at most
        return accumulators.run(bounds, turns, self._block(loops, copies), run, carry)

    def _block(self, loops: list[int], copies: int) -> int:
        """Turns of the first of some loops in which an accumulator takes in `BLOCK` elements."""
        lanes = {loop: self.lanes if loop == self.nest.vector else 1 for loop in loops}
        inside = math.prod(-(-self.nest.sizes[loop] // lanes[loop]) for loop in loops[1:])
        return max(1, BLOCK * copies // max(inside, 1)) * lanes[loops[0]]

    # -- reductions --------------------------------------------------------------------------------

    def _accumulated(self, step: Step, inside: Scope, old: Value) -> Value:
        """An accumulator that has taken in one element, or one in each lane."""
        node = step.node
        symbol: Symbol = inside.value(node.inputs[0], step.at)
        value = symbol.to(spec(node).dtype)
        if old.type.lanes and not value.type.lanes:
            value = self.b.splat(value, old.type.lanes)
        new = combined(self.b, node, old, value)
        if inside.mask is not None and not self.nest.by_column:
            return self.b.select(inside.mask, new, old)
        return new
