"""`exp`, `log`, `tanh`, `sigmoid`, `erf`, `sin`, `cos`, `pow`, `sqrt` as code over vectors.

Each function appends its code to a builder and works on scalars and vectors of float32 and float64.
Special values are NumPy's: NaN, infinities, signed zeros, subnormals; floating-point flags are not
kept. The largest error, in units in the last place of the exact result, is stated in each
docstring and holds with and without FMA.

How they work: reduce the argument to a short interval around zero, evaluate a polynomial there,
undo the reduction on the exponent's bits (Cody and Waite, "Software Manual for the Elementary
Functions", 1980; the form of `log` for float64 is that of fdlibm's e_log.c). The polynomials are in
`coefficients`. Nothing here may be marked fast-math: that would undo the reductions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .coefficients import (
    COS,
    ERF_IS_ONE,
    ERF_LARGE,
    ERF_SMALL,
    FLOAT32,
    FLOAT64,
    HALF_PI,
    LOG32,
    LOG64,
    POW_EXP2,
    POW_LOG,
    SIN,
    SIN_BOUND,
    SMALL_ERF,
    SMALL_TANH,
    Format,
)
from .values import F32, F64, I32, I64, Type, Value
from .vectors import Builder


def exp(b: Builder, x: Value) -> Value:
    """e^x. Largest error: float32 1.02 ulp, float64 1.0."""
    form = _format(x)
    low, high = form.exp_range
    x = b.minimum(b.maximum(x, low), high)
    shifted = b.fma(x, 1 / math.log(2), form.rounder)
    turns = shifted - form.rounder
    r = b.fma(turns, -form.ln2[1], b.fma(turns, -form.ln2[0], x))
    power = b.fma(_polynomial(b, r, form.exp), r * r, r) + 1.0
    # Two factors: 2^128 does not exist, and the result may be subnormal while `power` is not.
    n = b.bitcast(shifted, form.integer) - form.rounder_bits
    half = n >> 1
    return power * _power_of_two(b, half, form) * _power_of_two(b, n - half, form)


def log(b: Builder, x: Value) -> Value:
    """Natural logarithm. Largest error: float32 0.9 ulp, float64 0.8."""
    form = _format(x)
    f, exponent = _split(b, x, form)
    square = f * f
    high, low = exponent * form.ln2[0], exponent * form.ln2[1]
    if form is FLOAT32:
        rest = b.fma(square, -0.5, b.fma(f * square, _polynomial(b, f, LOG32), low))
        result = high + (f + rest)
    else:
        s = f / (f + 2.0)
        z = s * s
        half_square = square * 0.5
        rest = b.fma(s, b.fma(z, _polynomial(b, z, LOG64), half_square), low)
        result = high - ((half_square - rest) - f)
    result = b.select(b.compare("==", x, math.inf), x, result)
    result = b.select(b.compare("==", x, 0.0), -math.inf, result)
    return b.select(x >= 0.0, result, math.nan)


def tanh(b: Builder, x: Value) -> Value:
    """Hyperbolic tangent. Largest error: float32 1.4 ulp, float64 1.3."""
    form = _format(x)
    a = b.intrinsic("fabs", x)
    z = a * a
    small = b.fma(a * z, _polynomial(b, z, form.tanh), a)
    large = 1.0 - 2.0 / (exp(b, a + a) + 1.0)
    return b.intrinsic("copysign", b.select(a < SMALL_TANH, small, large), x)


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x), without overflow. Largest error: float32 2.5 ulp, float64 2.2."""
    e = exp(b, -b.intrinsic("fabs", x))
    return b.select(x < 0.0, e, 1.0) / (e + 1.0)


def erf(b: Builder, x: Value) -> Value:
    """Error function. Largest error: float32 1.2 ulp; float64 is the C library's."""
    if x.type.scalar == F64.scalar:
        return _each_lane(b, "erf", x)
    a = b.intrinsic("fabs", x)
    small = b.fma(a, _polynomial(b, a * a, ERF_SMALL), a)
    t = b.minimum(a, ERF_IS_ONE)
    large = 1.0 - exp(b, -b.fma(t, _polynomial(b, t, ERF_LARGE), t))
    return b.intrinsic("copysign", b.select(a < SMALL_ERF, small, large), x)


def sin(b: Builder, x: Value) -> Value:
    """Sine of any argument. Largest error: float32 0.6 ulp; float64 is the C library's."""
    return _circular(b, x, 0, "sin")


def cos(b: Builder, x: Value) -> Value:
    """Cosine of any argument. Largest error: float32 0.6 ulp; float64 is the C library's."""
    return _circular(b, x, 1, "cos")


def sqrt(b: Builder, x: Value) -> Value:
    """Square root, correctly rounded; NaN below zero."""
    return b.intrinsic("sqrt", x)


def pow(b: Builder, x: Value, y: Value) -> Value:
    """Raise x to y, special cases as in C. Largest error: float32 0.51 ulp; float64 is C's own."""
    if x.type.scalar == F64.scalar:
        return _each_lane(b, "pow", x, y)
    base, exponent = b.cast(b.intrinsic("fabs", x), F64), b.cast(y, F64)
    size = b.cast(_exp2_float64(b, exponent * _log2_float64(b, base)), F32)
    size = b.select(b.compare("==", base, 1.0), 1.0, size)
    half = y * 0.5
    whole = b.compare("==", b.intrinsic("floor", y), y)
    odd = whole & b.compare("!=", b.intrinsic("floor", half), half)
    result = b.select(odd, b.intrinsic("copysign", size, x), size)
    undefined = (x < 0.0) & (x > -math.inf) & ~whole
    result = b.select(undefined | b.is_nan(x) | b.is_nan(y), math.nan, result)
    return b.select(b.compare("==", y, 0.0) | b.compare("==", x, 1.0), 1.0, result)


def _format(x: Value) -> Format:
    return FLOAT32 if x.type.scalar == F32.scalar else FLOAT64


def _polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
    value = b.constant(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        value = b.fma(value, x, coefficient)
    return value


def _power_of_two(b: Builder, n: Value, form: Format) -> Value:
    """2^n for integers n in the range of normal numbers."""
    return b.bitcast((n + form.bias) << form.mantissa, F32 if form is FLOAT32 else F64)


def _split(b: Builder, x: Value, form: Format, *, subnormal: bool = True) -> tuple[Value, Value]:
    """F and e with x = 2^e (1 + f) and sqrt(1/2) <= 1 + f < sqrt(2), for positive finite x."""
    scalar = Type(x.type.scalar)
    extra = None
    if subnormal:
        tiny = x < form.tiny
        x = b.select(tiny, x * 2.0**form.mantissa, x)
        extra = b.select(tiny, b.constant(-float(form.mantissa), x.type), 0.0)
    bits = b.bitcast(x, form.integer)
    n = (bits - form.sqrt_half_bits) >> form.mantissa
    f = b.bitcast(bits - (n << form.mantissa), scalar) - 1.0
    exponent = b.cast(b.cast(n, I32), scalar)  # narrowed: few hosts convert 64-bit integers
    return f, exponent + extra if extra else exponent


def _log2_float64(b: Builder, x: Value) -> Value:
    """Base-2 logarithm of float64 x >= 0 that was a float32, to about 45 bits."""
    f, exponent = _split(b, x, FLOAT64, subnormal=False)
    s = f / (f + 2.0)
    z = s * s
    natural = b.fma(s * z, _polynomial(b, z, POW_LOG), s + s)
    result = b.fma(natural, 1 / math.log(2), exponent)
    result = b.select(b.compare("==", x, math.inf), x, result)
    return b.select(b.compare("==", x, 0.0), -math.inf, result)


def _exp2_float64(b: Builder, x: Value) -> Value:
    """2^x to about 34 bits; beyond the range of float32, any number beyond it."""
    x = b.minimum(b.maximum(x, -1000.0), 1000.0)
    shifted = x + FLOAT64.rounder
    r = x - (shifted - FLOAT64.rounder)
    n = b.bitcast(shifted, I64) - FLOAT64.rounder_bits
    return b.fma(_polynomial(b, r, POW_EXP2), r, 1.0) * _power_of_two(b, n, FLOAT64)


def _circular(b: Builder, x: Value, quarter: int, name: str) -> Value:
    """Give sin(x + quarter * pi / 2): float32 through float64, very large x by the C library."""
    if x.type.scalar == F64.scalar:
        return _each_lane(b, name, x)
    wide = b.cast(x, F64)
    shifted = b.fma(wide, 2 / math.pi, FLOAT64.rounder)
    turns = shifted - FLOAT64.rounder
    r = b.fma(turns, -HALF_PI[1], b.fma(turns, -HALF_PI[0], wide))
    z = r * r
    sine = r * b.fma(z, _polynomial(b, z, SIN), 1.0)
    cosine = b.fma(z, _polynomial(b, z, COS), 1.0)
    quadrant = b.bitcast(shifted, I64) + quarter
    value = b.select(b.compare("==", quadrant & 1, 0), sine, cosine)
    sign = (quadrant & 2) << 62
    near = b.cast(b.bitcast(b.bitcast(value, I64) ^ sign, F64), F32)
    far = b.intrinsic("fabs", x) > SIN_BOUND

    def slow() -> list[Value]:
        return [b.select(far, _each_lane(b, name + "f", x), near)]

    return b.either(b.any(far), slow, lambda: [near], unlikely=True)[0]


def _each_lane(b: Builder, name: str, *arguments: Value) -> Value:
    """The C library's function on each lane, through one function of the module a vector type."""
    kind = arguments[0].type
    if not kind.lanes:
        return b.call_c(name, kind, *arguments)
    symbol = f"lanes.{name}.{kind.mangled}"
    if not b.source.has(symbol):
        names = [f"x{i}" for i in range(len(arguments))]
        function = b.source.function(symbol, dict.fromkeys(names, kind), kind, internal=True)
        inner = function.body
        with inner.loop(0, kind.lanes, carry=[function.arguments[0]]) as loop:
            lane = inner.cast(loop.index, I32)
            items = [inner.extract(x, lane) for x in function.arguments]
            result = inner.call_c(name, Type(kind.scalar), *items)
            loop.update(inner.insert(loop.values[0], result, lane))
        inner.ret(loop.values[0])
    return b.call(symbol, kind, *arguments)
