"""Reading and computing values inside loops, while their code is written.

A `Scope` knows the loops around it and the values that are in registers there: what was computed
once is not computed again. Scopes are nested as the loops are, and what does not depend on an inner
loop is read before it (loop-invariant code motion)::

    before: an expression               after: code, and the scope that each line belongs to

    y[i, j] = x[i, j] * tanh(b[j])      for j:                  j:     b_j = load b + j
                                                                       t = tanh(b_j)
                                            for i:              j, i:  x_ij = load x + 5·i + j
                                                                       store x_ij * t
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...graph.kinds import Pointwise
from ...graph.node import Node
from ...native.values import I64, Value
from ...native.vectors import Builder
from ...ops.creation import Arange, Full
from ...ops.indexing import OneHot, Take
from .access import Entry, Index, address, dense, spec
from .expression import Evaluation, Read, UnsupportedError
from .memory import Elements, Memory
from .symbols import BOOL, CODE, FLOAT32, FLOAT64, INT64, DType, Symbol, register_type


@dataclass(eq=False)
class Scope(Evaluation):
    """The inside of some loops.

    Attributes:
        b: Where code is appended.
        memory: Where values lie.
        loops: The value of each loop's counter here; None for a loop that is not entered yet.
        vector: The loop that runs over the lanes of vectors, None for none.
        lanes: Lanes of a vector here, 0 for scalars.
        mask: The lanes that are there, None for all.
        known: The values that are in registers.
    """

    b: Builder
    memory: Memory
    loops: list[Value | None]
    vector: int | None = None
    lanes: int = 0
    mask: Value | None = None
    known: dict[Read, Any] = field(default_factory=dict[Read, Any])

    def __post_init__(self) -> None:
        self.stored = self.memory.stored

    def inside(self, loop: int, counter: Value, lanes: int = 0, mask: Value | None = None) -> Scope:
        """The scope inside one more loop."""
        loops = list(self.loops)
        loops[loop] = counter
        vector = loop if lanes else self.vector
        lanes, mask = lanes or self.lanes, mask or self.mask
        return Scope(self.b, self.memory, loops, vector, lanes, mask, dict(self.known))

    # -- values ------------------------------------------------------------------------------------

    def compute(self, node: Node, op: Pointwise, values: list[Symbol]) -> Any:
        """What an expression makes of its operands, in the dtype that the shape rule says."""
        count = len(values) - op.scalars
        values, weak = values[:count], [copy(symbol) for symbol in values[count:]]
        for symbol in weak:
            symbol.weak = True
        if op.float_result:
            values = [x if x.dtype.kind == "f" else CODE.cast(x, FLOAT64) for x in values]
        try:
            result = op.expression(CODE, *values, *weak)
        except (AttributeError, TypeError) as error:  # of a user's operator, which calls NumPy, say
            raise UnsupportedError(f"the expression of {op!r} has no code: {error}") from error
        specs: Any = node.specs()
        if isinstance(result, tuple):
            return tuple([CODE.cast(x, s.dtype) for x, s in zip(result, specs, strict=True)])
        if isinstance(result, Symbol):
            return CODE.cast(result, specs.dtype)
        raise UnsupportedError(f"the expression of {op!r} gave a {type(result).__name__}")

    def constant(self, op: Full) -> Symbol:
        """A number in a register."""
        number = bool(op.value) if op.dtype == BOOL else op.value
        number = int(number) if op.dtype.kind in "biu" else float(number)
        return Symbol(self.b, self.b.constant(number, register_type(op.dtype)), op.dtype)

    # -- memory ------------------------------------------------------------------------------------

    @property
    def elements(self) -> Elements:
        """What reads and writes elements here."""
        return Elements(self.b, self.lanes, self.mask)

    def load(self, node: Node, at: Index) -> Symbol:
        """Read a stored value from memory."""
        place = self.element(node, at)
        return self.elements.load(self.memory.pointer(node), spec(node).dtype, *place)

    def store(self, node: Node, symbol: Symbol, at: Index) -> None:
        """Write a value to its memory."""
        place = self.element(node, at)
        self.elements.store(symbol, self.memory.pointer(node), spec(node).dtype, *place)

    def element(self, node: Node, at: Index) -> tuple[Value | int, int]:
        """Number of the (first) element read, and the stride from lane to lane."""
        offset, strides = address(at, spec(node).shape, len(self.loops))
        index: Value | int = offset - self.memory.given.start(node)
        for counter, stride in zip(self.loops, strides, strict=True):
            if stride and counter is not None:
                step = counter if stride == 1 else counter * stride
                index = step + index if isinstance(index, Value) or index else step
        return index, 0 if self.vector is None else strides[self.vector]

    # -- indices -----------------------------------------------------------------------------------

    def position(self, entry: Entry) -> Value:
        """Where along an axis the loops are: an i64, or a vector of them."""
        loop, first, step = entry
        counter = None if loop is None else self.loops[loop]
        if counter is None:
            return self.b.constant(first, I64)
        place = counter * step + first
        if loop == self.vector and self.lanes:
            return self.b.splat(place, self.lanes) + self.b.iota(self.lanes, I64) * step
        return place

    def checked(self, symbol: Symbol, size: int, *, negative: bool) -> Value:
        """An index as an i64 inside its axis; one that is outside sets the status; 0 is used."""
        b = self.b
        symbol = symbol if symbol.dtype != BOOL else CODE.cast(symbol, INT64)
        x = symbol.value
        low = -size if negative else 0
        good = b.binary("and", b.compare(">=", x, low), b.compare("<", x, size))
        if symbol.dtype.kind == "f":
            good = b.binary("and", good, b.compare("==", b.intrinsic("trunc", x), x))
        safe = b.select(good, x, 0)
        whole = b.cast(safe, I64) if symbol.dtype.kind == "f" else safe
        bad = b.binary("xor", good, b.constant(1, good.type))
        if self.mask is not None and bad.type.lanes:
            bad = b.binary("and", bad, self.mask)
        flag = partial(b.store, b.constant(1, I64), self.memory.status)
        b.when(b.any(bad), flag, unlikely=True)
        return b.select(whole < 0, whole + size, whole) if negative else whole

    def one_hot(self, op: OneHot, place: Symbol, entry: Entry) -> Symbol:
        """1 where the loops are at an index, else 0."""
        row = self.checked(place, op.n, negative=False)
        column = self.position(entry)
        same = Symbol(self.b, row, INT64) == Symbol(self.b, column, INT64)
        return CODE.cast(same, op.dtype)

    def pick(self, node: Node, axis: int, where: Index, rest: Index) -> Symbol:
        """An element at a position that another value holds."""
        table, places = node.inputs
        picked, size = self.value(places, where), spec(table).shape[axis]
        is_one = not self.lanes or all(loop != self.vector for loop, _, _ in where)
        if is_one and picked.value.type.lanes:  # read for vectors: one number in all lanes
            picked = Symbol(self.b, self.b.extract(picked.value, 0), picked.dtype)
        place = self.checked(picked, size, negative=isinstance(node.op, Take))
        if isinstance(table.op, Full):  # the same number anywhere, but not at any index
            return self.constant(table.op)
        element, stride = self.element(table, rest)
        along = place * dense(spec(table).shape)[axis]
        pointer, dtype, elements = self.memory.pointer(table), spec(table).dtype, self.elements
        if not along.type.lanes:
            return elements.load(pointer, dtype, along + element, stride)
        return elements.gather(pointer, dtype, along + elements.spread(element, stride))

    def count(self, op: Arange, dtype: DType, entry: Entry) -> Symbol:
        """Where the loops are along an axis, as a number."""
        place = Symbol(self.b, self.position(entry), INT64)
        return CODE.cast(place * op.step + op.start, dtype)

    # -- what is read before loops -----------------------------------------------------------------

    def prepare(self, reads: Iterable[Read], lanes: int) -> None:
        """Read into registers what does not depend on loops that are not entered yet.

        Numbers are made vectors of `lanes`, here once rather than at each use.
        """
        for node, at in reads:
            if (node, at) in self.known or not self.memory.has(node):
                continue
            shape, dtype = spec(node)
            strides = address(at, shape, len(self.loops))[1]
            if any(s and self.loops[k] is None for k, s in enumerate(strides)):
                continue
            symbol = self.load(node, at)
            if lanes and not symbol.value.type.lanes:
                if dtype == FLOAT64:
                    symbol.ready[FLOAT32] = self.b.splat(symbol.to(FLOAT32), lanes)
                symbol.value = self.b.splat(symbol.value, lanes)
            self.known[node, at] = symbol
