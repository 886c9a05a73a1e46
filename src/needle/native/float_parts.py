"""What the elementary functions share: taking floating-point numbers apart, and polynomials.

In particular::

    before                    after `split`            after `high_part`

    x = 2^e (1 + f)           e and f                  the leading 21 bits of a float64
"""

from __future__ import annotations

from collections.abc import Sequence

from .coefficients import FLOAT32, FLOAT64, Format
from .values import F64, I32, I64, Type, Value
from .vectors import Builder


def format_of(x: Value) -> Format:
    """What the algorithms need to know about floats as wide as a value."""
    return FLOAT32 if x.type.bits == 32 else FLOAT64


def polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
    value = b.constant(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        value = b.fma(value, x, coefficient)
    return value


def power_of_two(b: Builder, n: Value) -> Value:
    """2^n for integers n in the range of normal numbers, those of floats as wide as n."""
    form = format_of(n)
    return b.bitcast((n + form.bias) << form.mantissa, form.scalar)


def scaled(b: Builder, x: Value, n: Value) -> Value:
    """X 2^n, for x around 1: in two factors, as 2^n may not exist where the product does."""
    half = n >> 1
    return x * power_of_two(b, half) * power_of_two(b, n - half)


def split(b: Builder, x: Value, *, subnormal: bool = True) -> tuple[Value, Value]:
    """F and e with x = 2^e (1 + f) and sqrt(1/2) <= 1 + f < sqrt(2), for positive finite x."""
    form = format_of(x)
    extra = None
    if subnormal:
        tiny = x < form.tiny
        x = b.select(tiny, x * 2.0**form.mantissa, x)
        extra = b.select(tiny, b.constant(-float(form.mantissa), x.type), 0.0)
    bits = b.bitcast(x, form.integer)
    n = (bits - form.sqrt_half_bits) >> form.mantissa
    f = b.bitcast(bits - (n << form.mantissa), form.scalar) - 1.0
    exponent = b.cast(b.cast(n, I32), form.scalar)  # narrowed: few hosts convert 64-bit integers
    return f, exponent + extra if extra else exponent


def high_part(b: Builder, x: Value) -> Value:
    """The leading 21 bits of a float64: products of two such parts are exact."""
    return b.bitcast(b.bitcast(x, I64) & -(1 << 32), F64)


def each_lane(b: Builder, name: str, x: Value) -> Value:
    """The C library's function on each lane, through one function of the module a vector type."""
    kind = x.type
    if not kind.lanes:
        return b.call_c(name, kind, x)

    def write(inner: Builder, given: list[Value]) -> Value:
        with inner.loop(0, kind.lanes, carry=given) as loop:
            lane = inner.cast(loop.index, I32)
            item = inner.call_c(name, Type(kind.scalar), inner.extract(given[0], lane))
            loop.update(inner.insert(loop.values[0], item, lane))
        return loop.values[0]

    symbol = b.source.shared(f"lanes.{name}.{kind.mangled}", {"x": kind}, write, kind)
    return b.call(symbol, kind, x)
