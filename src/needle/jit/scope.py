"""Reading and computing values inside loops, while their code is written.

A `Scope` knows the loops around it and the values that are already in registers there. Scopes are nested as
the loops are: what does not depend on a loop is read before it.
"""

from __future__ import annotations

from typing import Any

from ..graph.node import Node
from ..native.values import I8, I64, Value
from ..native.vectors import Builder
from ..ops.creation import Arange, Full
from ..ops.indexing import OneHot, Pick, Take
from ..ops.tuples import TupleGetItem
from .access import Entry, Index, address, dense, is_view, through
from .fuse import base, is_leaf_of_expression
from .symbols import BOOL, CODE, FLOAT32, FLOAT64, INT64, Symbol, memory_type, register_type


class Memory:
    """Where the stored values of a kernel lie: pointers of its function, by node.

    Args:
        pointers: A pointer for each stored node, and for "status".
        stored: The nodes that are in memory.
    """

    def __init__(self, pointers: dict[Any, Value], stored: set[Node]) -> None:
        self.pointers = pointers
        self.stored = stored


class Scope:
    """The inside of some loops.

    Args:
        b: Where code is appended.
        memory: Where values lie.
        loops: The value of each loop's counter here; None for a loop that is not entered yet.
        vector: The loop that runs over the lanes of vectors, None for none.
        lanes: Lanes of a vector here, 0 for scalars.
        mask: The lanes that are there, None for all.
        parent: The scope around.
    """

    def __init__(
        self,
        b: Builder,
        memory: Memory,
        loops: list[Value | None],
        vector: int | None = None,
        lanes: int = 0,
        mask: Value | None = None,
        parent: Scope | None = None,
    ) -> None:
        self.b = b
        self.memory = memory
        self.loops = loops
        self.vector = vector
        self.lanes = lanes
        self.mask = mask
        self.parent = parent
        self.known: dict[tuple[Node, Index], Any] = {}

    def inside(self, loop: int, counter: Value, lanes: int = 0, mask: Value | None = None) -> Scope:
        """The scope inside one more loop."""
        loops = list(self.loops)
        loops[loop] = counter
        vector = loop if lanes else self.vector
        return Scope(self.b, self.memory, loops, vector, lanes or self.lanes, mask or self.mask, self)

    # -- values --------------------------------------------------------------------------------------

    def value(self, node: Node, at: Index) -> Any:
        """The value of a node at an index: a symbol, or a tuple of them."""
        found = self.find(node, at)
        if found is None:
            found = self.known[node, at] = self._computed(node, at)
        return found

    def find(self, node: Node, at: Index) -> Any:
        """A value that is in a register already."""
        scope: Scope | None = self
        while scope is not None:
            if (node, at) in scope.known:
                return scope.known[node, at]
            scope = scope.parent
        return None

    def _computed(self, node: Node, at: Index) -> Any:
        op: Any = node.op
        if is_leaf_of_expression(node, self.memory.stored):
            return self._constant(node) if isinstance(op, Full) else self.load(node, at)
        return self.body(node, at)

    def body(self, node: Node, at: Index) -> Any:
        """What a node's operator makes of its inputs, even if the node itself is in memory."""
        op: Any = node.op
        if is_view(node):
            return self.value(node.inputs[0], through(node, at))
        if isinstance(op, TupleGetItem):
            return self.value(node.inputs[0], at)[op.index]
        if isinstance(op, OneHot):
            return self._one_hot(node, at)
        if isinstance(op, Take | Pick):
            return self._taken(node, at)
        if isinstance(op, Arange):
            return self._arange(node, at)
        if isinstance(op, Full):
            return self._constant(node)
        count = len(node.inputs) - op.scalars
        operands = [self.value(child, at) for child in node.inputs[:count]]
        if op.float_result:
            operands = [x if x.dtype.kind == "f" else CODE.cast(x, FLOAT64) for x in operands]
        operands += [self._weak(child) for child in node.inputs[count:]]
        return _named(op.expression(CODE, *operands), node)

    def _weak(self, node: Node) -> Symbol:
        symbol = self.value(node, ())
        weak = Symbol(symbol.b, symbol.value, symbol.dtype, weak=True)
        weak.ready = symbol.ready
        return weak

    def _constant(self, node: Node) -> Symbol:
        op: Any = node.op
        number = bool(op.value) if op.dtype == BOOL else op.value
        number = int(number) if op.dtype.kind in "biu" else float(number)
        return Symbol(self.b, self.b.constant(number, register_type(op.dtype)), op.dtype)

    # -- memory --------------------------------------------------------------------------------------

    def pointer(self, node: Node) -> Value:
        """Where a stored value lies."""
        return self.memory.pointers[base(node)]

    def load(self, node: Node, at: Index) -> Symbol:
        """Read a stored value from memory."""
        spec: Any = node.specs()
        index, stride = self._element(at, spec.shape)
        return self._load(self.pointer(node), spec.dtype, index, stride)

    def _load(self, pointer: Value, dtype: Any, index: Value | int, stride: int) -> Symbol:
        kind = memory_type(dtype)
        if not self.lanes or stride == 0:
            return _from_memory(self.b, self.b.load(pointer, kind, index), dtype)
        if stride == 1:
            value = self.b.load(pointer, kind.vector(self.lanes), index, mask=self.mask)
        else:
            value = self.b.gather(pointer, kind.vector(self.lanes), self._spread(index, stride), self.mask)
        return _from_memory(self.b, value, dtype)

    def store(self, node: Node, symbol: Symbol, at: Index) -> None:
        """Write a value to its memory."""
        spec: Any = node.specs()
        index, stride = self._element(at, spec.shape)
        value = symbol.to(spec.dtype)
        if spec.dtype == BOOL:
            value = self.b.cast(value, I8)
        elif spec.dtype.kind in "iu":
            value = self.b.cast(value, memory_type(spec.dtype))
        if self.lanes and stride:
            value = value if value.type.lanes else self.b.splat(value, self.lanes)
            self.b.store(value, self.pointer(node), index, mask=self.mask)
        else:  # what was read for vectors holds one number in all lanes
            value = self.b.extract(value, 0) if value.type.lanes else value
            self.b.store(value, self.pointer(node), index)

    def _element(self, at: Index, shape: Any) -> tuple[Value | int, int]:
        """Number of the (first) element read, and the stride from lane to lane."""
        if not at:
            return 0, 0
        offset, strides = address(at, shape, len(self.loops))
        index: Value | int = offset
        for counter, stride in zip(self.loops, strides, strict=True):
            if stride and counter is not None:
                index = counter * stride + index if stride != 1 else counter + index
        return index, 0 if self.vector is None else strides[self.vector]

    def _spread(self, index: Value | int, stride: int) -> Value:
        lanes = self.b.iota(self.lanes, I64) * stride
        first = index if isinstance(index, Value) else self.b.constant(index, I64)
        return self.b.splat(first, self.lanes) + lanes

    # -- indices -------------------------------------------------------------------------------------

    def position(self, entry: Entry) -> Value:
        """Where along an axis the loops are: an i64, or a vector of them."""
        loop, first, step = entry
        if loop is None or self.loops[loop] is None:
            return self.b.constant(first, I64)
        counter: Any = self.loops[loop]
        place = counter * step + first
        if loop == self.vector and self.lanes:
            return self.b.splat(place, self.lanes) + self.b.iota(self.lanes, I64) * step
        return place

    def checked(self, symbol: Symbol, size: int, *, negative: bool) -> Value:
        """An index as an i64 inside its axis; one that is outside sets the status, and 0 is used."""
        b = self.b
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
        status = self.memory.pointers["status"]

        def flag() -> tuple[()]:
            b.store(b.constant(1, I64), status)
            return ()

        b.either(b.any(bad), flag, unlikely=True)
        return b.select(whole < 0, whole + size, whole) if negative else whole

    def _one_hot(self, node: Node, at: Index) -> Symbol:
        op: Any = node.op
        index = self.value(node.inputs[0], at[:-1])
        place = self.checked(_integral(index), op.n, negative=False)
        column = self.position(at[-1])
        lanes = max(place.type.lanes, column.type.lanes)
        place, column = (v if v.type.lanes == lanes else self.b.splat(v, lanes) for v in (place, column))
        return CODE.cast(Symbol(self.b, self.b.compare("==", place, column), BOOL), op.dtype)

    def _taken(self, node: Node, at: Index) -> Symbol:
        """An element at a position that another value holds."""
        op: Any = node.op
        table, index = node.inputs
        spec: Any = table.specs()
        ndim = len(index.specs().shape)  # type: ignore[union-attr]
        axis = op.axis % len(spec.shape) if isinstance(op, Take) else len(spec.shape) - 1
        picked = self.value(index, at[axis : axis + ndim] if isinstance(op, Take) else at)
        place = self.checked(_integral(picked), spec.shape[axis], negative=isinstance(op, Take))
        rest = (*at[:axis], (None, 0, 0), *at[axis + ndim :]) if isinstance(op, Take) else (*at, (None, 0, 0))
        element, stride = self._element(rest, spec.shape)
        along = place * dense(spec.shape)[axis]
        if not along.type.lanes:
            return self._load(self.pointer(table), spec.dtype, along + element, stride)
        where = along + self._spread(element, stride)
        kind = memory_type(spec.dtype).vector(self.lanes)
        return _from_memory(self.b, self.b.gather(self.pointer(table), kind, where, self.mask), spec.dtype)

    def _arange(self, node: Node, at: Index) -> Symbol:
        op: Any = node.op
        spec: Any = node.specs()
        place = Symbol(self.b, self.position(at[0]), INT64)
        return CODE.cast(CODE.cast(place * op.step + op.start, spec.dtype), spec.dtype)

    # -- what is read before loops -------------------------------------------------------------------

    def prepare(self, reads: list[tuple[Node, Index]], lanes: int) -> None:
        """Read into registers what does not depend on loops that are not entered yet."""
        for node, at in reads:
            if self.find(node, at) is not None or base(node) not in self.memory.pointers:
                continue
            spec: Any = node.specs()
            strides = address(at, spec.shape, len(self.loops))[1] if at else ()
            waiting = [k for k, s in enumerate(strides) if s and self.loops[k] is None]
            if waiting:
                continue
            symbol = self.load(node, at)
            if lanes and not symbol.value.type.lanes:
                if spec.dtype == FLOAT64:
                    symbol.ready[FLOAT32] = self.b.splat(symbol.to(FLOAT32), lanes)
                symbol.value = self.b.splat(symbol.value, lanes)
            self.known[node, at] = symbol


def _integral(symbol: Symbol) -> Symbol:
    return symbol if symbol.dtype != BOOL else CODE.cast(symbol, INT64)


def _from_memory(b: Builder, value: Value, dtype: Any) -> Symbol:
    if dtype == BOOL:
        return Symbol(b, b.compare("!=", value, 0), dtype)
    if dtype.kind in "iu":
        value = b.cast(value, I64, unsigned=dtype.kind == "u")
    return Symbol(b, value, dtype)


def _named(result: Any, node: Node) -> Any:
    """The result of an expression in the dtype that the shape rule says."""
    spec: Any = node.specs()
    if isinstance(result, tuple):
        return tuple([CODE.cast(x, s.dtype) for x, s in zip(result, spec, strict=True)])
    if isinstance(result, Symbol):
        return CODE.cast(result, spec.dtype)
    raise TypeError(f"{node.op!r}: its expression gave {type(result).__name__}")

