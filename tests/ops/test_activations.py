"""GELU against SciPy and mpmath; the others are tested with all functions of one tensor."""

import mpmath
import numpy as np
import pytest
import scipy.special

import needle as ndl
from needle.errors import ArgumentError


def exact_gelu(x):
    return x * scipy.special.ndtr(x)


def tanh_gelu(x):
    with mpmath.workdps(30):
        return np.array(
            [
                float(v * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (v + 0.044715 * v**3))) / 2)
                for v in map(mpmath.mpf, map(float, x))
            ]
        )


def test_gelu():
    x = np.linspace(-10, 10, 2001)
    np.testing.assert_allclose(
        ndl.gelu(ndl.Tensor(x)).numpy(), exact_gelu(x), rtol=4e-16, atol=1e-15
    )
    y = ndl.gelu(ndl.Tensor(x, dtype="float32")).numpy()
    x32 = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(y, exact_gelu(x32), rtol=1e-6, atol=4e-7)
    positive = x32 > 0
    np.testing.assert_allclose(y[positive], exact_gelu(x32[positive]), rtol=1e-6)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-6), ("float64", 1e-14)])
def test_gelu_by_tanh_keeps_its_digits_where_it_is_small(dtype, rtol):
    x = np.linspace(-4, 4, 401).astype(dtype)
    y = ndl.gelu(ndl.Tensor(x), approximate="tanh").numpy()
    np.testing.assert_allclose(y, tanh_gelu(x), rtol=rtol)


def test_gelu_refuses_other_approximations():
    with pytest.raises(ArgumentError, match=r'gelu: approximate=\'fast\' is not known. Use "none"'):
        ndl.gelu(ndl.Tensor([1.0]), approximate="fast")
