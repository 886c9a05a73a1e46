"""Sine and cosine of any argument, as code over vectors.

The argument is reduced by a multiple of pi / 2, which is subtracted in parts whose multiples are
exact; the quadrant says which polynomial gives the result, and its sign. float32 is computed in
float64; of float64 the reduced argument is the sum of two numbers (as in fdlibm's e_rem_pio2.c,
k_sin.c and k_cos.c). Beyond 2^20 the C library computes.
"""

from __future__ import annotations

import math

from .coefficients import COS, COS64, FLOAT64, HALF_PI, HALF_PI64, SIN, SIN64, SIN_BOUND
from .float_parts import each_lane, polynomial
from .values import F32, F64, I64, Value
from .vectors import Builder


def sin(b: Builder, x: Value) -> Value:
    """Sine of any argument. Largest error: float32 0.6 ulp, float64 0.8."""
    return _circular(b, x, 0, "sin")


def cos(b: Builder, x: Value) -> Value:
    """Cosine of any argument. Largest error: float32 0.6 ulp, float64 0.8."""
    return _circular(b, x, 1, "cos")


def _circular(b: Builder, x: Value, quarter: int, name: str) -> Value:
    """Give sin(x + quarter * pi / 2)."""
    narrow = x.type.scalar == F32.scalar
    wide = b.cast(x, F64)
    shifted = b.fma(wide, 2 / math.pi, FLOAT64.rounder)
    turns = shifted - FLOAT64.rounder
    sine, cosine = (_of_narrow if narrow else _of_wide)(b, wide, turns)
    quadrant = b.bitcast(shifted, I64) + quarter
    value = b.select(b.compare("==", quadrant & 1, 0), sine, cosine)
    sign = (quadrant & 2) << 62
    near = b.cast(b.bitcast(b.bitcast(value, I64) ^ sign, F64), F32 if narrow else F64)
    far = b.intrinsic("fabs", x) > SIN_BOUND

    def slow() -> list[Value]:
        return [b.select(far, each_lane(b, name + "f" * narrow, x), near)]

    return b.either(b.any(far), slow, lambda: [near], unlikely=True)[0]


def _of_narrow(b: Builder, x: Value, turns: Value) -> tuple[Value, Value]:
    """Sine and cosine of x - turns * pi / 2, to a float32's precision."""
    r = b.fma(turns, -HALF_PI[1], b.fma(turns, -HALF_PI[0], x))
    z = r * r
    return r * b.fma(z, polynomial(b, z, SIN), 1.0), b.fma(z, polynomial(b, z, COS), 1.0)


def _of_wide(b: Builder, x: Value, turns: Value) -> tuple[Value, Value]:
    """Sine and cosine of x - turns * pi / 2, to a float64's precision."""
    r, rest = _reduced(b, x, turns)
    z = r * r
    half = z * 0.5
    sine = r + b.fma(r * z, polynomial(b, z, SIN64), rest * (1.0 - half))
    sine = b.select(b.compare("==", r, 0.0), x, sine)  # which has the sign of a zero
    first = 1.0 - half
    lost = (1.0 - first) - half
    cosine = first + (lost + b.fma(z * z, polynomial(b, z, COS64), -(r * rest)))
    return sine, cosine


def _reduced(b: Builder, x: Value, turns: Value) -> tuple[Value, Value]:
    """x - turns * pi / 2 as the sum of two numbers (Knuth, TAOCP 2, 4.2.2, theorem B)."""
    first, second, third = HALF_PI64
    t = b.fma(turns, -first, x)
    w = turns * second
    r = t - w
    back = r - t
    lost = (t - (r - back)) - (w + back)
    low = b.fma(turns, -third, lost)
    high = r + low
    return high, (r - high) + low
