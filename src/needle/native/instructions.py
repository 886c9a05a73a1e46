"""Code on registers: arithmetic, lanes and calls, one method an instruction.

`memory.py` adds what reads and writes memory, `vectors.Builder` control flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import CompileError
from .values import I1, I32, I64, PTR, VOID, Number, Operand, Type, Value, literal

if TYPE_CHECKING:
    from .vectors import Source

# Opcode for floats, for signed integers. Comparisons are ordered (false on NaN), as NumPy's, and
# only `!=` is true on NaN.
_BINARY = {
    "add": ("fadd", "add"), "sub": ("fsub", "sub"), "mul": ("fmul", "mul"),
    "div": ("fdiv", "sdiv"), "udiv": ("", "udiv"), "urem": ("", "urem"),
    "and": ("", "and"), "or": ("", "or"), "xor": ("", "xor"),
    "shl": ("", "shl"), "ashr": ("", "ashr"), "lshr": ("", "lshr"),
}  # fmt: skip
_COMPARE = {
    "<": ("olt", "slt"), "<=": ("ole", "sle"), ">": ("ogt", "sgt"), ">=": ("oge", "sge"),
    "==": ("oeq", "eq"), "!=": ("une", "ne"),
}  # fmt: skip


class Instructions:
    """Appends instructions to the current block of one function; each returns its value."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.host = source.host
        self.lines: list[str] = []
        self._block = "entry"
        self._count = 0

    # -- values ---------------------------------------------------------------------------------

    def emit(self, kind: Type, instruction: str) -> Value:
        """Append one instruction that has a result."""
        self._count += 1
        name = f"%.{self._count}"
        self.lines.append(f"  {name} = {instruction}")
        return Value(self, name, kind)

    def constant(self, number: Number, kind: Type) -> Value:
        """A constant, in every lane if `kind` is a vector. Floats round to nearest."""
        return Value(self, literal(number, kind), kind)

    def coerce(self, operand: Operand, kind: Type) -> Value:
        """The operand as a value of `kind`; Python numbers become constants."""
        if not isinstance(operand, Value):
            return self.constant(operand, kind)
        if operand.type != kind:
            raise CompileError(f"Expected a value of type {kind}, got {operand!r}")
        return operand

    def _both(self, x: Operand, y: Operand) -> tuple[Value, Value]:
        """Two operands, one of which may be a number, as values of the other's type."""
        if isinstance(x, Value):
            return x, self.coerce(y, x.type)
        return self.coerce(x, y.type), y  # pyright: ignore[reportAttributeAccessIssue, reportReturnType]

    def value(self, operand: Operand) -> Value:
        """The operand; a number that nothing gives another type is an i64."""
        return operand if isinstance(operand, Value) else self.constant(operand, I64)

    def symbol(self, name: str) -> Value:
        """Address of a global or function of this module."""
        return Value(self, f"@{name}", PTR)

    def iota(self, lanes: int, scalar: Type = I32) -> Value:
        """The constant vector 0, 1, 2, ..."""
        items = ", ".join(f"{scalar} {lane}" for lane in range(lanes))
        return Value(self, f"<{items}>", scalar.vector(lanes))

    # -- arithmetic -----------------------------------------------------------------------------

    def binary(self, name: str, x: Operand, y: Operand) -> Value:
        """`add sub mul div` on any type; on integers `udiv urem and or xor shl ashr lshr`."""
        x, y = self._both(x, y)
        kind = x.type
        opcode = _BINARY[name][0 if kind.is_float else 1]
        if not opcode:
            raise CompileError(f"{name} takes integers, got {x!r} and {y!r}")
        return self.emit(kind, f"{opcode} {kind} {x.text}, {y.text}")

    def divmod(self, x: Value, y: Operand) -> tuple[Value, Value]:
        """Quotient and remainder of integers that are not negative."""
        return self.binary("udiv", x, y), self.binary("urem", x, y)

    def digits(self, number: Value, sizes: Sequence[int]) -> list[Value]:
        """The counters of loops of some sizes in a turn: of the last one each turn is another."""
        found: list[Value] = []
        for size in reversed(sizes):
            found.insert(0, self.binary("urem", number, size))
            number = self.binary("udiv", number, size)
        return found

    def compare(self, relation: str, x: Value, y: Operand) -> Value:
        """`< <= > >= == !=`; false where an operand is NaN, except `!=`. Integers are signed."""
        y = self.coerce(y, x.type)
        opcode, index = ("fcmp", 0) if x.type.is_float else ("icmp", 1)
        text = f"{opcode} {_COMPARE[relation][index]} {x.type} {x.text}, {y.text}"
        return self.emit(x.type.like(I1), text)

    def is_nan(self, x: Value) -> Value:
        """True where x is NaN."""
        return self.emit(x.type.like(I1), f"fcmp uno {x.type} {x.text}, {x.text}")

    def select(self, condition: Value, x: Operand, y: Operand) -> Value:
        """Choose x where the condition holds, y elsewhere."""
        x, y = self._both(x, y)
        return self.emit(x.type, f"select {condition!r}, {x!r}, {y!r}")

    def negate(self, x: Value) -> Value:
        """-x; on floats the sign bit flips, NaN and zero included."""
        start = f"fneg {x.type}" if x.type.is_float else f"sub {x.type} zeroinitializer,"
        return self.emit(x.type, f"{start} {x.text}")

    def fma(self, x: Value, y: Operand, z: Operand) -> Value:
        """Compute x * y + z, rounded once where the host has FMA and twice elsewhere."""
        if not self.host.fma:
            return x * y + z
        return self.intrinsic("fma", x, self.coerce(y, x.type), self.coerce(z, x.type))

    def maximum(self, x: Value, y: Operand) -> Value:
        """The larger one; NaN if either is NaN, as `numpy.maximum`."""
        return self._extreme(">", x, y)

    def minimum(self, x: Value, y: Operand) -> Value:
        """The smaller one; NaN if either is NaN, as `numpy.minimum`."""
        return self._extreme("<", x, y)

    def _extreme(self, relation: str, x: Value, y: Operand) -> Value:
        if not isinstance(y, Value):  # a number is not NaN, and x wins where the test fails
            limit = self.constant(y, x.type)
            return self.select(self.compare(relation, limit, x), limit, x)
        larger = self.select(self.compare(relation, x, y), x, y)
        return self.select(self.is_nan(x), x, larger) if x.type.is_float else larger

    def intrinsic(self, name: str, *arguments: Value) -> Value:
        """Call `llvm.NAME` on arguments of one type: `sqrt fabs floor ceil trunc rint copysign`."""
        kind = arguments[0].type
        return self._intrinsic(f"{name}.{kind.mangled}", kind, *arguments)

    # -- types and lanes ------------------------------------------------------------------------

    def cast(self, x: Value, scalar: Type, *, unsigned: bool = False) -> Value:
        """Convert to another scalar type: floats to integers towards zero, I1 to 0 or 1.

        A float that is NaN or out of the integer's range has no defined result.
        """
        source, kind = x.type, x.type.like(scalar)
        if source == kind:
            return x
        sign = "u" if unsigned or source.scalar == "i1" else "s"
        if source.is_float and kind.is_float:
            opcode = "fpext" if kind.bits > source.bits else "fptrunc"
        elif source.is_float or kind.is_float:
            opcode = f"fpto{sign}i" if source.is_float else f"{sign}itofp"
        else:
            wider = "zext" if sign == "u" else "sext"
            opcode = wider if kind.bits > source.bits else "trunc"
        return self.emit(kind, f"{opcode} {source} {x.text} to {kind}")

    def bitcast(self, x: Value, scalar: Type) -> Value:
        """The same bits as another scalar type of the same width."""
        kind = x.type.like(scalar)
        return self.emit(kind, f"bitcast {x.type} {x.text} to {kind}")

    def any(self, condition: Value) -> Value:
        """Whether the condition holds in some lane."""
        return self.compare("!=", self._bits(condition), 0) if condition.type.lanes else condition

    def _bits(self, condition: Value) -> Value:
        """The lanes of a condition as the bits of an integer."""
        kind = Type(f"i{condition.type.lanes}")
        return self.emit(kind, f"bitcast {condition!r} to {kind}")

    def first_lanes(self, count: Value, lanes: int) -> Value:
        """The mask of the first `count` lanes; a count may be negative, or larger than `lanes`."""
        return self.compare(">", self.splat(self.cast(count, I32), lanes), self.iota(lanes))

    def splat(self, x: Value, lanes: int) -> Value:
        """The vector with scalar x in every lane."""
        kind = x.type.vector(lanes)
        one = self.insert(Value(self, "poison", kind), x, 0)
        text = f"shufflevector {kind} {one.text}, {kind} poison, <{lanes} x i32> zeroinitializer"
        return self.emit(kind, text)

    def extract(self, x: Value, lane: Operand) -> Value:
        """One lane of a vector."""
        lane = self.coerce(lane, I32)
        return self.emit(Type(x.type.scalar), f"extractelement {x.type} {x.text}, i32 {lane.text}")

    def insert(self, x: Value, item: Value, lane: Operand) -> Value:
        """The vector x with one lane replaced."""
        lane = self.coerce(lane, I32)
        text = f"insertelement {x.type} {x.text}, {item!r}, i32 {lane.text}"
        return self.emit(x.type, text)

    def shuffle(self, x: Value, y: Value | None, lanes: Sequence[int]) -> Value:
        """The given lanes of x followed by y (y=None: of x alone)."""
        second = y.text if y else "poison"
        order = ", ".join(f"i32 {lane}" for lane in lanes)
        text = f"shufflevector {x.type} {x.text}, {x.type} {second}, <{len(lanes)} x i32> <{order}>"
        return self.emit(x.type.vector(len(lanes)), text)

    def reduce(self, combine: Callable[[Value, Value], Value], x: Value) -> Value:
        """All lanes combined into a scalar, upper half with lower half: a fixed order."""
        lanes = x.type.lanes
        while lanes > 1:
            halves = range(lanes // 2), range(lanes // 2, lanes)
            x = combine(*[self.shuffle(x, None, half) for half in halves])
            lanes //= 2
        return self.extract(x, 0)

    # -- calls ----------------------------------------------------------------------------------

    def call(self, name: str, result: Type, *arguments: Operand) -> Value:
        """Call a function of this module."""
        return self._call(f"@{name}", result, map(self.value, arguments))

    def call_pointer(self, function: Value, result: Type, *arguments: Operand) -> Value:
        """Call the function at an address."""
        return self._call(function.text, result, map(self.value, arguments))

    def _call(self, target: str, result: Type, arguments: Iterable[Value]) -> Value:
        text = f"call {result} {target}({', '.join(map(repr, arguments))})"
        if result != VOID:
            return self.emit(result, text)
        self.lines.append(f"  {text}")
        return Value(self, "", VOID)

    def _intrinsic(self, name: str, result: Type, *arguments: Value) -> Value:
        """Call `llvm.NAME`, which is declared as it is called."""
        kinds = ", ".join([str(argument.type) for argument in arguments])
        self.source.add(f"declare {result} @llvm.{name}({kinds})")
        return self._call(f"@llvm.{name}", result, arguments)
