"""Comparisons, selection, extrema, clipping and casts against NumPy."""

import numpy as np
import pytest

import needle as ndl
from needle.errors import ArgumentError, DTypeError, ShapeError

COMPARISONS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
VALUES = np.array([-1.0, 0.0, -0.0, 2.0, np.nan, np.inf])


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name):
    exact = getattr(np, name)
    other = VALUES[::-1].copy()
    results = {
        "tensors": (
            getattr(ndl, name)(ndl.Tensor(VALUES), ndl.Tensor(other)),
            exact(VALUES, other),
        ),
        "method": (getattr(ndl.Tensor(VALUES), name)(ndl.Tensor(other)), exact(VALUES, other)),
        "array": (getattr(ndl, name)(ndl.Tensor(VALUES), other), exact(VALUES, other)),
        "array first": (getattr(ndl, name)(VALUES, ndl.Tensor(other)), exact(VALUES, other)),
        "number": (getattr(ndl, name)(ndl.Tensor(VALUES), 0), exact(VALUES, 0)),
        "number first": (getattr(ndl, name)(0, ndl.Tensor(VALUES)), exact(0, VALUES)),
        "list": (getattr(ndl, name)(ndl.Tensor([1.0, 2.0]), [1.0, 3.0]), exact([1, 2], [1, 3])),
    }
    for result, expected in results.values():
        assert result.dtype == np.bool_
        assert not result.requires_grad
        assert result.is_leaf()
        np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize(
    ("dtype", "number"),
    [("uint8", 300), ("uint8", -1), ("int8", 0.5), ("bool", 2), ("float32", 0.1), ("bool", 0.5)],
)
def test_numbers_are_not_rounded_to_the_tensors_integers(name, dtype, number):
    x = np.array([0, 1], dtype)
    result = getattr(ndl, name)(ndl.Tensor(x), number).numpy()
    np.testing.assert_array_equal(result, getattr(np, name)(x.astype("float64"), number))


@pytest.mark.parametrize("name", [*COMPARISONS, "maximum"])
def test_integers_that_no_dtype_holds(name):
    compare = getattr(ndl, name)
    with pytest.raises(DTypeError, match=rf"{name}: an integer of 100 bits is too large .* 1e30"):
        compare(ndl.Tensor([1], dtype="int8"), -(10**30))
    with pytest.raises(DTypeError, match=rf"{name}: an integer of 1329 bits .* Pass .*math\.inf"):
        compare(10**400, ndl.Tensor([1.0]))
    with pytest.raises(DTypeError, match=rf"{name}: an integer of 16610 bits .* Pass .*math\.inf"):
        compare(ndl.Tensor([1]), 10**5000)
    exact = getattr(np, name)(1.0, 1e30)
    assert compare(ndl.Tensor([1.0]), 10**30).tolist() == [exact]


def test_shapes_must_be_equal():
    with pytest.raises(ShapeError, match=r"less: shapes \(2,\) and \(2, 1\) differ"):
        ndl.less(ndl.Tensor([1.0, 2.0]), ndl.Tensor([[1.0], [2.0]]))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extrema(name):
    exact = getattr(np, name)
    x, y = VALUES, VALUES[::-1].copy()
    for result, expected in [
        (getattr(ndl, name)(ndl.Tensor(x), ndl.Tensor(y)), exact(x, y)),
        (getattr(ndl.Tensor(x), name)(y), exact(x, y)),
        (getattr(ndl, name)(ndl.Tensor(x), 1), exact(x, 1)),
        (getattr(ndl, name)(1, ndl.Tensor(x)), exact(x, 1)),
        (getattr(ndl, name)(ndl.Tensor([1, 3]), 2.5), exact([1, 3], 2.5)),
    ]:
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_share_the_gradient(name):
    x, y = ndl.Tensor([1.0, 2.0, 3.0], dtype="float32"), ndl.Tensor([3.0, 2.0, 1.0])
    getattr(ndl, name)(x, y).backward()
    first = [0, 0.5, 1] if name == "maximum" else [1, 0.5, 0]
    np.testing.assert_array_equal(x.grad.numpy(), first)
    np.testing.assert_array_equal(y.grad.numpy(), 1 - np.array(first))
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)


def test_where():
    x = ndl.Tensor([-1.0, 2.0], dtype="float32")
    mask = x.greater(0)
    for result, expected in [
        (ndl.where(mask, x, 0), np.array([0, 2], "float32")),
        (ndl.where(mask, 0.5, x), np.array([-1, 0.5], "float32")),
        (ndl.where(mask, 1, 2), np.array([2, 1])),
        (ndl.where(mask, 1, 2.5), np.array([2.5, 1])),
        (ndl.where(mask, True, False), np.array([False, True])),
        (ndl.where(np.array([True, False]), x, 0), np.array([-1, 0], "float32")),
        (ndl.where([1, 0], [1.0, 2.0], np.array([3.0, 4.0])), np.array([1.0, 4.0])),
        (ndl.where(ndl.Tensor([0.0, 2.0]), x, -x), np.array([1.0, 2.0], "float32")),
        (x.where(mask, 7), np.array([7, 2], "float32")),
    ]:
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result.numpy(), expected)


def test_gradient_of_where_goes_to_what_was_chosen():
    mask, a, b = ndl.Tensor([True, False]), ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])
    (ndl.where(mask, a, b) * ndl.Tensor([10.0, 20.0])).backward()
    np.testing.assert_array_equal(a.grad.numpy(), [10, 0])
    np.testing.assert_array_equal(b.grad.numpy(), [0, 20])
    assert mask.grad is None


def test_gradient_of_where_is_clean_where_the_other_side_is_not():
    x = ndl.Tensor([0.0, 4.0])
    positive = x.greater(0)
    safe = ndl.where(positive, x, 1.0)
    ndl.where(positive, safe.log(), 0.0).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0.25])


UNCHOSEN = {
    "relu": lambda x: x.relu(),
    "clip": lambda x: x.clip(0, 2),
    "maximum": lambda x: x.maximum(0),
    "minimum": lambda x: -((-x).minimum(0)),
    "where": lambda x: ndl.where(x.greater(0), x, 0),
    "pick": lambda x: ndl.pick(
        ndl.concatenate([x[:, None], x[:, None].zeros_like()], 1), x.less(0).astype("int8")
    ),
}


@pytest.mark.parametrize("name", UNCHOSEN)
@pytest.mark.parametrize(
    "call", [lambda f: f, lambda f: ndl.jit(f, warmup=0)], ids=["eager", "jit"]
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_an_infinite_gradient_is_none_of_what_was_not_chosen(name, call):
    slope = ndl.grad(lambda x: UNCHOSEN[name](x).sqrt())
    for dtype in ("float32", "float64"):
        x = ndl.Tensor([-4.0, 1.0, -0.5], dtype=dtype)
        np.testing.assert_array_equal(call(slope)(x).numpy(), [0, 0.5, 0])
        np.testing.assert_array_equal(call(ndl.grad(slope))(x).numpy(), [0, -0.25, 0])


def test_where_with_pythons_comparison():
    x = ndl.Tensor([0.0, 1.0])
    with pytest.raises(ndl.ShapeError, match=r"condition is False alone, .*\(2,\).* x.equal\(y\)"):
        ndl.where(x == 0, x, 1)
    assert ndl.where(x == 0, ndl.Tensor(1.0), 2.0).item() == 2


def test_where_of_different_shapes():
    with pytest.raises(ShapeError, match=r"where: shapes \(2,\) and \(3,\) and \(2,\) differ"):
        ndl.where(ndl.Tensor([True, False]), ndl.Tensor([1.0, 2.0, 3.0]), ndl.Tensor([1.0, 2.0]))


@pytest.mark.parametrize(
    ("low", "high"), [(-1, 1), (None, 0.5), (0.25, None), (None, None), (1, 1)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_clip(low, high, dtype):
    x = np.array([-2, -1, 0, 1, 2], dtype)
    result = ndl.clip(ndl.Tensor(x), low, high)
    expected = np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)
    np.testing.assert_array_equal(result.numpy(), expected)
    if dtype != "int64":
        assert result.dtype == dtype


def test_gradient_of_clip_is_one_at_the_limits():
    x = ndl.Tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    x.clip(low=-1, high=1).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, 1, 1, 0])


def test_clip_limits_in_the_wrong_order():
    with pytest.raises(ArgumentError, match=r"clip: low=2 is above high=1. Swap them"):
        ndl.clip(ndl.Tensor([1.0]), 2, 1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "uint8", "bool", np.int64, float])
def test_astype(dtype):
    x = np.array([0.0, 1.0, 2.0])
    result = ndl.Tensor(x).astype(dtype)
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result.numpy(), x.astype(dtype))


def test_gradient_of_astype():
    x = ndl.Tensor([1.0, 2.0], dtype="float32")
    (x.astype("float64") * 3).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    assert x.grad.dtype == np.float32
    x.grad = None
    (x.astype("int64") * 3 + x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1])  # no gradient through integers
    assert x.astype("float32") is x


@pytest.mark.parametrize("bad", ["complex64", "U4", object, "datetime64[s]"])
def test_astype_of_no_real_numbers(bad):
    with pytest.raises(DTypeError, match=r"astype: dtype .* holds no real numbers"):
        ndl.Tensor([1.0]).astype(bad)


def test_astype_of_an_unknown_dtype():
    with pytest.raises(DTypeError, match=r"astype: dtype 'float31' is not known"):
        ndl.Tensor([1.0]).astype("float31")
