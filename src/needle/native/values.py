"""Types, constants and SSA values of LLVM IR, as `vectors` writes them."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from ctypes import c_float
from typing import TYPE_CHECKING, NamedTuple

from ..errors import CompileError

if TYPE_CHECKING:
    from .instructions import Instructions


class Type(NamedTuple):
    """A scalar type of LLVM, or a vector of `lanes` of them (0: a scalar)."""

    scalar: str
    lanes: int = 0

    def __str__(self) -> str:
        return _type_text(self)

    def vector(self, lanes: int) -> Type:
        """The vector of `lanes` such scalars; 0 gives the scalar."""
        return Type(self.scalar, lanes)

    def like(self, scalar: Type) -> Type:
        """The type with this one's lanes and another scalar."""
        return Type(scalar.scalar, self.lanes)

    @property
    def is_float(self) -> bool:
        """Whether this is float32 or float64."""
        return self.scalar in ("float", "double")

    @property
    def bits(self) -> int:
        """Width of one scalar in bits."""
        return {"float": 32, "double": 64, "ptr": 64}.get(self.scalar) or int(self.scalar[1:])

    @property
    def bytes(self) -> int:
        """Bytes of one scalar in memory, which is aligned to as many."""
        return max(self.bits // 8, 1)

    @property
    def mangled(self) -> str:
        """The name of the type inside an intrinsic's name, such as `v16f32`."""
        name = {"float": "f32", "double": "f64", "ptr": "p0"}.get(self.scalar, self.scalar)
        return f"v{self.lanes}{name}" if self.lanes else name


VOID, PTR = Type("void"), Type("ptr")
F32, F64 = Type("float"), Type("double")
I1, I8, I32, I64 = Type("i1"), Type("i8"), Type("i32"), Type("i64")

Number = int | float


def signature(pointers: str, integers: str = "") -> dict[str, Type]:
    """Arguments of a function: pointers with these names, and after them numbers of type i64."""
    return dict.fromkeys(pointers.split(), PTR) | dict.fromkeys(integers.split(), I64)


@functools.cache
def _type_text(kind: Type) -> str:
    return f"<{kind.lanes} x {kind.scalar}>" if kind.lanes else kind.scalar


def literal(number: Number, kind: Type) -> str:
    """The text of a constant (in every lane of a vector); floats round to nearest.

    Not remembered by number: 0.0 and -0.0 are equal.
    """
    if kind.is_float:
        value = c_float(number).value if kind.scalar == "float" else float(number)
        scalar = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    elif isinstance(number, int):
        scalar = str(int(number))
    else:
        raise CompileError(f"{number!r} is no constant of the integer type {kind}")
    return f"splat ({kind.scalar} {scalar})" if kind.lanes else scalar


_Method = Callable[["Value", "Operand"], "Value"]


def _operator(name: str) -> _Method:
    return lambda x, y: x.builder.binary(name, x, y)


def _reflected(name: str) -> _Method:
    """The method of an operator that has the number on its left."""
    return lambda x, y: x.builder.binary(name, y, x)


def _comparison(relation: str) -> _Method:
    return lambda x, y: x.builder.compare(relation, x, y)


class Value:
    """The result of an instruction, an argument or a constant; operators append instructions."""

    __slots__ = ("builder", "text", "type")

    def __init__(self, builder: Instructions, text: str, kind: Type) -> None:
        self.builder = builder
        self.text = text
        self.type = kind

    def __repr__(self) -> str:
        return f"{_type_text(self.type)} {self.text}"

    __add__, __sub__, __mul__, __truediv__ = map(_operator, ("add", "sub", "mul", "div"))
    __radd__, __rsub__, __rmul__, __rtruediv__ = map(_reflected, ("add", "sub", "mul", "div"))
    __and__, __or__, __xor__ = map(_operator, ("and", "or", "xor"))
    __lshift__, __rshift__ = map(_operator, ("shl", "ashr"))
    __lt__, __le__, __gt__, __ge__ = map(_comparison, ("<", "<=", ">", ">="))

    def __neg__(self) -> Value:
        return self.builder.negate(self)

    def __invert__(self) -> Value:
        return self.builder.binary("xor", self, -1)


Operand = Value | Number
