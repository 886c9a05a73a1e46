"""The numbers of `native.math`: formats, intervals, and coefficients of polynomials.

The polynomials are minimax in relative error, found by Remez exchange in 60 digits and rounded
coefficient by coefficient from the lowest order up. High parts of split constants end in zeros, so
that their multiples by the small integers that occur are exact with and without FMA.
"""

from __future__ import annotations

from dataclasses import dataclass

from .values import F32, F64, I32, I64, Type


@dataclass(frozen=True)
class Format:
    """What the algorithms need to know about a floating-point type."""

    scalar: Type
    integer: Type  # of the same width
    mantissa: int  # its bits, without the hidden one
    bias: int  # of the exponent
    ln2: tuple[float, float]  # high and low part
    exp_range: tuple[float, float]  # beyond, exp is exactly 0 or infinite
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2
    tanh: tuple[float, ...]  # (tanh(r) / r - 1) / z, z = r^2, for r <= 0.625
    erf_small: tuple[float, ...]  # erf(a) / a - 1 in z = a^2, for a <= 0.921875
    erf_large: tuple[float, ...]  # -ln(1 - erf(a)) / a - 1 from there to `erf_is_one`
    erf_is_one: float  # where erf rounds to 1
    sqrt_half_bits: int

    @property
    def rounder(self) -> float:
        """Adding it rounds to an integer, which the low bits of the sum then hold."""
        return 1.5 * 2.0**self.mantissa

    @property
    def rounder_bits(self) -> int:
        """The bits of `rounder`."""
        return (2 * (self.bias + self.mantissa) + 1) << (self.mantissa - 1)

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


FLOAT32 = Format(
    scalar=F32,
    integer=I32,
    mantissa=23,
    bias=127,
    ln2=(0.693145751953125, 1.4286068203094172e-06),
    exp_range=(-104.0, 89.0),
    exp=(
        0.4999999403953552, 0.16666516661643982, 0.04166810214519501, 0.008369192481040955,
        0.001383890281431377,
    ),
    tanh=(
        -0.3333328068256378, 0.13331405818462372, -0.05373651534318924, 0.02062816731631756,
        -0.005692296661436558,
    ),
    erf_small=(
        0.12837916612625122, -0.3761262893676758, 0.11283625662326813, -0.026855729520320892,
        0.005192392505705357, -0.0008049514726735651, 7.99504850874655e-05,
    ),
    erf_large=(
        0.128514364361763, 0.6357182860374451, 0.1052619144320488, -0.022890038788318634,
        0.003214990720152855, -0.00021399103570729494,
    ),
    erf_is_one=3.95,
    sqrt_half_bits=0x3F3504F3,
)  # fmt: skip
FLOAT64 = Format(
    scalar=F64,
    integer=I64,
    mantissa=52,
    bias=1023,
    ln2=(0.6931471803691238, 1.9082149292705877e-10),
    exp_range=(-746.0, 710.0),
    exp=(
        0.5, 0.16666666666666688, 0.041666666666666824, 0.008333333333313892, 0.0013888888888777787,
        0.00019841269903362197, 2.4801587559748842e-05, 2.755722874088076e-06,
        2.755706552385316e-07, 2.5114539247906875e-08, 2.0997719218491316e-09,
    ),
    tanh=(
        -0.3333333333333333, 0.13333333333332945, -0.05396825396798436, 0.021869488526935585,
        -0.008863235345701548, 0.0035921256820267027, -0.001455814082466978, 0.0005899056228321148,
        -0.00023861288553139758, 9.53668299051955e-05, -3.6024926656243444e-05,
        1.1249724649692433e-05, -2.0537117475100416e-06,
    ),
    erf_small=(
        0.1283791670955126, -0.3761263890318408, 0.11283791670969558, -0.02686617064759707,
        0.005223977646898603, -0.0008548328096851036, 0.0001205536552980783,
        -1.4926248223940355e-05, 1.6468209667201524e-06, -1.6386001710786061e-07,
        1.4576747379295177e-08, -9.580735036492025e-10,
    ),
    erf_large=(
        0.1283791543270967, 0.6366198485399442, 0.10277257043271641, -0.01912959794702664,
        -0.0002035412867602465, 0.0016812062790588253, -0.0005630611182506425,
        -1.0106054841797449e-05, 0.00010111982718836498, -5.877700518374436e-05,
        2.1400306255172604e-05, -5.700018945587892e-06, 1.15122556584116e-06,
        -1.7588411429472872e-07, 1.978613322146e-08, -1.549340645536461e-09, 7.547528293824813e-11,
        -1.7221990503484223e-12,
    ),
    erf_is_one=5.9375,
    sqrt_half_bits=0x3FE6A09E667F3BCD,
)  # fmt: skip
SMALL_TANH = 0.625
SMALL_ERF = 0.921875
# (log(1 + f) - f + f^2 / 2) / f^3 for sqrt(1/2) <= 1 + f <= sqrt(2).
LOG32 = (
    0.3333333134651184, -0.250008225440979, 0.20001260936260223, -0.16623222827911377,
    0.14200817048549652, -0.13160547614097595, 0.12765070796012878, -0.07634475082159042,
)  # fmt: skip
# (2 atanh(s) / s - 2) / z, z = s^2, on the same interval: s = f / (2 + f).
LOG64 = (
    0.6666666666666734, 0.3999999999941664, 0.2857142874202816, 0.22222198605060423,
    0.18183562850661195, 0.15314084869374706, 0.14795632915976537,
)  # fmt: skip
# The same to 45 bits, and (2^r - 1) / r for |r| <= 1/2 to 34 bits: float32's pow, in float64.
POW_LOG = (
    0.6666666667579995, 0.39999995622526485, 0.28572109053399064, 0.2217619424979881,
    0.19584056521751406,
)  # fmt: skip
POW_EXP2 = (
    0.6931471807045274, 0.24022651066561343, 0.05550410365996959, 0.009618038132024305,
    0.0013333935053487934, 0.00015466756331385082, 1.5196156824562566e-05,
)  # fmt: skip
# (3 atanh(s) / s - 3 - z) / z^2, z = s^2, to 58 bits, and 2 / (3 ln 2), whole and in two parts.
POW64_LOG = (
    0.5999999999999996, 0.42857142857183317, 0.33333333320437736, 0.2727272917861996,
    0.23076769334721797, 0.20007162868607126, 0.1745596072073591, 0.18459357757462766,
)  # fmt: skip
POW64_SCALE = (0.9617966939259756, 0.9617962837219238, 4.102040517767816e-07)
POW_RANGE = 1100.0  # beyond, 2^r is 0 or infinite in float64
POW_MOST_EXPONENT = 2.0**64  # beyond, all powers but those of 1 are 0 or infinite
# (sin(r) / r - 1) / z and (cos(r) - 1) / z, z = r^2, for |r| <= pi / 4; float32's, in float64.
SIN = (
    -0.1666666664162698, 0.008333329385942993, -0.00019839334853585547, 2.7183116630872913e-06,
)  # fmt: skip
COS = (
    -0.4999999972510803, 0.04166662332432322, -0.0013886763793756716, 2.4390450650420245e-05,
)  # fmt: skip
HALF_PI = (1.5707963267341256, 6.077100506506192e-11)  # 33 bits, and the rest
SIN_BOUND = 2.0**20  # below it, multiples of the high part are exact in float64
# The same for float64, but for the cosine (cos(r) - 1 + z / 2) / z^2.
SIN64 = (
    -0.16666666666666632, 0.00833333333332249, -0.00019841269829857795, 2.755731370699768e-06,
    -2.5050760239653014e-08, 1.5896909034477842e-10,
)  # fmt: skip
COS64 = (
    0.0416666666666666, -0.0013888888888870213, 2.4801587285269795e-05, -2.755731278435966e-07,
    2.0875476359519048e-09, -1.1345601199898803e-11,
)  # fmt: skip
HALF_PI64 = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)  # 33, 33, 53 bits
