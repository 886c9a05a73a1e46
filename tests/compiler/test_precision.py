"""Long float32 sums of compiled programs keep their digits: compared with sums in float64."""

import math
import re

import numpy as np
import pytest

import needle as ndl
from needle import Tensor
from needle.native import llvm, threads
from tests.compiler import stages
from tests.compiler.stages import expect_numpy

pytest.importorskip("llvmlite")

UNIT = 2.0**-24
"""Largest relative rounding error of one float32 operation."""


def filled(shape, values, seed=0):
    random = np.random.default_rng(seed)
    if values == "tenths":
        return np.full(shape, 0.1, np.float32)
    return random.random(shape, np.float32) - np.float32(0.5 if values == "mixed" else 0)


def compiled(function, *arrays):
    tensors = [Tensor(array, requires_grad=False) for array in arrays]
    return ndl.jit(function, warmup=0)(*tensors).numpy()


@pytest.mark.parametrize("values", ["tenths", "positive", "mixed"])
@pytest.mark.parametrize("size", [1000, 4095, 4097, 100_003, 1_000_000, 10_000_000])
def test_the_error_of_a_sum_hardly_grows_with_its_length(size, values):
    x = filled(size, values)
    total = math.fsum(x.tolist())
    bound = 30 * UNIT * float(np.abs(x, dtype=np.float64).sum())
    assert abs(float(compiled(lambda x: x.sum(), x)) - total) < bound


LONG = {
    "all": (lambda x: x.sum(), (100_003, 9)),
    "rows": (lambda x: x.sum(1), (3, 300_001)),
    "columns": (lambda x: x.sum(0), (300_001, 5)),
    "wide columns": (lambda x: x.sum(0), (70_001, 33)),
    "outer and inner axes": (lambda x: x.sum((0, 2)), (3_001, 3, 107)),
    "outer axes of three": (lambda x: x.sum((0, 1)), (3_001, 107, 3)),
    "first and last of long ones": (lambda x: x.transpose().sum((0, 2)), (9_001, 2, 101)),
    "a slice": (lambda x: x[:, ::2].sum(), (100_003, 9)),
    "mean": (lambda x: x.mean(), (1_000_003,)),
    "products": (lambda x: (x * x).sum(), (1_000_003,)),
    "with a maximum": (lambda x: x.sum() + x.max(), (1_000_003,)),
    "of many operators": (lambda x: sum([(x * k).tanh() for k in range(1, 30)]).sum(), (200_001,)),
}


@pytest.mark.parametrize("name", LONG)
def test_long_sums_over_any_axes(name):
    function, shape = LONG[name]
    x = filled(shape, "tenths")
    expected = function(Tensor(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(compiled(function, x), expected, rtol=40 * UNIT)


def test_variance_of_many_rows():
    x = filled((300_001, 3), "positive") + np.float32(1000)
    var = compiled(lambda x: x.var(0), x)
    np.testing.assert_allclose(var, np.var(x.astype(np.float64), 0), rtol=2e-6)


@pytest.mark.parametrize("function", [ndl.logsumexp, lambda x: ndl.softmax(x).max()])
def test_softmax_of_a_long_row(function):
    x = filled((1_000_003,), "tenths")
    expected = function(Tensor(x.astype(np.float64))).numpy()
    np.testing.assert_allclose(compiled(function, x), expected, rtol=1e-6)


def test_gradient_of_a_bias_of_many_rows():
    def gradient(x, b):
        y = x + b.broadcast_to(x.shape)
        return ndl.grad(lambda b: (y * 0 + b.broadcast_to(x.shape) * x).sum())(b)

    x, b = filled((200_001, 4), "tenths"), np.zeros(4, np.float32)
    expected = x.astype(np.float64).sum(0)
    np.testing.assert_allclose(compiled(gradient, x, b), expected, rtol=40 * UNIT)


@pytest.mark.parametrize("axes", [None, 0, 1])
def test_infinities_and_nan_pass_through_blocks(axes):
    x = filled((20_001, 7), "mixed")
    x[3, 0], x[19_000, 1], x[7, 2], x[15_000, 2], x[9, 3] = np.inf, -np.inf, np.inf, -np.inf, np.nan
    with np.errstate(invalid="ignore"):
        expected = x.sum(axes)
    np.testing.assert_allclose(compiled(lambda x: x.sum(axes), x), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", LONG)
def test_bits_do_not_depend_on_the_number_of_threads(name):
    function, shape = LONG[name]
    x = filled(shape, "mixed")
    results = set()
    try:
        for count in (1, 2, 3, 2):
            threads.set_threads(count)
            results.add(compiled(function, x).tobytes())
    finally:
        threads.set_threads(None)
    assert len(results) == 1


@pytest.mark.parametrize("axes", [(), 0, 1, 2, (0, 1), None])
@pytest.mark.parametrize("shape", [(3, 1, 5), (1, 1, 1), (2, 3, 4)])
def test_a_sum_of_negative_zeros_is_zero_however_many_there_are(shape, axes):
    x = np.full(shape, -0.0, np.float32)
    total = compiled(lambda t: t.sum(axes), x)
    assert not np.signbit(total).any()
    assert not np.signbit(x.sum(axes)).any()


@pytest.mark.parametrize("to", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("lanes", [16, 8, 4])
def test_integers_become_floats_without_64_bits(lanes, dtype, to, rng):
    """Few processors convert vectors of 64-bit integers: for others it is done lane by lane."""
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = rng.integers(low, high, 99, endpoint=True).astype(dtype)
    x[:2] = low, high
    x, host = Tensor(x, requires_grad=False), llvm.host(lanes)
    expect_numpy(lambda x: x.astype(to) * 2, x, rtol=0, host=host)
    ir = stages.compiled(lambda x: x.astype(to) * 2, x, host=host).emitted.ir
    assert set(re.findall(r"itofp <\d+ x (\w+)>", ir)) == {"i1" if dtype == "bool" else "i32"}
