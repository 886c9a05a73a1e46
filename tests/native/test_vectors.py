"""The builder of IR text, each method against NumPy."""

import ctypes

import numpy as np
import pytest

from needle.errors import CompileError
from needle.native import llvm
from needle.native.vectors import (
    F32,
    F64,
    I1,
    I8,
    I32,
    I64,
    MOST_ADDRESSES,
    PTR,
    Source,
    Type,
)  # fmt: skip

HOSTS = (16, 8, 4)
DTYPES = {F32: np.float32, F64: np.float64, I32: np.int32, I64: np.int64, I8: np.int8}
SIZES = (0, 1, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 64, 65, 200)


def elementwise(lanes, expression, *kinds, result=None, static=None, unroll=1, host=None):
    """The expression of vectors as a function of arrays."""
    result = result or kinds[0]
    source = Source(llvm.host(host or lanes))
    arguments = {f"x{i}": PTR for i in range(len(kinds))} | {"y": PTR, "n": I64}
    function = source.function("kernel", arguments)
    b = function.body
    *xs, y, n = function.arguments

    def body(i, mask):
        values = [
            b.load(x, kind.vector(lanes), i, mask=mask) for x, kind in zip(xs, kinds, strict=True)
        ]
        b.store(expression(b, *values), y, i, mask=mask)

    b.vector_loop(0, n if static is None else static, lanes, body, unroll=unroll)
    b.ret()
    module = llvm.compile_ir(source.text(), source.host)
    kernel = module.function("kernel", None, *[ctypes.c_void_p] * len(arguments))

    def call(*arrays):
        out = np.full(arrays[0].size + 2, 77, DTYPES[result])
        kernel(*[a.ctypes.data for a in arrays], out[1:].ctypes.data, arrays[0].size)
        assert out[0] == out[-1] == 77, "wrote out of bounds"
        return out[1:-1]

    return call


def reals(n, dtype=np.float32):
    return (np.random.normal(size=n) * 3).astype(dtype)


def wholes(n, dtype=np.int32):
    return np.random.randint(-100, 100, n).astype(dtype)


@pytest.mark.parametrize("kind", [F32, F64], ids=str)
def test_constants_tell_zero_from_minus_zero(kind):
    x = reals(3, DTYPES[kind])
    for zero in (0.0, -0.0, 0.0):
        held = elementwise(4, lambda b, x, zero=zero: b.constant(zero, x.type), kind)(x)
        np.testing.assert_array_equal(np.signbit(held), np.signbit(zero))


@pytest.mark.parametrize("unroll", (1, 4))
@pytest.mark.parametrize("lanes", HOSTS)
def test_loops_cover_every_size(lanes, unroll):
    dynamic = elementwise(lanes, lambda b, x: x + 1, F32, unroll=unroll)
    for size in SIZES:
        x = reals(size)
        np.testing.assert_array_equal(dynamic(x), x + 1)
        static = elementwise(lanes, lambda b, x: x + 1, F32, static=size, unroll=unroll)
        np.testing.assert_array_equal(static(x), x + 1)


@pytest.mark.parametrize("kind", [F64, I8, I32, I64], ids=str)
@pytest.mark.parametrize("lanes", HOSTS)
def test_ragged_ends_of_other_types(lanes, kind):
    double = elementwise(lanes, lambda b, x: x + x, kind)
    for size in SIZES:
        x = (reals(size) * 5).astype(DTYPES[kind])
        np.testing.assert_array_equal(double(x), x + x)


def _reals_of(b, x, y):
    whole = b.intrinsic("floor", x) + b.intrinsic("ceil", y) * b.intrinsic("trunc", x)
    return (x - y) / (x * y + 0.5) + whole - 2.0 * -x + (1.0 - y) / 3.0 + 1.0 / (x * x + 1.0)


@pytest.mark.parametrize("kind", [F32, F64], ids=str)
@pytest.mark.parametrize("lanes", HOSTS)
def test_float_arithmetic_is_that_of_numpy_to_the_bit(lanes, kind):
    dtype = DTYPES[kind]
    x, y = reals(99, dtype), reals(99, dtype)
    one, half, two, three = (dtype(v) for v in (1, 0.5, 2, 3))
    whole = np.floor(x) + np.ceil(y) * np.trunc(x)
    expected = (x - y) / (x * y + half) + whole - two * -x + (one - y) / three
    expected = expected + one / (x * x + one)
    np.testing.assert_array_equal(elementwise(lanes, _reals_of, kind, kind)(x, y), expected)


@pytest.mark.parametrize("lanes", HOSTS)
def test_integer_arithmetic_is_that_of_numpy(lanes):
    x, y = wholes(99), wholes(99)

    def expression(b, x, y):
        bits = ((x & y) | (x ^ 5)) ^ (~y) ^ (x << 3) ^ (x >> 2) ^ b.binary("lshr", y, 4)
        return bits + (x - y) * 7 + -x + b.binary("urem", x & 255, 7) + x / 3

    unsigned = (y.view(np.uint32) >> np.uint32(4)).view(np.int32)
    bits = ((x & y) | (x ^ 5)) ^ (~y) ^ (x << 3) ^ (x >> 2) ^ unsigned
    expected = bits + (x - y) * 7 - x + np.fmod(x & 255, 7) + np.trunc(x / 3).astype(np.int32)
    np.testing.assert_array_equal(elementwise(lanes, expression, I32, I32)(x, y), expected)


NANS = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
RELATIONS = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}


@pytest.mark.parametrize("relation", RELATIONS)
def test_comparisons_treat_nan_as_numpy(relation):
    x, y = (a.ravel() for a in np.meshgrid(NANS, NANS))
    kernel = elementwise(16, lambda b, x, y: b.select(b.compare(relation, x, y), x, 9.0), F32, F32)
    np.testing.assert_array_equal(kernel(x, y), np.where(RELATIONS[relation](x, y), x, 9))
    a, c = wholes(50), wholes(50)
    kernel = elementwise(16, lambda b, x, y: b.select(b.compare(relation, x, y), x, 0), I32, I32)
    np.testing.assert_array_equal(kernel(a, c), np.where(RELATIONS[relation](a, c), a, 0))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("lanes", HOSTS)
def test_extremes_keep_nan(lanes, name):
    x, y = (a.ravel() for a in np.meshgrid(NANS, NANS))
    expected = getattr(np, name)
    np.testing.assert_array_equal(
        elementwise(lanes, lambda b, x, y: getattr(b, name)(x, y), F32, F32)(x, y), expected(x, y)
    )
    np.testing.assert_array_equal(
        elementwise(lanes, lambda b, x: getattr(b, name)(x, 0.5), F32)(x),
        expected(x, np.float32(0.5)),
    )
    a, c = wholes(50), wholes(50)
    np.testing.assert_array_equal(
        elementwise(lanes, lambda b, x, y: getattr(b, name)(x, y), I32, I32)(a, c), expected(a, c)
    )


def test_fma_rounds_once_where_the_host_can():
    x, y, z = (reals(100) for _ in range(3))
    exact = (x.astype(float) * y + z).astype(np.float32)
    twice = x * y + z
    kernel = elementwise(8, lambda b, x, y, z: b.fma(x, y, z), F32, F32, F32)
    np.testing.assert_array_equal(kernel(x, y, z), exact if llvm.host(8).fma else twice)
    if not llvm.host(4).fma:
        kernel = elementwise(4, lambda b, x, y, z: b.fma(x, y, z), F32, F32, F32)
        np.testing.assert_array_equal(kernel(x, y, z), twice)


CASTS = [(F32, F64), (F64, F32), (F32, I32), (F64, I64), (I32, F32), (I64, F64), (I8, F32)]
CASTS += [(I8, I32), (I32, I64), (I64, I32), (I32, I8)]


@pytest.mark.parametrize(("source", "target"), CASTS, ids=str)
@pytest.mark.parametrize("lanes", HOSTS)
def test_casts_are_those_of_numpy(lanes, source, target):
    x = (reals(70) * 9).astype(DTYPES[source])
    kernel = elementwise(lanes, lambda b, x: b.cast(x, target), source, result=target)
    np.testing.assert_array_equal(kernel(x), x.astype(DTYPES[target]))


@pytest.mark.parametrize("lanes", HOSTS)
def test_unsigned_and_boolean_casts(lanes):
    x = np.arange(256, dtype=np.uint8)
    kernel = elementwise(lanes, lambda b, x: b.cast(x, F32, unsigned=True), I8, result=F32)
    np.testing.assert_array_equal(kernel(x), x.astype(np.float32))
    y = reals(70)
    kernel = elementwise(lanes, lambda b, y: b.cast(y > 0.0, F32), F32)
    np.testing.assert_array_equal(kernel(y), (y > 0).astype(np.float32))


@pytest.mark.parametrize("lanes", HOSTS)
def test_any_and_bitcast(lanes):
    x = np.zeros(3 * lanes, np.float32)
    x[lanes + 1] = 1

    def expression(b, x):
        bits = b.bitcast(x, I32)
        some = b.splat(b.any(b.compare("!=", bits, 0)), lanes)
        return b.select(some, bits, -1)

    expected = np.full(3 * lanes, -1)
    expected[lanes : 2 * lanes] = x.view(np.int32)[lanes : 2 * lanes]
    np.testing.assert_array_equal(elementwise(lanes, expression, F32, result=I32)(x), expected)


@pytest.mark.parametrize("lanes", HOSTS)
def test_gather(lanes):
    table, index = reals(50), np.random.randint(0, 50, 75).astype(np.int32)
    source = Source(llvm.host(lanes))
    function = source.function("kernel", {"table": PTR, "index": PTR, "y": PTR})
    b, (t, i, y) = function.body, function.arguments

    def body(at, mask):
        where = b.load(i, I32.vector(lanes), at, mask=mask)
        b.store(b.gather(t, F32.vector(lanes), where, mask), y, at, mask=mask)

    b.vector_loop(0, 75, lanes, body)
    b.ret()
    module = llvm.compile_ir(source.text(), source.host)
    out = np.zeros(76, np.float32)
    pointers = [a.ctypes.data for a in (table, index, out)]
    module.function("kernel", None, *[ctypes.c_void_p] * 3)(*pointers)
    np.testing.assert_array_equal(out, [*table[index], 0])


@pytest.mark.parametrize("lanes", HOSTS)
@pytest.mark.parametrize("kind", [F32, F64, I8], ids=str)
def test_scatter(lanes, kind):
    x, index = np.arange(75), np.random.permutation(90)[:75]
    source = Source(llvm.host(lanes))
    function = source.function("kernel", {"x": PTR, "index": PTR, "y": PTR})
    b, (values, i, y) = function.body, function.arguments

    def body(at, mask):
        where = b.load(i, I64.vector(lanes), at, mask=mask)
        b.scatter(b.load(values, kind.vector(lanes), at, mask=mask), y, where, mask)

    b.vector_loop(0, 75, lanes, body)
    b.ret()
    module = llvm.compile_ir(source.text(), source.host)
    x = x.astype({F32: np.float32, F64: np.float64, I8: np.int8}[kind])
    out, expected = (np.full(90, -1, x.dtype) for _ in range(2))
    expected[index] = x
    pointers = [a.ctypes.data for a in (x, index, out)]
    module.function("kernel", None, *[ctypes.c_void_p] * 3)(*pointers)
    np.testing.assert_array_equal(out, expected)


def reduction(lanes, combine, start, unroll, static=None):
    """A reduction over `unroll` accumulators that are rotated."""
    source = Source(llvm.host(lanes))
    function = source.function("kernel", {"x": PTR, "n": I64}, F32)
    b, (x, n) = function.body, function.arguments
    kind = F32.vector(lanes)

    def body(i, mask, first, *others):
        element = b.load(x, kind, i, mask=mask)
        element = element if mask is None else b.select(mask, element, start)
        total = combine(b, first, element)
        return (*others, total)

    sums = [b.constant(start, kind)] * unroll
    total, *others = b.vector_loop(0, n if static is None else static, lanes, body, sums, unroll)
    for other in others:
        total = combine(b, total, other)
    b.ret(b.reduce(lambda x, y: combine(b, x, y), total))
    module = llvm.compile_ir(source.text(), source.host)
    kernel = module.function("kernel", ctypes.c_float, ctypes.c_void_p, ctypes.c_int64)
    return lambda x: kernel(x.ctypes.data, x.size)


@pytest.mark.parametrize("unroll", (1, 4))
@pytest.mark.parametrize("lanes", HOSTS)
def test_reductions(lanes, unroll):
    total = reduction(lanes, lambda b, x, y: x + y, 0.0, unroll)
    largest = reduction(lanes, lambda b, x, y: b.maximum(x, y), -np.inf, unroll)
    for size in SIZES:
        x = wholes(size).astype(np.float32)  # whole numbers add exactly in any order
        assert total(x) == x.sum()
        assert largest(x) == x.max(initial=-np.inf)
        static = reduction(lanes, lambda b, x, y: x + y, 0.0, unroll, static=size)
        assert static(x) == x.sum()
    x = reals(100)
    x[37] = np.nan
    assert np.isnan(largest(x))


def test_lanes_move():
    source = Source(llvm.host(8))
    function = source.function("kernel", {"x": PTR, "y": PTR})
    b, (x, y) = function.body, function.arguments
    low, high = b.load(x, F32.vector(8)), b.load(x, F32.vector(8), 8)
    mixed = b.shuffle(low, high, [0, 8, 1, 9, 7, 15, 3, 3])
    mixed = b.insert(mixed, b.extract(high, 5) + 100, 7)
    b.store(mixed + b.cast(b.iota(8), F32), y)
    b.ret()
    data, out = np.arange(16, dtype=np.float32), np.zeros(8, np.float32)
    module = llvm.compile_ir(source.text(), source.host)
    kernel = module.function("kernel", None, ctypes.c_void_p, ctypes.c_void_p)
    kernel(data.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out, np.array([0, 8, 1, 9, 7, 15, 3, 113]) + np.arange(8))


def scalar_function(arguments, write, result=I64):
    source = Source(llvm.host())
    function = source.function("kernel", arguments, result)
    function.body.ret(write(function.body, *function.arguments))
    module = llvm.compile_ir(source.text())
    ctype = {I64: ctypes.c_int64, PTR: ctypes.c_void_p}
    return module.function("kernel", ctype[result], *[ctype[kind] for kind in arguments.values()])


def test_nested_loops_carry_values():
    def write(b, n):
        zero = b.constant(0, I64)
        with b.loop(0, n, carry=[zero, zero]) as outer:
            with b.loop(outer.index, n, 2, carry=[outer.values[0]]) as inner:
                inner.update(inner.values[0] + inner.index)
            outer.update(inner.values[0], outer.values[1] + 1)
        return outer.values[0] * 1000 + outer.values[1]

    kernel = scalar_function({"n": I64}, write)
    for n in (0, 1, 5, 12):
        assert kernel(n) == 1000 * sum(j for i in range(n) for j in range(i, n, 2)) + n


@pytest.mark.parametrize("places", [MOST_ADDRESSES, MOST_ADDRESSES + 1])
def test_the_index_of_a_loop_with_many_addresses_is_hidden(places):
    source = Source(llvm.host())
    function = source.function("kernel", {"x": PTR, "n": I64}, I64)
    b, (x, n) = function.body, function.arguments
    with b.loop(0, n, 3, carry=[b.constant(0, I64)]) as loop:
        total = loop.values[0]
        for place in range(places):
            total = total * 3 + b.load(x, I64, loop.index + place)
        loop.update(total)
    b.ret(loop.values[0])
    assert ("asm" in source.text()) == (places > MOST_ADDRESSES)

    kernel = llvm.compile_ir(source.text(), source.host).function(
        "kernel", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64
    )
    data = wholes(40, np.int64)
    for n in (0, 1, 3, 20):
        total = 0
        for i in range(0, n, 3):
            for place in range(places):
                total = total * 3 + int(data[i + place])
        assert kernel(data.ctypes.data, n) == (total + 2**63) % 2**64 - 2**63


def test_repeat_runs_at_least_once():
    def collatz(b, n):
        def turn(n, steps):
            odd = b.compare("==", n & 1, 1)
            n = b.either(odd, lambda: [n * 3 + 1], lambda: [n >> 1])[0]
            return b.compare("!=", n, 1), n, steps + 1

        return b.repeat(turn, [n, b.constant(0, I64)])[1]

    kernel = scalar_function({"n": I64}, collatz)
    assert [kernel(n) for n in (2, 6, 27)] == [1, 8, 111]


def test_either_runs_one_side_only():
    def write(b, x):
        def divide():
            return [b.constant(100, I64) / x]

        return b.either(b.compare("!=", x, 0), divide, lambda: [b.constant(-1, I64)])[0]

    kernel = scalar_function({"x": I64}, write)
    assert [kernel(7), kernel(0)] == [14, -1]


def test_atomic_words():
    def write(b, p):
        before = b.atomic_add(p, 5)
        swapped = b.compare_swap(p, before + 5, 100)
        missed = b.compare_swap(p, 7, 200)
        b.pause()
        b.atomic_store(b.atomic_load(p) + 1, p)
        return before * 100 + b.cast(swapped, I64) * 10 + b.cast(missed, I64)

    word = ctypes.c_int64(3)
    assert scalar_function({"p": PTR}, write)(ctypes.addressof(word)) == 310
    assert word.value == 101


def test_functions_globals_and_c():
    source = Source(llvm.host())
    square = source.function("square", {"x": F64}, F64, internal=True)
    square.body.ret(square.arguments[0] * square.arguments[0])
    function = source.function("kernel", {"i": I64}, F64)
    b, (i,) = function.body, function.arguments
    source.add("@items = private constant [3 x double] [double 0.5, double 2.0, double -3.5]")
    item = b.load(b.symbol("items"), F64, i)
    root = b.call_c("sqrt", F64, b.call("square", F64, item))
    b.ret(b.call_pointer(b.symbol("square"), F64, root))
    kernel = llvm.compile_ir(source.text()).function("kernel", ctypes.c_double, ctypes.c_int64)
    assert [kernel(1), kernel(2)] == [4.0, 12.25]
    assert kernel(0) == 0.25


def test_constants_round_to_nearest():
    b = Source(llvm.host()).function("f", {}).body
    assert b.constant(0.1, F32).text == "0x3FB99999A0000000"
    assert b.constant(0.1, F64).text == "0x3FB999999999999A"
    assert b.constant(1e39, F32).text == "0x7FF0000000000000"
    assert b.constant(-1e39, F32).text == "0xFFF0000000000000"
    assert b.constant(3, I32.vector(4)).text == "splat (i32 3)"
    assert repr(b.constant(True, I1)) == "i1 1"


def test_mistakes_are_compile_errors():
    function = Source(llvm.host()).function("f", {"x": F32, "i": I64, "p": PTR})
    b, (x, i, p) = function.body, function.arguments
    with pytest.raises(CompileError, match="Expected a value of type float, got i64 %i"):
        x + i
    with pytest.raises(CompileError, match=r"1\.5 is no constant of the integer type i64"):
        i + 1.5
    with pytest.raises(CompileError, match="and takes integers, got float"):
        x & x
    with pytest.raises(CompileError, match="A mask needs a vector, but the type is float"):
        b.load(p, F32, mask=b.constant(1, I1))
    with pytest.raises(CompileError, match="Expected a value of type <4 x i1>"):
        b.load(p, F32.vector(4), mask=b.constant(1, I1.vector(8)))


def test_types_print_as_llvm_writes_them():
    assert str(F32.vector(8)) == "<8 x float>"
    assert str(Type("i16")) == "i16"
    assert F64.vector(4).mangled == "v4f64"
    assert [kind.bits for kind in (F32, F64, I1, I8, I64, PTR)] == [32, 64, 1, 8, 64, 64]
