"""What an elementwise operator may say: the vocabulary of `Elementwise.expression`.

An expression is written once, with Python's operators and the functions of a namespace `e`. In
eager mode `e` is `NUMPY`, below, and the operands are arrays; the code generator passes its own
namespace and symbols.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial import polynomial

Array = np.ndarray[Any, Any]


class NumPyExpressions:
    """The vocabulary, evaluated by NumPy."""

    exp = staticmethod(np.exp)
    log = staticmethod(np.log)
    tanh = staticmethod(np.tanh)
    sqrt = staticmethod(np.sqrt)
    abs = staticmethod(np.abs)
    sin = staticmethod(np.sin)
    cos = staticmethod(np.cos)
    pow = staticmethod(np.power)
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    where = staticmethod(np.where)

    @staticmethod
    def cast(x: Array, dtype: Any) -> Array:
        """`x` in another dtype."""
        return x.astype(dtype)

    @staticmethod
    def sigmoid(x: Array) -> Array:
        """1 / (1 + exp(-x)), written so that exp never overflows."""
        z = np.exp(-np.abs(x))
        return np.where(x >= 0, np.ones_like(z), z) / (1 + z)

    @staticmethod
    def erf(x: Array) -> Array:
        """The error function, to the last digits of float64."""
        result = _erf(np.asarray(x, np.float64))
        return result.astype(x.dtype)


NUMPY = NumPyExpressions()

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969):
# erf on |x| <= 0.5, and exp(x²)·erfc(x) on (0.5, 4] and beyond 4; coefficients from the lowest
# power up.
_NEAR = (
    (3.20937758913846947e03, 3.77485237685302021e02, 1.13864154151050156e02, 3.16112374387056560e00,
     1.85777706184603153e-1),
    (2.84423683343917062e03, 1.28261652607737228e03, 2.44024637934444173e02, 2.36012909523441209e01,
     1.0),
)  # fmt: skip
_MIDDLE = (
    (1.23033935479799725e03, 2.05107837782607147e03, 1.71204761263407058e03, 8.81952221241769090e02,
     2.98635138197400131e02, 6.61191906371416295e01, 8.88314979438837594e00, 5.64188496988670089e-1,
     2.15311535474403846e-8),
    (1.23033935480374942e03, 3.43936767414372164e03, 4.36261909014324716e03, 3.29079923573345963e03,
     1.62138957456669019e03, 5.37181101862001128e02, 1.17693950891312499e02, 1.57449261107098347e01,
     1.0),
)  # fmt: skip
_FAR = (
    (6.58749161529837803e-4, 1.60837851487422766e-2, 1.25781726111229246e-1, 3.60344899949804439e-1,
     3.05326634961232344e-1, 1.63153871373020978e-2),
    (2.33520497626869185e-3, 6.05183413124413191e-2, 5.27905102951428412e-1, 1.87295284992346047e00,
     2.56852019228982242e00, 1.0),
)  # fmt: skip


def _ratio(x: Array, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Array:
    above, below = coefficients
    return polynomial.polyval(x, above) / polynomial.polyval(x, below)


def _erf(x: Array) -> Array:
    size = np.minimum(np.abs(x), 6.0)  # erf(6) is 1 to the last digit
    square = size * size
    near = size * _ratio(square, _NEAR)
    middle = np.exp(-square) * _ratio(size, _MIDDLE)
    beyond = np.maximum(size, 4.0)  # the far form is not meant for smaller arguments
    inverse = 1 / (beyond * beyond)
    far = np.exp(-square) / beyond * (1 / np.sqrt(np.pi) - inverse * _ratio(inverse, _FAR))
    result = np.where(size <= 0.5, near, 1 - np.where(size <= 4, middle, far))
    return np.copysign(result, x)
