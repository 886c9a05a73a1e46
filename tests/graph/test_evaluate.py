"""check_finite, implicit broadcasting and strict shapes."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import needle as ndl
from needle.autograd import Tensor
from needle.errors import DTypeError, NeedleError, NonFiniteError, ShapeError

# check_finite


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda x: ndl.log(x - 1), r"log: first non-finite value -inf at \(0,\) of shape \(2,\)"),
        (lambda x: ndl.exp(x * 1000), r"exp: first non-finite value inf at \(0,\)"),
        (lambda x: x / (x - 2), r"divide: first non-finite value inf at \(1,\) .* inputs of shape"),
        (lambda x: ndl.fused_add_scalars(x, 1, np.inf), "fused_add_scalars: first non-finite"),
        (lambda x: x.sum() * np.nan, r"mul_scalar: first non-finite value nan at \(\) of shape"),
    ],
)
def test_check_finite_names_operator_position_and_line(compute, message):
    x = Tensor([1.0, 2.0])
    with np.errstate(all="ignore"):
        with ndl.check_finite(), pytest.raises(NonFiniteError, match=message) as caught:
            compute(x)
        compute(x)  # outside nothing is checked
    line = inspect.getsourcelines(compute)[1]
    assert f"{__file__}:{line}. Look at the inputs of this operator" in str(caught.value)


def test_check_finite_looks_at_gradients():
    x = Tensor([0.0])
    with np.errstate(all="ignore"), ndl.check_finite():
        y = ndl.sqrt(x)
        with pytest.raises(NonFiniteError, match=r"divide: first non-finite value inf"):
            y.backward()


def test_check_finite_lets_finite_values_and_integers_pass():
    with ndl.check_finite():
        y = Tensor([1, 2]) * 3 + ndl.full((2,), 2**62, "int64")
        assert ndl.exp(Tensor([1.0])).item() == np.exp(1)
    assert y.dtype == np.int64


def test_a_nonfinite_error_is_a_floating_point_error():
    assert issubclass(NonFiniteError, FloatingPointError)


# strict shapes


MISMATCHES = {
    "rows and columns": (
        lambda: Tensor(np.ones((3, 5))) + Tensor(np.ones((1, 5))),
        r"add: shapes \(3, 5\) and \(1, 5\) .* only when told: write b.broadcast_to\(\(3, 5\)\)$",
    ),
    "both sides": (
        lambda: Tensor(np.ones((3, 1))) * Tensor(np.ones((1, 5))),
        r"multiply: .* write a.broadcast_to\(\(3, 5\)\) and b.broadcast_to\(\(3, 5\)\)$",
    ),
    "the silent (N, 1) against (N,)": (
        lambda: Tensor(np.ones((4, 1))) - Tensor(np.ones(4)),
        r"add: .* write b.reshape\(\(4, 1\)\) to pair the elements, or a.broadcast_to",
    ),
    "as many elements, one more axis": (
        lambda: Tensor(np.ones((1, 5))) + Tensor(np.ones(5)),
        r"write b.broadcast_to\(\(1, 5\)\)$",
    ),
    "as many elements, not by broadcasting": (
        lambda: Tensor(np.ones((2, 3))) + Tensor(np.ones((3, 2))),
        r"do not broadcast either: make them equal with b.reshape\(\(2, 3\)\) if their",
    ),
    "0-d": (
        lambda: Tensor(1.0) / Tensor([1.0]),
        r"divide: shapes \(\) and \(1,\) differ. .* write a.broadcast_to\(\(1,\)\)",
    ),
    "not even by broadcasting": (
        lambda: Tensor([1.0, 2.0]) + Tensor([1.0, 2.0, 3.0]),
        r"add: shapes \(2,\) and \(3,\) differ. They do not broadcast either: make them equal with",
    ),
    "three operands": (
        lambda: ndl.where(Tensor([True]), Tensor(1.0), Tensor([1.0])),
        r"where: shapes \(1,\) and \(\) and \(1,\) differ. .* write b.broadcast_to\(\(1,\)\)",
    ),
}


@pytest.mark.parametrize(("compute", "message"), MISMATCHES.values(), ids=MISMATCHES.keys())
@pytest.mark.parametrize("lazy", [False, True])
def test_shapes_must_be_equal(compute, message, lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    with pytest.raises(ShapeError, match=message) as caught:
        compute()
    assert isinstance(caught.value, NeedleError)
    assert isinstance(caught.value, ValueError)


def test_the_line_that_the_message_tells_works():
    a, b = Tensor(np.ones((3, 5))), Tensor(np.ones((1, 5)))
    with pytest.raises(ShapeError) as caught:
        a + b
    line = str(caught.value).rpartition("write ")[2]
    result = a + eval(line, {"b": b})
    assert result.shape == (3, 5)


def test_a_failing_module_is_named():
    model = ndl.nn.Sequential(ndl.nn.ReLU(), ndl.nn.Residual(ndl.nn.Linear(3, 2)))
    message = r"^modules.1 \(Residual\): add: shapes \(4, 2\) and \(4, 3\) differ"
    with pytest.raises(ShapeError, match=message):
        model(Tensor(np.ones((4, 3), "float32")))


@pytest.mark.parametrize("lazy", [False, True])
def test_dtypes_that_an_operator_does_not_take(lazy, monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
    message = r"^negate: not defined for dtype bool. Convert with astype first$"
    with pytest.raises(DTypeError, match=message):
        -Tensor([True])


# implicit_broadcasting


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_implicit_broadcasting_is_numpys_and_recorded(case):
    (first, second), expected = case
    x, y = np.random.uniform(0.5, 1, first), np.random.uniform(0.5, 1, second)
    a, b = Tensor(x), Tensor(y)
    with ndl.implicit_broadcasting():
        result = a * b
    assert result.shape == expected
    np.testing.assert_array_equal(result.numpy(), x * y)
    for operand, value in zip(result.inputs, (a, b), strict=True):
        if value.shape != expected:
            assert type(operand.op) is ndl.BroadcastTo
            assert operand.inputs == (value,)
    result.backward()
    np.testing.assert_allclose(a.grad.numpy(), summed_to(np.broadcast_to(y, expected), first))
    np.testing.assert_allclose(b.grad.numpy(), summed_to(np.broadcast_to(x, expected), second))


def summed_to(array, shape):
    """The sum over the axes that broadcasting from `shape` adds or repeats."""
    array = array.sum(tuple(range(array.ndim - len(shape))))
    return array.sum(tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def test_implicit_broadcasting_to_second_order():
    def f(a, b):
        with ndl.implicit_broadcasting():
            return (a - b) ** 2 / (a + 3)

    ndl.check_gradients(f, np.random.rand(3, 1), np.random.rand(4), order=2)


def test_implicit_broadcasting_ends_with_its_block():
    with ndl.implicit_broadcasting():
        assert (Tensor([[1.0]]) + Tensor([1.0])).shape == (1, 1)
        assert (Tensor([1.0, 2.0]) + np.ones((2, 1))).shape == (2, 2)
    with pytest.raises(ShapeError):
        Tensor([[1.0]]) + Tensor([1.0])


def test_shapes_that_do_not_broadcast_are_refused_under_implicit_broadcasting_too():
    with ndl.implicit_broadcasting(), pytest.raises(ShapeError, match="do not broadcast either"):
        Tensor([1.0, 2.0]) + Tensor([1.0, 2.0, 3.0])
