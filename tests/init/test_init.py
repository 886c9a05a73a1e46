"""Initialisers draw from NumPy's global state exactly as their formulas say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle import init

FLOATS = ["float16", "float32", "float64"]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


def same_bits(tensor, expected):
    assert tensor.dtype == expected.dtype
    assert tensor.shape == expected.shape
    assert tensor.numpy().tobytes() == expected.tobytes()


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(FLOATS))
def test_rand_draws_in_float64_then_scales_then_casts(shape, seed, dtype):
    np.random.seed(seed)
    drawn = init.rand(*shape, low=-0.3, high=1.7, dtype=dtype)
    after = np.random.rand()
    np.random.seed(seed)
    same_bits(drawn, np.asarray(np.random.rand(*shape) * (1.7 - -0.3) + -0.3).astype(dtype))
    assert np.random.rand() == after


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(FLOATS))
def test_randn_draws_in_float64_then_scales_then_casts(shape, seed, dtype):
    np.random.seed(seed)
    drawn = init.randn(*shape, mean=0.25, std=3.0, dtype=dtype)
    after = np.random.rand()
    np.random.seed(seed)
    same_bits(drawn, np.asarray(np.random.randn(*shape) * 3.0 + 0.25).astype(dtype))
    assert np.random.rand() == after


def test_what_a_draw_depends_on_may_be_a_tensor():
    def draws(low, spread):
        ndl.seed(5)
        return [
            init.rand(3, low=low, high=spread),
            init.randn(3, mean=low, std=spread),
            init.randb(3, p=spread),
        ]

    tensors, numbers = draws(ndl.Tensor(-0.5), ndl.Tensor(0.25)), draws(-0.5, 0.25)
    ndl.seed(None)
    assert [t.tolist() for t in tensors] == [t.tolist() for t in numbers]


@given(shapes, st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(["bool", *FLOATS]))
def test_randb_is_true_where_the_draw_is_at_most_p(shape, seed, p, dtype):
    np.random.seed(seed)
    drawn = init.randb(*shape, p=p, dtype=dtype)
    np.random.seed(seed)
    same_bits(drawn, np.asarray(np.random.rand(*shape) <= p).astype(dtype))


def test_defaults():
    np.random.seed(3)
    drawn = init.rand(2), init.randn(2), init.randb(2)
    np.random.seed(3)
    same_bits(drawn[0], np.random.rand(2).astype("float32"))
    same_bits(drawn[1], np.random.randn(2).astype("float32"))
    same_bits(drawn[2], np.random.rand(2) <= 0.5)


SCALED = {
    "xavier_uniform": lambda i, o: (
        np.random.rand(i, o) * 2 * math.sqrt(6 / (i + o)) - math.sqrt(6 / (i + o))
    ),
    "xavier_normal": lambda i, o: np.random.randn(i, o) * math.sqrt(2 / (i + o)),
    "kaiming_uniform": lambda i, o: np.random.rand(i, o) * 2 * math.sqrt(6 / i) - math.sqrt(6 / i),
    "kaiming_normal": lambda i, o: np.random.randn(i, o) * math.sqrt(2 / i),
}


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("seed", [0, 42])
def test_scaled_initialisers_follow_their_formulas(name, seed):
    np.random.seed(seed)
    drawn = getattr(init, name)(30, 50, dtype="float64")
    np.random.seed(seed)
    np.testing.assert_allclose(drawn.numpy(), SCALED[name](30, 50), rtol=1e-13, atol=1e-15)


def test_scaled_initialisers_have_the_bits_of_the_published_formulas():
    """Written as published: each factor its own square root, the interval as two limits."""
    np.random.seed(7)
    drawn = [
        init.kaiming_uniform(3, 5),
        init.kaiming_normal(3, 5),
        init.xavier_uniform(3, 5, gain=1.5),
        init.xavier_normal(3, 5, gain=0.33),
    ]
    np.random.seed(7)
    bound = math.sqrt(2) * math.sqrt(3 / 3)
    same_bits(drawn[0], (np.random.rand(3, 5) * (bound - -bound) + -bound).astype("float32"))
    same_bits(drawn[1], (np.random.randn(3, 5) * (math.sqrt(2) / math.sqrt(3))).astype("float32"))
    bound = 1.5 * math.sqrt(6 / (3 + 5))
    same_bits(drawn[2], (np.random.rand(3, 5) * (bound - -bound) + -bound).astype("float32"))
    std = 0.33 * math.sqrt(2 / (3 + 5))
    same_bits(drawn[3], (np.random.randn(3, 5) * std + 0.0).astype("float32"))


@pytest.mark.parametrize("name", ["kaiming_uniform", "kaiming_normal"])
def test_a_shape_of_its_own_keeps_the_scale_of_fan_in(name):
    np.random.seed(1)
    kernel = getattr(init, name)(8, 99, shape=(2, 2, 2, 5))
    np.random.seed(1)
    matrix = getattr(init, name)(8, 5)
    assert kernel.shape == (2, 2, 2, 5)
    assert kernel.numpy().tobytes() == matrix.numpy().tobytes()


def test_constants():
    same_bits(init.ones(2, 3), np.ones((2, 3), "float32"))
    same_bits(init.zeros(2, 3, dtype="int64"), np.zeros((2, 3), "int64"))
    same_bits(init.constant(2, c=0.1), np.full(2, 0.1, "float32"))
    same_bits(init.constant(c=2), np.full((), 2, "float32"))
    same_bits(init.constant(0, 2), np.ones((0, 2), "float32"))
    like = ndl.Tensor(np.arange(6, dtype="int16").reshape(2, 3))
    same_bits(init.ones_like(like), np.ones((2, 3), "int16"))
    same_bits(init.zeros_like(like), np.zeros((2, 3), "int16"))


def test_a_shape_may_be_one_tuple():
    assert init.zeros((2, 3)).shape == init.rand((2, 3)).shape == (2, 3)
    assert init.zeros(()).shape == init.randn(()).shape == ()
    assert init.zeros(np.int64(2), 3).shape == (2, 3)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0, 3)])
def test_one_hot_takes_indices_of_any_shape_and_dtype(shape, dtype):
    index = np.random.randint(0, 2, shape).astype(dtype)
    expected = np.eye(4, dtype="float32")[index.astype(int)]
    same_bits(init.one_hot(4, ndl.Tensor(index)), expected)
    same_bits(init.one_hot(4, index, dtype="bool"), expected.astype(bool))


def test_every_initialiser_takes_the_same_keywords():
    options = {"device": ndl.cpu(), "requires_grad": True}
    x = ndl.Tensor([1, 2])
    made = [
        init.rand(2, **options, dtype="float64"),
        init.randn(2, **options, dtype="float64"),
        init.randb(2, **options, dtype="float64"),
        init.constant(2, **options, dtype="float64"),
        init.ones(2, **options, dtype="float64"),
        init.zeros(2, **options, dtype="float64"),
        init.one_hot(3, x, **options, dtype="float64"),
        *[getattr(init, name)(2, 3, **options, dtype="float64") for name in SCALED],
    ]
    assert {tensor.dtype for tensor in made} == {np.dtype("float64")}
    made += [init.ones_like(x, **options), init.zeros_like(x, **options)]
    assert all(tensor.requires_grad and tensor.is_leaf() for tensor in made)


def test_nothing_asks_for_a_gradient_by_default():
    assert not any(t.requires_grad for t in (init.rand(2), init.ones(2), init.kaiming_normal(2, 2)))


def test_philox_serves_initialisers_after_a_seed_of_needle():
    try:
        ndl.seed(5)
        first = init.rand(4).numpy(), init.randn(4).numpy()
        np.random.seed(0)
        ndl.seed(5)
        second = init.rand(4).numpy(), init.randn(4).numpy()
    finally:
        ndl.seed(None)
    np.testing.assert_array_equal(first, second)


ERRORS = {
    "negative size": (lambda: init.rand(2, -1), ndl.ShapeError, r"rand: shape \(2, -1\)"),
    "fractional size": (lambda: init.zeros(2.5), ndl.ArgumentError, "shape must be an integer"),
    "unknown dtype": (lambda: init.ones(2, dtype="real"), ndl.DTypeError, "'real' is not known"),
    "complex": (lambda: init.randn(2, dtype="complex64"), ndl.DTypeError, "no real numbers"),
    "probability": (lambda: init.randb(2, p=1.5), ndl.ArgumentError, "p=1.5 is no probability"),
    "NaN probability": (lambda: init.randb(2, p=math.nan), ndl.ArgumentError, "no probability"),
    "device": (lambda: init.rand(2, device=ndl.cuda()), ndl.BackendError, r"init: device .*cuda"),
    "class": (lambda: init.one_hot(3, ndl.Tensor([3])), ndl.IndexRangeError, "index 3 at"),
    "no class": (lambda: init.one_hot(3, ndl.Tensor([0.5])), ndl.DTypeError, "no whole number"),
    "uniform gain": (
        lambda: init.kaiming_uniform(2, 3, nonlinearity="tanh"),
        ndl.ArgumentError,
        "kaiming_uniform: nonlinearity='tanh' is not supported",
    ),
    "normal gain": (
        lambda: init.kaiming_normal(2, 3, nonlinearity="tanh"),
        ndl.ArgumentError,
        "kaiming_normal: nonlinearity='tanh' is not supported",
    ),
    **{
        name: (
            lambda name=name: getattr(init, name)(0, 0),
            ndl.ArgumentError,
            f"{name}: fan 0 is not positive",
        )
        for name in SCALED
    },
}


@pytest.mark.parametrize(("call", "error", "message"), ERRORS.values(), ids=ERRORS)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
