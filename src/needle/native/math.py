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

from .circular import cos, sin
from .coefficients import FLOAT32, LOG32, LOG64, SMALL_ERF, SMALL_TANH
from .float_parts import format_of, polynomial, scaled, split
from .power import pow
from .values import Value
from .vectors import Builder

__all__ = ["cos", "erf", "exp", "log", "pow", "sigmoid", "sin", "sqrt", "tanh"]


def exp(b: Builder, x: Value) -> Value:
    """e^x. Largest error: float32 1.02 ulp, float64 1.0."""
    form = format_of(x)
    low, high = form.exp_range
    x = b.minimum(b.maximum(x, low), high)
    shifted = b.fma(x, 1 / math.log(2), form.rounder)
    turns = shifted - form.rounder
    r = b.fma(turns, -form.ln2[1], b.fma(turns, -form.ln2[0], x))
    power = b.fma(polynomial(b, r, form.exp), r * r, r) + 1.0
    return scaled(b, power, b.bitcast(shifted, form.integer) - form.rounder_bits)


def log(b: Builder, x: Value) -> Value:
    """Natural logarithm. Largest error: 0.9 ulp."""
    form = format_of(x)
    f, exponent = split(b, x)
    square = f * f
    high, low = exponent * form.ln2[0], exponent * form.ln2[1]
    if form is FLOAT32:
        rest = b.fma(square, -0.5, b.fma(f * square, polynomial(b, f, LOG32), low))
        result = high + (f + rest)
    else:
        s = f / (f + 2.0)
        z = s * s
        half_square = square * 0.5
        rest = b.fma(s, b.fma(z, polynomial(b, z, LOG64), half_square), low)
        result = high - ((half_square - rest) - f)
    result = b.select(b.compare("==", x, math.inf), x, result)
    result = b.select(b.compare("==", x, 0.0), -math.inf, result)
    return b.select(x >= 0.0, result, math.nan)


def tanh(b: Builder, x: Value) -> Value:
    """Hyperbolic tangent. Largest error: 1.4 ulp."""
    form = format_of(x)
    a = b.intrinsic("fabs", x)
    z = a * a
    small = b.fma(a * z, polynomial(b, z, form.tanh), a)
    large = 1.0 - 2.0 / (exp(b, a + a) + 1.0)
    return b.intrinsic("copysign", b.select(a < SMALL_TANH, small, large), x)


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x), without overflow. Largest error: 2.5 ulp."""
    e = exp(b, -b.intrinsic("fabs", x))
    return b.select(x < 0.0, e, 1.0) / (e + 1.0)


def erf(b: Builder, x: Value) -> Value:
    """Error function. Largest error: float32 1.2 ulp, float64 1.1."""
    form = format_of(x)
    a = b.intrinsic("fabs", x)
    small = b.fma(a, polynomial(b, a * a, form.erf_small), a)
    t = b.minimum(a, form.erf_is_one)
    large = 1.0 - exp(b, -b.fma(t, polynomial(b, t, form.erf_large), t))
    return b.intrinsic("copysign", b.select(a < SMALL_ERF, small, large), x)


def sqrt(b: Builder, x: Value) -> Value:
    """Square root, correctly rounded; NaN below zero."""
    return b.intrinsic("sqrt", x)
