"""Arithmetic of tensors, numbers and arrays against NumPy's, and the graph that it records."""

import builtins
import enum
import operator

import numpy as np
import pytest

import needle as ndl
from needle.errors import ArgumentError, DTypeError, ShapeError
from needle.ops.arithmetic import as_number

BINARY = {
    "add": (operator.add, np.add),
    "subtract": (operator.sub, np.subtract),
    "multiply": (operator.mul, np.multiply),
    "divide": (operator.truediv, np.divide),
    "power": (operator.pow, np.power),
}
DTYPES = ("float16", "float32", "float64", "int8", "int64", "uint8", "bool")
NUMBERS = {
    "int": 2,
    "float": 0.5,
    "bool": True,
    "int64": np.int64(2),
    "uint8": np.uint8(2),
    "float32": np.float32(0.5),
    "float64": np.float64(0.5),
    "float16": np.float16(0.5),
    "0-d array": np.array(0.5),
    "array of one": np.array([0.5]),
    "2-d array of one": np.array([[2]]),
}
every_operator = pytest.mark.parametrize("name", BINARY)


def numbers(dtype):
    return np.array([1, 2, 3], dtype=dtype)


@every_operator
@pytest.mark.parametrize("first", DTYPES)
@pytest.mark.parametrize("second", DTYPES)
def test_tensors_promote_as_in_numpy(name, first, second):
    apply, exact = BINARY[name]
    a, b = numbers(first), numbers(second)
    if name == "subtract" and first == second == "bool":
        return  # refused, as NumPy does
    expected = exact(a, b)
    result = apply(ndl.Tensor(a), ndl.Tensor(b))
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.numpy(), expected)


@every_operator
@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_never_change_a_float_dtype(name, kind, dtype):
    apply, exact = BINARY[name]
    number, x = NUMBERS[kind], numbers(dtype)
    for result, expected in [
        (apply(ndl.Tensor(x), number), exact(x, as_number(number, ""))),
        (apply(number, ndl.Tensor(x)), exact(as_number(number, ""), x)),
    ]:
        assert type(result) is ndl.Tensor
        assert (result.shape, result.dtype) == ((3,), dtype)
        np.testing.assert_allclose(result.numpy(), expected, rtol=2 * np.finfo(dtype).eps)


@every_operator
@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
def test_integers_become_float64_with_a_float_and_only_then(name, kind, dtype):
    apply, exact = BINARY[name]
    number, x = NUMBERS[kind], numbers(dtype)
    value = as_number(number, "")
    if (name, dtype, kind) == ("subtract", "bool", "bool"):
        return  # refused, as NumPy does
    for result, expected in [
        (apply(ndl.Tensor(x), number), exact(x.astype("int64"), value)),
        (apply(number, ndl.Tensor(x)), exact(value, x.astype("int64"))),
    ]:
        assert type(result) is ndl.Tensor
        if isinstance(value, float) or name == "divide":
            assert result.dtype == np.float64
        else:
            assert result.dtype.kind in "iub"
        if result.dtype.kind != "b" and not (result.dtype == "uint8" and (expected < 0).any()):
            np.testing.assert_allclose(result.numpy(), expected)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: ndl.jit(f, warmup=0)])
@pytest.mark.parametrize(
    "difference",
    [
        lambda a: a - a,
        lambda a: a - True,
        lambda a: True - a,
        lambda a: a - np.array([True, False]),
        lambda a: np.array([True, False]) - a,
        lambda a: np.bool_(True) - a,
    ],
)
def test_bools_have_no_difference(difference, wrap):
    message = r"subtract: both operands are bools.*Write a.not_equal\(b\), or a.astype\(\"int64\"\)"
    with pytest.raises(DTypeError, match=message):
        wrap(difference)(ndl.Tensor([True, False]))


def test_minus_one_of_unsigned_integers():
    x = ndl.Tensor(np.array([3, 1], "uint8"))
    result = x - 1
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result.numpy(), [2, 0])
    np.testing.assert_array_equal((x + -1).numpy(), [2, 0])


@pytest.mark.parametrize("wrap", [lambda f: f, ndl.jit], ids=["eager", "compiled"])
@pytest.mark.parametrize("dtype", ["uint8", "uint32", "int8", "bool"])
def test_integers_and_bools_are_subtracted_in_the_results_dtype(dtype, wrap):
    """-3 as uint8 is 253: labels taken from logits must not be negated in their own dtype."""
    labels, logits = np.array([1, 0, 128]).astype(dtype), np.array([0.5, -1.0, 2.0], "float32")
    count = np.array([1, 2, 3])
    for compute, exact in [
        (lambda x, y: x - y, logits - labels),
        (lambda x, y: count - y, count - labels),
        (lambda x, y: 2.5 - y, 2.5 - labels),
        (lambda x, y: np.array([2.5]) - y, 2.5 - labels),
        (lambda x, y: (x - y) * (x - y), (logits - labels) ** 2),
    ]:
        result = wrap(compute)(ndl.Tensor(logits), ndl.Tensor(labels))
        assert result.dtype == exact.dtype
        np.testing.assert_allclose(result.numpy(), exact, rtol=1e-6)


@pytest.mark.parametrize("second", ["uint8", "int32", "bool"])
def test_both_sides_of_an_integer_difference_have_a_gradient(second):
    a, b = ndl.Tensor(np.array([5, 6])), ndl.Tensor(np.array([1, 0]).astype(second))
    (a - b).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [1, 1])
    np.testing.assert_array_equal(b.grad.numpy(), [-1, -1])


def test_a_number_that_the_dtype_cannot_hold():
    with pytest.raises(DTypeError, match=r"add_scalar: not defined for dtype uint8 \(.*300"):
        ndl.Tensor(np.array([1], "uint8")) + 300


@pytest.mark.parametrize("exponent", [400, 5000])  # Python does not write down the second
@pytest.mark.parametrize(
    "compute",
    [
        lambda x, n: x + n,
        lambda x, n: n * x,
        lambda x, n: n - x,
        lambda x, n: x / n,
        lambda x, n: x**n,
        lambda x, n: x.clip(0, n),
        lambda x, n: ndl.fused_add_scalars(x, n, 0),
        lambda x, n: ndl.full((2,), n),
        lambda x, n: ndl.init.constant(2, c=-n),
    ],
)
def test_an_integer_beyond_every_dtype(compute, exponent):
    with pytest.raises(DTypeError, match=r"^\w+: an integer of \d+ bits .* Pass .*math\.inf$"):
        compute(ndl.Tensor([1.0]), 10**exponent)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: ndl.jit(f, warmup=0)])
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "uint16", "uint64"])
def test_numbers_at_the_ends_of_a_dtype(dtype, wrap):
    """Their negative is none of the dtype, where sums and differences wrap around."""
    low, high = (int(bound) for bound in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    x = np.array([low, 0, 1, 7, high], dtype)
    for number in {low, low + 1, 0, 1, high - 1, high}:
        for compute in (lambda x, n=number: x + n, lambda x, n=number: x - n):
            result, exact = wrap(compute)(ndl.Tensor(x)), compute(x)
            assert result.dtype == exact.dtype
            np.testing.assert_array_equal(result.numpy(), exact)
    for compute in (lambda x: x + (high + 1), lambda x: x - (high + 2)):
        with pytest.raises(DTypeError, match=r"add_scalar: not defined for dtype u?int"):
            wrap(compute)(ndl.Tensor(x))


@every_operator
def test_arrays_on_either_side_are_constants(name):
    apply, exact = BINARY[name]
    x, y = np.array([[1.0, 2.0]], "float32"), np.array([[3.0, 4.0]])
    for result, expected in [
        (apply(ndl.Tensor(x), y), exact(x, y)),
        (apply(y, ndl.Tensor(x)), exact(y, x)),
    ]:
        assert type(result) is ndl.Tensor
        assert result.dtype == np.float64
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-15)
        assert result.requires_grad


def test_arrays_of_another_shape_are_refused_on_either_side():
    x = ndl.Tensor([1.0, 2.0])
    for compute in (lambda: x + np.ones(3), lambda: np.ones(3) + x, lambda: np.ones((2, 1)) * x):
        with pytest.raises(ShapeError, match=r"shapes \(.*\) and \(.*\) differ"):
            compute()


@pytest.mark.parametrize("other", ["a", None, [1.0], {}, object()])
@every_operator
def test_other_operands_are_pythons_type_errors(name, other):
    apply, _ = BINARY[name]
    for compute in (
        lambda: apply(ndl.Tensor([1.0]), other),
        lambda: apply(other, ndl.Tensor([1.0])),
    ):
        with pytest.raises(TypeError):
            compute()


def chain(value):
    """The operators and constants of a graph, as nested tuples."""
    if value.op is None:
        return "leaf"
    return (type(value.op).__name__, *[chain(item) for item in value.inputs])


A, B = ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])
RECORDED = {
    "a + b": (lambda: A + B, ("EWiseAdd", "leaf", "leaf")),
    "a - b": (lambda: A - B, ("EWiseAdd", "leaf", ("Negate", "leaf"))),
    "a * b": (lambda: A * B, ("EWiseMul", "leaf", "leaf")),
    "a / b": (lambda: A / B, ("EWiseDiv", "leaf", "leaf")),
    "a ** b": (lambda: A**B, ("EWisePow", "leaf", "leaf")),
    "a + 1.5": (lambda: A + 1.5, ("AddScalar", "leaf")),
    "1.5 + a": (lambda: 1.5 + A, ("AddScalar", "leaf")),
    "a - 1": (lambda: A - 1, ("AddScalar", "leaf")),
    "1 - a": (lambda: 1 - A, ("AddScalar", ("Negate", "leaf"))),
    "3 * a": (lambda: 3 * A, ("MulScalar", "leaf")),
    "a * np.float32(3)": (lambda: A * np.float32(3), ("MulScalar", "leaf")),
    "np.float64(3) * a": (lambda: np.float64(3) * A, ("MulScalar", "leaf")),
    "np.array([3]) * a": (lambda: np.array([3]) * A, ("MulScalar", "leaf")),
    "a / 5": (lambda: A / 5, ("DivScalar", "leaf")),
    "a ** 2": (lambda: A**2, ("PowerScalar", "leaf")),
    "-a": (lambda: -A, ("Negate", "leaf")),
    "+a": (lambda: +A, "leaf"),
    "a @ b": (
        lambda: A.reshape((1, 2)) @ B.reshape((2, 1)),
        ("MatMul", ("Reshape", "leaf"), ("Reshape", "leaf")),
    ),
}


@pytest.mark.parametrize(("compute", "expected"), RECORDED.values(), ids=RECORDED.keys())
def test_recorded_graph(compute, expected):
    assert chain(compute()) == expected


FUNCTIONS = {
    "add": (lambda: ndl.add(A, B), [4, 6]),
    "add_scalar": (lambda: ndl.add_scalar(A, scalar=2), [3, 4]),
    "multiply": (lambda: ndl.multiply(A, B), [3, 8]),
    "mul_scalar": (lambda: ndl.mul_scalar(A, scalar=2), [2, 4]),
    "divide": (lambda: ndl.divide(B, A), [3, 2]),
    "divide_scalar": (lambda: ndl.divide_scalar(A, scalar=2), [0.5, 1]),
    "power": (lambda: ndl.power(A, B), [1, 16]),
    "power_scalar": (lambda: ndl.power_scalar(A, scalar=3), [1, 8]),
    "power of a number": (lambda: ndl.power(2.0, A), [2, 4]),
    "power by a number": (lambda: ndl.power(A, 2), [1, 4]),
    "negate": (lambda: ndl.negate(A), [-1, -2]),
    "arrays": (lambda: ndl.add(np.array([1.0, 2.0]), [1.0, 1.0]), [2, 3]),
}


@pytest.mark.parametrize(("compute", "expected"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_functions(compute, expected):
    result = compute()
    assert type(result) is ndl.Tensor
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("bad", ["2", None, [1.0, 2.0], np.ones(2), 1j, np.array([])])
def test_a_scalar_is_one_real_number(bad):
    with pytest.raises(ArgumentError, match=r"power_scalar: .* is not one real number"):
        ndl.power_scalar(A, bad)


@pytest.mark.parametrize("exponent", [2, 3, 0, 1, -1, -2, 0.5, -0.5, 2.5, np.pi])
def test_power_scalar_and_its_gradients(exponent):
    ndl.check_gradients(lambda x: x**exponent, [0.5, 1.0, 1.5], order=2)
    x = ndl.Tensor([0.5, 2.0])
    np.testing.assert_allclose((x**exponent).numpy(), np.array([0.5, 2.0]) ** exponent, rtol=1e-15)


@pytest.mark.parametrize("exponent", [1, 2, 3, 2.5])
def test_power_scalar_is_differentiable_at_zero(exponent):
    x = ndl.Tensor([0.0, -0.0])
    (x**exponent).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [float(exponent == 1)] * 2)


def test_power_zero_is_constant():
    x = ndl.Tensor([0.0, 2.0])
    (x**0).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0])


@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2,)), ((2, 3), ())]
)
def test_power_broadcasts_and_records_it(a, b):
    x, y = np.random.uniform(0.5, 2, a), np.random.uniform(0.5, 2, b)
    left, right = ndl.Tensor(x), ndl.Tensor(y)
    result = ndl.power(left, right)
    np.testing.assert_allclose(result.numpy(), x**y, rtol=1e-15)
    result.sum().backward()
    assert (left.grad.shape, right.grad.shape) == (a, b)
    ndl.check_gradients(ndl.power, x, y, order=2)
    assert "BroadcastTo" in str(chain(result))


def test_power_of_shapes_that_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"power: shapes \(2,\) and \(3,\) differ. They do not"):
        ndl.Tensor([1.0, 2.0]) ** ndl.Tensor([1.0, 2.0, 3.0])


def test_gradient_of_power_where_base_or_exponent_is_zero():
    a, b = ndl.Tensor([0.0, 0.0, 3.0]), ndl.Tensor([0.0, 2.0, 0.0])
    (a**b).backward()
    np.testing.assert_array_equal(a.grad.numpy(), [0, 0, 0])
    np.testing.assert_allclose(b.grad.numpy(), [0, 0, np.log(3)], rtol=1e-15)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradient_of_zero_to_a_negative_power_is_that_of_pytorch(compiled):
    slope = ndl.grad(lambda b: (ndl.Tensor([0.0, 0.0]) ** b).sum())
    call = ndl.jit(slope, warmup=0) if compiled else slope
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(call(ndl.Tensor([-1.5, 1.5])).numpy(), [-np.inf, 0])
    assert not compiled or call.programs[0].backend == "native"


def test_second_derivatives_of_power_where_the_exponent_is_zero():
    ndl.check_gradients(ndl.power, [0.5, 2.0, 3.0], [0.0, 0.0, 1.0], order=2)


def test_what_is_no_number_to_the_power_of_zero_is_constant():
    a, b = ndl.Tensor([np.nan, np.inf]), ndl.Tensor([0.0, 0.0], requires_grad=False)
    (a**b).backward()
    np.testing.assert_array_equal(a.grad.numpy(), [0, 0])


def test_gradient_of_a_float64_exponent_of_a_float32_base():
    base, exponent = ndl.Tensor([1.1, 3.3], dtype="float32"), ndl.Tensor([0.7, -1.3])
    (base**exponent).sum().backward()
    a = base.numpy().astype("float64")
    expected = a ** exponent.numpy() * np.log(a)
    np.testing.assert_allclose(exponent.grad.numpy(), expected, rtol=1e-14)


def test_gradient_of_integer_powers():
    a, b = ndl.Tensor([2, 3]), ndl.Tensor([0, 2])
    (a**b).backward()
    np.testing.assert_array_equal(a.grad.numpy(), [0, 6])
    np.testing.assert_allclose(b.grad.numpy(), [np.log(2), 9 * np.log(3)], rtol=1e-15)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_integers_and_bools_to_a_negative_number_are_float64(dtype):
    result = ndl.Tensor(np.ones(2, dtype)) ** -1
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result.numpy(), [1, 1])


def test_integers_to_negative_integers():
    message = r'power: integers \(int64\) to negative .* Write a.astype\("float64"\) \*\* b'
    with pytest.raises(ArgumentError, match=message):
        ndl.Tensor([2, 3]) ** ndl.Tensor([1, -1])
    np.testing.assert_array_equal((ndl.Tensor([2, 4]) ** -1).numpy(), [0.5, 0.25])
    np.testing.assert_array_equal((2 ** ndl.Tensor([1.0, -1.0])).numpy(), [2, 0.5])


def test_division_gives_real_numbers():
    np.testing.assert_array_equal((ndl.Tensor([1, 2]) / ndl.Tensor([2, 4])).numpy(), [0.5, 0.5])
    np.testing.assert_array_equal((1 / ndl.Tensor([2, 4])).numpy(), [0.5, 0.25])


def test_constants_need_no_gradient():
    for value in (A * np.array([1.0, 2.0]), np.array([1.0, 2.0]) ** A, 2 / A):
        constants = [item for item in value.inputs if item is not A]
        assert [item.requires_grad for item in constants] == [False]


@pytest.mark.parametrize("package", ["needle", "needle.ops"])
def test_a_star_import_leaves_pythons_functions_alone(package):
    names = {}
    exec(f"from {package} import *", names)
    assert "matmul" in names
    assert set(names).isdisjoint(dir(builtins))


class Metres(float):
    pass


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize("number", [Metres(1.5), np.longdouble(1.5), Level.HIGH, np.float64(1.5)])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_numbers_of_every_class_leave_the_dtype(number, dtype):
    x = ndl.Tensor([1.0, 2.0], dtype=dtype)
    results = [x + number, number - x, x * number, x / number, number / x, x**number, number**x]
    results += [ndl.maximum(x, number), ndl.where(x.greater(1), x, number), x.clip(None, number)]
    assert {str(result.dtype) for result in results} == {dtype}
    np.testing.assert_allclose(results[2].numpy(), x.numpy() * float(number))
    assert (ndl.Tensor([1], dtype="int8") * Level.HIGH).dtype == "int8"


@pytest.mark.parametrize("number", [2, 2.5, True, np.float64(0.5), np.array([4.0])], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("name", ["add", "multiply", "divide"])
def test_functions_take_numbers_as_operators_do(name, dtype, number):
    t = ndl.Tensor(np.array([1, 2, 3], dtype), dtype=dtype, requires_grad=False)
    for operands in ((t, number), (number, t)):
        result, expected = getattr(ndl, name)(*operands), BINARY[name][0](*operands)
        assert isinstance(result, ndl.Tensor)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.numpy(), expected.numpy())


@pytest.mark.parametrize("name", ["add", "multiply", "divide"])
def test_functions_take_a_number_beside_an_array_as_well(name):
    f, values = getattr(ndl, name), np.array([1.0, 2.0, 4.0])
    for other in (values, values.tolist()):
        np.testing.assert_array_equal(f(2.0, other).numpy(), getattr(np, name)(2.0, values))
        np.testing.assert_array_equal(f(other, 2.0).numpy(), getattr(np, name)(values, 2.0))


@pytest.mark.parametrize("name", ["add", "multiply", "divide", "power", "maximum", "less"])
def test_an_array_of_one_element_beside_a_number_keeps_its_shape(name):
    f, one = getattr(ndl, name), np.array([3.0])
    for operands in ((2.0, one), (one, 2.0), (np.float64(2), one[None]), (one, one[None])):
        expected = getattr(np, name)(*operands)
        assert f(*operands).shape == expected.shape
        np.testing.assert_array_equal(f(*operands).numpy(), expected)
