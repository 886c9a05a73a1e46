"""Powers, as code over vectors: |x|^y = 2^(y log2 |x|), and then the sign and the special cases.

The error of the product y log2 |x| is that of the result, times up to 710 for float64. float32 is
computed in float64, which has bits enough; of float64 the logarithm and the product are sums of two
numbers, of which the first has 21 bits, so that products of first parts are exact (the method of
fdlibm's e_pow.c, with one interval instead of two).
"""

from __future__ import annotations

import math

from .coefficients import (
    FLOAT64,
    POW64_LOG,
    POW64_SCALE,
    POW_EXP2,
    POW_LOG,
    POW_MOST_EXPONENT,
    POW_RANGE,
)
from .float_parts import high_part, polynomial, power_of_two, scaled, split
from .values import F32, F64, I64, Value
from .vectors import Builder

Pair = tuple[Value, Value]
"""The sum of two numbers, the first one of 21 bits."""


def pow(b: Builder, x: Value, y: Value) -> Value:
    """Raise x to y, special cases as in C. Largest error: float32 0.51 ulp, float64 0.9."""
    size = (_narrow if x.type.scalar == F32.scalar else _wide)(b, b.intrinsic("fabs", x), y)
    half = y * 0.5
    whole = b.compare("==", b.intrinsic("floor", y), y)
    odd = whole & b.compare("!=", b.intrinsic("floor", half), half)
    result = b.select(odd, b.intrinsic("copysign", size, x), size)
    undefined = (x < 0.0) & (x > -math.inf) & ~whole
    result = b.select(undefined | b.is_nan(x) | b.is_nan(y), math.nan, result)
    return b.select(b.compare("==", y, 0.0) | b.compare("==", x, 1.0), 1.0, result)


# -- float32 ---------------------------------------------------------------------------------------


def _narrow(b: Builder, x: Value, y: Value) -> Value:
    """x^y for float32 x >= 0, through float64."""
    base, exponent = b.cast(x, F64), b.cast(y, F64)
    size = b.cast(_exp2_float64(b, exponent * _log2_float64(b, base)), F32)
    return b.select(b.compare("==", base, 1.0), 1.0, size)


def _log2_float64(b: Builder, x: Value) -> Value:
    """Base-2 logarithm of float64 x >= 0 that was a float32, to about 45 bits."""
    f, exponent = split(b, x, subnormal=False)
    s = f / (f + 2.0)
    z = s * s
    natural = b.fma(s * z, polynomial(b, z, POW_LOG), s + s)
    result = b.fma(natural, 1 / math.log(2), exponent)
    result = b.select(b.compare("==", x, math.inf), x, result)
    return b.select(b.compare("==", x, 0.0), -math.inf, result)


def _exp2_float64(b: Builder, x: Value) -> Value:
    """2^x to about 34 bits; beyond the range of float32, any number beyond it."""
    x = b.minimum(b.maximum(x, -1000.0), 1000.0)
    shifted = x + FLOAT64.rounder
    r = x - (shifted - FLOAT64.rounder)
    n = b.bitcast(shifted, I64) - FLOAT64.rounder_bits
    return b.fma(polynomial(b, r, POW_EXP2), r, 1.0) * power_of_two(b, n)


# -- float64 ---------------------------------------------------------------------------------------


def _wide(b: Builder, x: Value, y: Value) -> Value:
    """x^y for float64 x >= 0."""
    limit = POW_MOST_EXPONENT
    exponent = b.minimum(b.maximum(y, -limit), limit)
    size = _exp2_pair(b, *_times(b, exponent, _log2_pair(b, x)))
    infinite = b.compare("==", x, math.inf)
    ends = b.select(infinite ^ (y < 0.0), b.constant(math.inf, x.type), 0.0)
    return b.select(infinite | b.compare("==", x, 0.0), ends, size)


def _log2_pair(b: Builder, x: Value) -> Pair:
    """Base-2 logarithm of positive finite x = 2^e (1 + f), to about 66 bits.

    With s = f / (2 + f), ln(1 + f) = 2/3 s (3 + s^2 + s^4 P(s^2)).
    """
    f, exponent = split(b, x)
    t = f + 2.0
    inverse = 1.0 / t
    s = f * inverse
    s_high, t_high = high_part(b, s), high_part(b, t)
    t_low = f - (t_high - 2.0)
    s_low = inverse * ((f - s_high * t_high) - s_high * t_low)
    square, further = s_high * s_high, s_low * (s_high + s)
    z = square + further  # from the exact s: its own square is less exact
    tail = z * z * polynomial(b, z, POW64_LOG) + further
    factor_high = high_part(b, square + 3.0 + tail)
    factor_low = tail - ((factor_high - 3.0) - square)
    p, p_low = s_high * factor_high, s_low * factor_high + factor_low * s
    p_high = high_part(b, p + p_low)
    p_low = p_low - (p_high - p)
    scale, scale_high, scale_low = POW64_SCALE
    high, low = p_high * scale_high, p_high * scale_low + p_low * scale
    first = high_part(b, (high + low) + exponent)
    return first, low - ((first - exponent) - high)


def _times(b: Builder, y: Value, pair: Pair) -> Pair:
    """The product of a number and a pair; its first part has 42 bits."""
    first, second = pair
    y_high = high_part(b, y)
    return y_high * first, (y - y_high) * first + y * second


def _exp2_pair(b: Builder, first: Value, second: Value) -> Value:
    """2^(first + second)."""
    total = first + second
    inside = b.intrinsic("fabs", total) < POW_RANGE
    total = b.minimum(b.maximum(total, -POW_RANGE), POW_RANGE)
    shifted = total + FLOAT64.rounder
    first = b.select(inside, first - (shifted - FLOAT64.rounder), 0.0)
    second = b.select(inside, second, 0.0)
    r = first + second
    rest = second - (r - first)
    r_high = high_part(b, r)
    ln2_high, ln2_low = FLOAT64.ln2
    natural = r_high * ln2_high
    low = ((r - r_high) + rest) * math.log(2) + r_high * ln2_low
    z = natural + low
    lost = low - (z - natural)
    whole = z + 1.0
    lost = lost + (z - (whole - 1.0))
    power = whole + b.fma(polynomial(b, z, FLOAT64.exp), z * z, lost)
    return scaled(b, power, b.bitcast(shifted, I64) - FLOAT64.rounder_bits)
