"""Symbols: what an operator's `expression` computes with while code is written for it.

`CODE` is the vocabulary of `graph/expressions.py` for the code generator, as `NUMPY` is for eager
mode: operands are registers, and each operation appends instructions::

    before                                 after, 8 lanes a register

    lambda e, x: e.maximum(x, 0) * 2       %3 = fcmp ogt <8 x float> %2, zeroinitializer
                                           %4 = select <8 x i1> %3, <8 x float> %2, ...
                                           %5 = fmul <8 x float> %4, splat (float 2.0)

Registers are LLVM's: each is assigned once, and there are as many as one likes. A `Symbol` is one
with NumPy's dtype, and dtypes promote by NumPy's own rules. Integers live
in registers of 64 bits and are wrapped to their width after arithmetic, bools in registers of one
bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ...native import math
from ...native.values import F32, F64, I1, I32, I64, Type, Value
from ...native.vectors import Builder
from .expression import UnsupportedError

DType = np.dtype[Any]
BOOL, FLOAT32, FLOAT64, INT64 = (np.dtype(name) for name in ("bool", "float32", "float64", "int64"))

_REPEATED_PRODUCTS = 4
"""Integer powers up to this one are products."""


@lru_cache
def memory_type(dtype: DType) -> Type:
    """How elements of a dtype lie in memory."""
    if dtype in (FLOAT32, FLOAT64):
        return F32 if dtype == FLOAT32 else F64
    if dtype.kind not in "biu" or dtype == np.uint64 or not dtype.isnative:
        raise UnsupportedError(f"there is no native code for {dtype}")
    return Type(f"i{8 * dtype.itemsize}")


@lru_cache
def register_type(dtype: DType) -> Type:
    """How elements of a dtype are held in registers."""
    kind = memory_type(dtype)
    return I1 if dtype == BOOL else I64 if dtype.kind in "iu" else kind


def _arithmetic(name: str, *, swapped: bool = False) -> Callable[[Symbol, Any], Symbol]:
    """The method of an operator of arithmetic, with `self` on its left, or on its right."""

    def method(self: Symbol, other: Any) -> Symbol:
        dtype = _promoted(self, other)
        if name == "div" and dtype.kind != "f":
            dtype = FLOAT64
        if dtype == BOOL:
            raise UnsupportedError(f"{name} of bools")
        b, x, y = _both(dtype, *((other, self) if swapped else (self, other)))
        return Symbol(b, _wrapped(b, b.binary(name, x, y), dtype), dtype)

    return method


def _comparison(relation: str) -> Callable[[Symbol, Any], Symbol]:
    """The method of a comparison."""

    def method(self: Symbol, other: Any) -> Symbol:
        if relation == "!=" and self.dtype == BOOL and type(other) is int and other == 0:
            return self  # a condition, which stays a mask
        dtype = _promoted(self, other)
        b, x, y = _both(INT64 if dtype == BOOL else dtype, self, other)
        return Symbol(b, b.compare(relation, x, y), BOOL)

    return method


@dataclass(eq=False)
class Symbol:
    """A register of one dtype.

    Attributes:
        b: Where code is appended.
        value: The register.
        dtype: What NumPy would have here.
        weak: Whether it is a run-time scalar, which takes the other operand's dtype.
        ready: What it is in other dtypes, where that was computed before a loop.
    """

    b: Builder
    value: Value
    dtype: DType
    weak: bool = False
    ready: dict[DType, Value] = field(default_factory=dict[DType, Value])

    def to(self, dtype: DType) -> Value:
        """The register converted to another dtype."""
        if dtype == self.dtype:
            return self.value
        if dtype in self.ready:
            return self.ready[dtype]
        if dtype == BOOL:
            return self.b.compare("!=", self.value, 0)
        if self.dtype.kind == "f" and dtype.kind in "iu":
            return _wrapped(self.b, self.b.cast(self.value, I64), dtype)
        if self.dtype.kind in "iu" and dtype.kind in "iu":
            return _wrapped(self.b, self.value, dtype)
        value, unsigned = self.value, self.dtype.kind == "u"
        if self.dtype.kind in "iu" and self.dtype.itemsize < 8:  # few hosts convert 64-bit integers
            value = self.b.cast(value, I32)
        return self.b.cast(value, register_type(dtype), unsigned=unsigned)

    # Python's operators, as NumPy's arrays have them.
    __add__, __radd__ = _arithmetic("add"), _arithmetic("add", swapped=True)
    __sub__, __rsub__ = _arithmetic("sub"), _arithmetic("sub", swapped=True)
    __mul__, __rmul__ = _arithmetic("mul"), _arithmetic("mul", swapped=True)
    __truediv__, __rtruediv__ = _arithmetic("div"), _arithmetic("div", swapped=True)
    __lt__, __le__, __gt__, __ge__ = map(_comparison, ("<", "<=", ">", ">="))
    __eq__: ClassVar[Any] = _comparison("==")
    __ne__: ClassVar[Any] = _comparison("!=")
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __pow__(self, other: Any) -> Symbol:
        return CODE.pow(self, other)

    def __neg__(self) -> Symbol:
        return Symbol(self.b, _wrapped(self.b, -self.value, self.dtype), self.dtype)


def _wrapped(b: Builder, value: Value, dtype: DType) -> Value:
    """An integer in 64 bits, cut to the width of its dtype."""
    if dtype.kind not in "iu" or dtype.itemsize == 8:
        return value
    narrow = b.cast(value, memory_type(dtype))
    return b.cast(narrow, I64, unsigned=dtype.kind == "u")


def _promoted(*operands: Any) -> DType:
    """The dtype that NumPy would compute in; weak symbols count as Python floats."""
    parts = [(1.0 if x.weak else x.dtype) if isinstance(x, Symbol) else x for x in operands]
    return _result_type(*parts)


@lru_cache(1024, typed=True)
def _result_type(*operands: Any) -> DType:
    return np.result_type(*operands)


def _both(dtype: DType, *operands: Any) -> tuple[Builder, Value, Value]:
    """Two operands as registers of one dtype, and where code is appended. Numbers are constants."""
    b = next(x.b for x in operands if isinstance(x, Symbol))
    values = [x.to(dtype) if isinstance(x, Symbol) else None for x in operands]
    lanes = max([v.type.lanes for v in values if v is not None])
    kind = register_type(dtype).vector(lanes)
    number = float if dtype.kind == "f" else int
    x, y = (
        b.constant(number(operand), kind) if value is None else _widened(b, value, lanes)
        for operand, value in zip(operands, values, strict=True)
    )
    return b, x, y


def _widened(b: Builder, value: Value, lanes: int) -> Value:
    """A register of so many lanes: one number is repeated in all of them."""
    return value if value.type.lanes == lanes else b.splat(value, lanes)


def _function(write: Callable[[Builder, Value], Value]) -> Callable[[Any, Symbol], Symbol]:
    """The method of a function of floats, given what writes its code."""

    def method(_: Any, x: Symbol) -> Symbol:
        if x.dtype.kind != "f":
            raise UnsupportedError(f"functions of {x.dtype}")
        return Symbol(x.b, write(x.b, x.value), x.dtype)

    return method


def _extreme(name: str) -> Callable[[Any, Any, Any], Symbol]:
    """The method of the larger or smaller of two."""

    def method(_: Any, x: Any, y: Any) -> Symbol:
        dtype = _promoted(x, y)
        if dtype == BOOL:
            raise UnsupportedError("extremes of bools")
        b, x, y = _both(dtype, x, y)
        return Symbol(b, getattr(b, name)(x, y), dtype)

    return method


class CodeExpressions:
    """The vocabulary of elementwise expressions, written as code."""

    exp = _function(math.exp)
    log = _function(math.log)
    tanh = _function(math.tanh)
    sqrt = _function(math.sqrt)
    sin = _function(math.sin)
    cos = _function(math.cos)
    sigmoid = _function(math.sigmoid)
    erf = _function(math.erf)
    maximum = _extreme("maximum")
    minimum = _extreme("minimum")

    def abs(self, x: Symbol) -> Symbol:
        if x.dtype.kind == "f":
            return Symbol(x.b, x.b.intrinsic("fabs", x.value), x.dtype)
        if x.dtype.kind != "i":
            return x
        negative = _wrapped(x.b, -x.value, x.dtype)
        return Symbol(x.b, x.b.select(x.value < 0, negative, x.value), x.dtype)

    def where(self, condition: Symbol, x: Any, y: Any) -> Symbol:
        dtype = _promoted(x, y)
        b, x, y = _both(dtype, x, y)
        lanes = max(condition.value.type.lanes, x.type.lanes)
        choice, x, y = (_widened(b, value, lanes) for value in (condition.value, x, y))
        return Symbol(b, b.select(choice, x, y), dtype)

    def cast(self, x: Symbol, dtype: Any) -> Symbol:
        return Symbol(x.b, x.to(np.dtype(dtype)), np.dtype(dtype))

    def pow(self, x: Any, y: Any) -> Symbol:
        """x ** y; the powers that NumPy has special code for are special here too."""
        dtype = _promoted(x, y)
        if isinstance(x, Symbol) and isinstance(y, int | float):
            special = self._special_power(Symbol(x.b, x.to(dtype), dtype), y)
            if special is not None:
                return special
        if dtype.kind != "f":
            raise UnsupportedError("powers of integers")
        b, x, y = _both(dtype, x, y)
        return Symbol(b, math.pow(b, x, y), dtype)

    def _special_power(self, x: Symbol, y: float) -> Symbol | None:
        if abs(y) < 2**31 and y == int(y):
            if 1 <= y <= _REPEATED_PRODUCTS:
                result = x
                for _ in range(int(y) - 1):
                    result = result * x
                return result
            if y == 0:
                return Symbol(x.b, x.b.constant(1, x.value.type), x.dtype)
        if x.dtype.kind == "f" and y == -1:
            return 1 / x
        if x.dtype.kind == "f" and y == 0.5:
            return self.sqrt(x)
        return None


CODE = CodeExpressions()
