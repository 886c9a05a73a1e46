"""Vector functions against float64, mpmath and C's rules for special values."""

import ctypes

import mpmath
import numpy as np
import pytest
from scipy import special

from needle.native import llvm, math
from needle.native.vectors import F32, F64, I64, PTR, Source

HOSTS = (16, 8, 4)
ORACLES = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "erf": special.erf,
    "sin": np.sin,
    "cos": np.cos,
    "sqrt": np.sqrt,
}
# Units in the last place that the docstrings promise.
BOUNDS32 = {
    "exp": 1.02,
    "log": 0.9,
    "tanh": 1.4,
    "sigmoid": 2.5,
    "erf": 1.2,
    "sin": 0.6,
    "cos": 0.6,
    "sqrt": 0.5,
    "pow": 0.51,
}
BOUNDS64 = {
    "exp": 1.0,
    "log": 0.9,
    "tanh": 1.4,
    "sigmoid": 2.5,
    "erf": 1.1,
    "sin": 0.8,
    "cos": 0.8,
    "pow": 0.9,
}
EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
}


def compiled(name, lanes, scalar=F32, inputs=1, host=None):
    """The vector function as a NumPy function."""
    source = Source(llvm.host(host or lanes))
    arguments = {f"x{i}": PTR for i in range(inputs)} | {"y": PTR, "n": I64}
    function = source.function("kernel", arguments)
    b = function.body
    *xs, y, n = function.arguments

    def body(i, mask):
        values = [b.load(x, scalar.vector(lanes), i, mask=mask) for x in xs]
        b.store(getattr(math, name)(b, *values), y, i, mask=mask)

    b.vector_loop(0, n, max(lanes, 1), body)
    b.ret()
    module = llvm.compile_ir(source.text(), source.host)
    kernel = module.function("kernel", None, *[ctypes.c_void_p] * (inputs + 1), ctypes.c_int64)

    def call(*arrays):
        arrays = [np.ascontiguousarray(a) for a in arrays]
        out = np.empty_like(arrays[0])
        kernel(*[a.ctypes.data for a in arrays], out.ctypes.data, out.size)
        return out

    return call


def ulps(got, exact):
    """Errors of float32 results in ulp of the exact float64 ones; infinite for a wrong kind."""
    nearest = exact.astype(np.float32)
    unit = np.exp2(np.floor(np.log2(np.clip(np.abs(exact), 2.0**-126, 2.0**127))) - 23)
    error = np.abs(got.astype(np.float64) - exact) / unit
    right = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    special_value = ~np.isfinite(got) | ~np.isfinite(nearest)
    return np.where(special_value, np.where(right, 0, np.inf), error)


def worst_over_bits(name, kernel, bits):
    x = bits.view(np.float32)
    with np.errstate(all="ignore"):
        got, exact = kernel(x), ORACLES[name](x.astype(np.float64))
        error = ulps(got, exact)
        assert ((got != 0) | (np.signbit(got) == np.signbit(exact))).all()
    return error.max(), x[error.argmax()]


@pytest.mark.parametrize("lanes", HOSTS)
@pytest.mark.parametrize("name", ORACLES)
def test_float32_is_within_its_bound_over_strided_bit_patterns(name, lanes):
    bits = np.arange(0, 2**32, 2003, dtype=np.uint32)
    worst, at = worst_over_bits(name, compiled(name, lanes), bits)
    assert worst <= BOUNDS32[name], at


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("lanes", (16, 4))
@pytest.mark.parametrize("name", ORACLES)
def test_every_float32_is_within_its_bound(name, lanes):
    kernel, chunk = compiled(name, lanes), 2**22
    for start in range(0, 2**32, chunk):
        bits = np.arange(start, start + chunk, dtype=np.uint32)
        worst, at = worst_over_bits(name, kernel, bits)
        assert worst <= BOUNDS32[name], at


SPECIAL = [0.0, 1.0, 2.0, 0.5, 3.0, 2.5, np.inf, 1e38, 1e-45, 1e-38, 16777215.0, 16777218.0]
SPECIAL = np.array([sign * x for x in (*SPECIAL, 0.9999999, np.nan) for sign in (1, -1)])


@pytest.mark.parametrize("lanes", HOSTS)
@pytest.mark.parametrize("name", ORACLES)
def test_special_values_are_numpys(name, lanes):
    x = np.concatenate([SPECIAL, np.ldexp([1.0, -1.0, 1.5, -1.5], -149)]).astype(np.float32)
    worst, at = worst_over_bits(name, compiled(name, lanes), x.view(np.uint32))
    assert worst <= BOUNDS32[name], at


@pytest.mark.parametrize("lanes", HOSTS)
def test_pow_has_the_special_cases_of_c(lanes):
    x, y = (a.ravel().astype(np.float32) for a in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        got, exact = compiled("pow", lanes, inputs=2)(x, y), np.power(x.astype(float), y)
        assert ulps(got, exact).max() <= BOUNDS32["pow"]
    known = ~np.isnan(exact)
    assert (np.signbit(got) == np.signbit(exact))[known].all()


@pytest.mark.parametrize("lanes", HOSTS)
def test_pow_is_within_its_bound(lanes):
    rng, n = np.random.default_rng(0), 300_000
    kernel = compiled("pow", lanes, inputs=2)
    whole = rng.integers(-40, 40, n).astype(np.float32)
    real = (rng.normal(size=n) * 10.0 ** rng.uniform(-3, 2, n)).astype(np.float32)
    bases = [
        rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32),
        np.exp(rng.normal(size=n) * 3).astype(np.float32),
        (1 + rng.normal(size=n) * 1e-3).astype(np.float32),
    ]
    with np.errstate(all="ignore"):
        for x in bases:
            for y in (whole, real):
                error = ulps(kernel(x, y), np.power(x.astype(np.float64), y))
                assert error.max() <= BOUNDS32["pow"], (x[error.argmax()], y[error.argmax()])


@pytest.mark.parametrize("lanes", HOSTS)
@pytest.mark.parametrize("name", EXACT)
def test_float64_is_within_its_bound(name, lanes):
    rng, n = np.random.default_rng(1), 400
    scales = (1e-3, 0.3, 1.0, 3.0, 30.0, 300.0)
    x = np.concatenate([rng.normal(size=n) * s for s in scales])
    x = np.concatenate([x, np.ldexp(rng.normal(size=n), rng.integers(-1070, 1020, n))])
    x = np.abs(x) if name == "log" else x
    got = compiled(name, lanes // 2, F64, host=lanes)(x)
    assert worst_of_float64(got, EXACT[name], x) <= BOUNDS64[name]


def worst_of_float64(got, exact, *arrays):
    """The largest error of results in units in the last place of the exact ones."""
    largest, errors = mpmath.mpf(np.finfo(np.float64).max), []
    with mpmath.workprec(200):
        for result, *values in zip(got.tolist(), *[a.tolist() for a in arrays], strict=True):
            right = exact(*map(mpmath.mpf, values))
            if np.isfinite(result):
                unit = mpmath.mpf(2) ** (
                    max(mpmath.frexp(right)[1] - 53, -1074) if right else -1074
                )
                errors.append(abs(result - right) / unit)
            else:
                assert abs(right) > largest, values
    return max(errors)


@pytest.mark.parametrize("lanes", HOSTS)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_float64_is_within_its_bound_near_multiples_of_a_quarter_turn(name, lanes):
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.integers(-660_000, 660_000, 800) * (np.pi / 2), [2.0**20, -(2.0**20)]])
    x = np.concatenate([x, [5.5, 22.0, 355.0, 710.0, 312689.0]])  # close to multiples of pi
    got = compiled(name, lanes // 2, F64, host=lanes)(x)
    assert worst_of_float64(got, EXACT[name], x) <= BOUNDS64[name]


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_circular_functions_of_large_float64_are_the_c_librarys(name):
    x = np.array([2.0**20 + 1, 1e10, -1e300, 3.0, np.inf, -np.inf, np.nan, 0.1])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(compiled(name, 8, F64)(x), ORACLES[name](x), rtol=3e-16)


def float64_powers(seed, n):
    """Bases and exponents: common ones, and such as lead to both ends of the range."""
    rng = np.random.default_rng(seed)
    bases = [
        np.exp(rng.normal(size=n) * 3),
        1 + rng.normal(size=n) * 1e-3,
        rng.uniform(0.7, 1.42, n),
        np.ldexp(rng.uniform(0.5, 1, n), rng.integers(-1073, 1024, n)),
    ]
    for x in bases:
        ends = np.concatenate(
            [rng.uniform(650, 709.7, n // 2), rng.uniform(-744, -650, n - n // 2)]
        )
        for y in (rng.normal(size=n) * 3, rng.integers(-40, 40, n) / 2, ends / np.log(x)):
            yield x, y


@pytest.mark.parametrize("lanes", HOSTS)
def test_pow_of_float64_is_within_its_bound(lanes):
    kernel = compiled("pow", lanes // 2, F64, inputs=2, host=lanes)
    for x, y in float64_powers(0, 200):
        assert worst_of_float64(kernel(x, y), mpmath.power, x, y) <= BOUNDS64["pow"]


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_powers_of_float64_are_within_their_bound(seed):
    kernel = compiled("pow", 8, F64, inputs=2)
    for x, y in float64_powers(seed, 20_000):
        assert worst_of_float64(kernel(x, y), mpmath.power, x, y) <= BOUNDS64["pow"]


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", EXACT)
def test_many_float64_are_within_their_bound(name):
    rng, n = np.random.default_rng(4), 20_000
    x = np.concatenate([rng.normal(size=n) * s for s in (1e-3, 0.3, 1.0, 3.0, 30.0, 300.0, 2e5)])
    x = np.abs(x) if name == "log" else x
    assert worst_of_float64(compiled(name, 8, F64)(x), EXACT[name], x) <= BOUNDS64[name]


@pytest.mark.parametrize("name", ORACLES)
def test_special_values_of_float64_are_numpys(name):
    x = np.concatenate([SPECIAL, np.ldexp([1.0, -1.0, 1.5, -1.5], -1074), [1e308, -1e308]])
    with np.errstate(all="ignore"):
        got, expected = compiled(name, 8, F64)(x), ORACLES[name](x)
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=0)
    known = ~np.isnan(expected)
    assert (np.signbit(got) == np.signbit(expected))[known].all()


def test_pow_of_float64_has_the_special_cases_of_c():
    further = [1e308, -1e308, 2.0**53 + 1, 2.0**53 + 2, -(2.0**53 + 1), 5e-324, -5e-324, 1 - 2e-16]
    values = np.concatenate([SPECIAL, further])
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        got, expected = compiled("pow", 8, F64, inputs=2)(x, y), np.power(x, y)
    np.testing.assert_allclose(got, expected, rtol=5e-16, atol=0)
    known = ~np.isnan(expected)
    assert (np.signbit(got) == np.signbit(expected))[known].all()


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("scalar", (F32, F64), ids=("float32", "float64"))
def test_scalars_get_the_bits_of_vectors(name, scalar):
    dtype = np.float32 if scalar is F32 else np.float64
    x = np.abs(np.random.default_rng(2).normal(size=50)).astype(dtype)
    np.testing.assert_array_equal(
        compiled(name, 0, scalar, host=16)(x), compiled(name, 8, scalar, host=16)(x)
    )
