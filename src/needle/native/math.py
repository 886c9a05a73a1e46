"""`exp`, `log`, `tanh`, `sigmoid`, `erf`, `sin`, `cos`, `pow`, `sqrt` as code over vectors.

Each function appends its code to a builder and works on scalars and vectors of float32 and float64.
Special values are NumPy's: NaN, infinities, signed zeros, subnormals; floating-point flags are not
kept. The largest error, in units in the last place of the exact result, is stated in each
docstring and holds with and without FMA.

How they work: reduce the argument to a short interval around zero, evaluate a polynomial there,
undo the reduction on the exponent's bits (Cody and Waite, "Software Manual for the Elementary
Functions", 1980; the form of `log` for float64 is that of fdlibm's e_log.c). The polynomials are
minimax in relative error, found by Remez exchange in 60 digits and rounded coefficient by
coefficient from the lowest order up. High parts of split constants end in zeros, so that their
multiples by the small integers that occur are exact with and without FMA. Nothing here may be
marked fast-math: that would undo the reductions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .values import F32, F64, I32, I64, Type, Value
from .vectors import Builder


@dataclass(frozen=True)
class _Format:
    """What the algorithms need to know about a floating-point type."""

    integer: Type  # the integer of the same width
    mantissa: int  # its bits, without the hidden one
    bias: int
    rounder: float  # adding it rounds to an integer, found in the low bits of the sum
    rounder_bits: int
    ln2: tuple[float, float]  # high and low part
    exp_range: tuple[float, float]  # beyond, exp is exactly 0 or infinite
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2
    tanh: tuple[float, ...]  # (tanh(r) / r - 1) / z, z = r^2, for r <= 0.625
    tiny: float  # the smallest normal number
    sqrt_half_bits: int


_FLOAT32 = _Format(
    integer=I32,
    mantissa=23,
    bias=127,
    rounder=12582912.0,
    rounder_bits=0x4B400000,
    ln2=(0.693145751953125, 1.4286068203094172e-06),
    exp_range=(-104.0, 89.0),
    exp=(
        0.4999999403953552,
        0.16666516661643982,
        0.04166810214519501,
        0.008369192481040955,
        0.001383890281431377,
    ),
    tanh=(
        -0.3333328068256378,
        0.13331405818462372,
        -0.05373651534318924,
        0.02062816731631756,
        -0.005692296661436558,
    ),
    tiny=2.0**-126,
    sqrt_half_bits=0x3F3504F3,
)
_FLOAT64 = _Format(
    integer=I64,
    mantissa=52,
    bias=1023,
    rounder=6755399441055744.0,
    rounder_bits=0x4338000000000000,
    ln2=(0.6931471803691238, 1.9082149292705877e-10),
    exp_range=(-746.0, 710.0),
    exp=(
        0.5,
        0.16666666666666688,
        0.041666666666666824,
        0.008333333333313892,
        0.0013888888888777787,
        0.00019841269903362197,
        2.4801587559748842e-05,
        2.755722874088076e-06,
        2.755706552385316e-07,
        2.5114539247906875e-08,
        2.0997719218491316e-09,
    ),
    tanh=(
        -0.3333333333333333,
        0.13333333333332945,
        -0.05396825396798436,
        0.021869488526935585,
        -0.008863235345701548,
        0.0035921256820267027,
        -0.001455814082466978,
        0.0005899056228321148,
        -0.00023861288553139758,
        9.53668299051955e-05,
        -3.6024926656243444e-05,
        1.1249724649692433e-05,
        -2.0537117475100416e-06,
    ),
    tiny=2.0**-1022,
    sqrt_half_bits=0x3FE6A09E667F3BCD,
)
_SMALL_TANH = 0.625
# (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2).
_LOG32 = (
    0.3333333134651184,
    -0.250008225440979,
    0.20001260936260223,
    -0.16623222827911377,
    0.14200817048549652,
    -0.13160547614097595,
    0.12765070796012878,
    -0.07634475082159042,
)
# (2 atanh(s) / s - 2) / z, z = s^2, on the same interval: s = f / (2 + f).
_LOG64 = (
    0.6666666666666734,
    0.3999999999941664,
    0.2857142874202816,
    0.22222198605060423,
    0.18183562850661195,
    0.15314084869374706,
    0.14795632915976537,
)
# The same to 45 bits, and (2^r - 1) / r for |r| <= 1/2 to 34 bits: float32's pow, in float64.
_POW_LOG = (
    0.6666666667579995,
    0.39999995622526485,
    0.28572109053399064,
    0.2217619424979881,
    0.19584056521751406,
)
_POW_EXP2 = (
    0.6931471807045274,
    0.24022651066561343,
    0.05550410365996959,
    0.009618038132024305,
    0.0013333935053487934,
    0.00015466756331385082,
    1.5196156824562566e-05,
)
# erf(a) / a - 1 for a <= 0.921875, and -log(1 - erf(a)) / a - 1 up to 3.95, where erf is 1.
_SMALL_ERF = 0.921875
_ERF_IS_ONE = 3.95
_ERF_SMALL = (
    0.12837916612625122,
    -0.3761262893676758,
    0.11283625662326813,
    -0.026855729520320892,
    0.005192392505705357,
    -0.0008049514726735651,
    7.99504850874655e-05,
)
_ERF_LARGE = (
    0.128514364361763,
    0.6357182860374451,
    0.1052619144320488,
    -0.022890038788318634,
    0.003214990720152855,
    -0.00021399103570729494,
)
# (sin(r) / r - 1) / z and (cos(r) - 1) / z, z = r^2, for |r| <= pi / 4; float32's, in float64.
_SIN = (
    -0.1666666664162698,
    0.008333329385942993,
    -0.00019839334853585547,
    2.7183116630872913e-06,
)
_COS = (
    -0.4999999972510803,
    0.04166662332432322,
    -0.0013886763793756716,
    2.4390450650420245e-05,
)
_HALF_PI = (1.5707963267341256, 6.077100506506192e-11)  # 33 bits, and the rest
_SIN_BOUND = 2.0**20  # below it, multiples of the high part are exact in float64


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
    if form is _FLOAT32:
        rest = b.fma(square, -0.5, b.fma(f * square, _polynomial(b, f, _LOG32), low))
        result = high + (f + rest)
    else:
        s = f / (f + 2.0)
        z = s * s
        half_square = square * 0.5
        rest = b.fma(s, b.fma(z, _polynomial(b, z, _LOG64), half_square), low)
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
    return b.intrinsic("copysign", b.select(a < _SMALL_TANH, small, large), x)


def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x), without overflow. Largest error: float32 2.5 ulp, float64 2.2."""
    e = exp(b, -b.intrinsic("fabs", x))
    return b.select(x < 0.0, e, 1.0) / (e + 1.0)


def erf(b: Builder, x: Value) -> Value:
    """Error function. Largest error: float32 1.2 ulp; float64 is the C library's."""
    if x.type.scalar == F64.scalar:
        return _each_lane(b, "erf", x)
    a = b.intrinsic("fabs", x)
    small = b.fma(a, _polynomial(b, a * a, _ERF_SMALL), a)
    t = b.minimum(a, _ERF_IS_ONE)
    large = 1.0 - exp(b, -b.fma(t, _polynomial(b, t, _ERF_LARGE), t))
    return b.intrinsic("copysign", b.select(a < _SMALL_ERF, small, large), x)


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


def _format(x: Value) -> _Format:
    return _FLOAT32 if x.type.scalar == F32.scalar else _FLOAT64


def _polynomial(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule."""
    value = b.constant(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        value = b.fma(value, x, coefficient)
    return value


def _power_of_two(b: Builder, n: Value, form: _Format) -> Value:
    """2^n for integers n in the range of normal numbers."""
    return b.bitcast((n + form.bias) << form.mantissa, F32 if form is _FLOAT32 else F64)


def _split(b: Builder, x: Value, form: _Format, *, subnormal: bool = True) -> tuple[Value, Value]:
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
    f, exponent = _split(b, x, _FLOAT64, subnormal=False)
    s = f / (f + 2.0)
    z = s * s
    natural = b.fma(s * z, _polynomial(b, z, _POW_LOG), s + s)
    result = b.fma(natural, 1 / math.log(2), exponent)
    result = b.select(b.compare("==", x, math.inf), x, result)
    return b.select(b.compare("==", x, 0.0), -math.inf, result)


def _exp2_float64(b: Builder, x: Value) -> Value:
    """2^x to about 34 bits; beyond the range of float32, any number beyond it."""
    x = b.minimum(b.maximum(x, -1000.0), 1000.0)
    shifted = x + _FLOAT64.rounder
    r = x - (shifted - _FLOAT64.rounder)
    n = b.bitcast(shifted, I64) - _FLOAT64.rounder_bits
    return b.fma(_polynomial(b, r, _POW_EXP2), r, 1.0) * _power_of_two(b, n, _FLOAT64)


def _circular(b: Builder, x: Value, quarter: int, name: str) -> Value:
    """Give sin(x + quarter * pi / 2): float32 through float64, very large x by the C library."""
    if x.type.scalar == F64.scalar:
        return _each_lane(b, name, x)
    wide = b.cast(x, F64)
    shifted = b.fma(wide, 2 / math.pi, _FLOAT64.rounder)
    turns = shifted - _FLOAT64.rounder
    r = b.fma(turns, -_HALF_PI[1], b.fma(turns, -_HALF_PI[0], wide))
    z = r * r
    sine = r * b.fma(z, _polynomial(b, z, _SIN), 1.0)
    cosine = b.fma(z, _polynomial(b, z, _COS), 1.0)
    quadrant = b.bitcast(shifted, I64) + quarter
    value = b.select(b.compare("==", quadrant & 1, 0), sine, cosine)
    sign = (quadrant & 2) << 62
    near = b.cast(b.bitcast(b.bitcast(value, I64) ^ sign, F64), F32)
    far = b.intrinsic("fabs", x) > _SIN_BOUND

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
