"""Random numbers: the same eager and compiled, drawn in program order, and never lost."""

import random as python_random
import secrets
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import needle as ndl
from needle import nn


@pytest.fixture(params=["numpy stream", "philox"])
def seed(request):
    """Sets the stream in force to a given place."""
    if request.param == "philox":
        return ndl.seed
    return lambda k: (ndl.seed(None), np.random.seed(k))


def drawn(x):
    """Draws of all kinds, some used twice, some not at all."""
    u = ndl.init.rand(3, 4, low=-1.0, high=2.0)
    ndl.init.randn(5)  # nobody looks at it
    n = ndl.init.randn(3, 4, mean=1.0, std=0.5)
    b = ndl.init.randb(3, 4, p=0.3)
    d = ndl.init.rand(3, 4, dtype="float64")
    return x + u + u * n, b, d, n, ndl.init.randb(2, p=0.5, dtype="float32")


def test_the_same_numbers_eager_and_compiled(seed):
    compiled = ndl.jit(drawn, warmup=0)
    x = ndl.init.ones(3, 4)
    runs = []
    for function in (drawn, compiled):
        seed(3)
        runs.append([[r.numpy() for r in function(x)] for _ in range(4)])
        runs[-1].append([ndl.init.rand(2).numpy()])  # the stream stands at the same place
    for ours, theirs in zip(runs[1], runs[0], strict=True):
        for mine, its in zip(ours, theirs, strict=True):
            assert mine.dtype == its.dtype
            np.testing.assert_allclose(mine, its, rtol=2e-6, atol=1e-6)
    for ours, theirs in zip(runs[1][:4], runs[0][:4], strict=True):
        np.testing.assert_array_equal(ours[1], theirs[1])  # bools, uniforms: bit-identical
        np.testing.assert_array_equal(ours[2], theirs[2])
        np.testing.assert_array_equal(ours[4], theirs[4])


class Negated(ndl.TensorOp):
    """An operator without native code."""

    def compute(self, x):
        return -x


@pytest.mark.parametrize("draw", [ndl.init.rand, ndl.init.randn])
def test_operators_that_are_called_are_given_what_was_drawn(draw, seed):
    def function(x):
        drawn = draw(3, 4)
        return Negated()(drawn) + x, drawn * 1

    compiled, x = ndl.jit(function, warmup=0), ndl.init.zeros(3, 4, requires_grad=False)
    for _ in range(3):
        seed(1)
        expected, _ = function(x)
        seed(1)
        negated, drawn = compiled(x)
        np.testing.assert_array_equal(negated.numpy(), expected.numpy())
        np.testing.assert_array_equal(negated.numpy(), -drawn.numpy())


def test_equal_draws_are_not_merged(seed):
    seed(0)
    step = ndl.jit(lambda x: (ndl.init.rand(8), ndl.init.rand(8) + x), warmup=0)
    a, b = step(ndl.init.zeros(8))
    assert not np.array_equal(a.numpy(), b.numpy())


def test_an_unused_dropout_still_draws(seed):
    drop = nn.Dropout(0.5)

    def step(x):
        drop(x)
        return ndl.init.rand(4)

    compiled = ndl.jit(step)
    results = []
    for function in (step, compiled):
        seed(0)
        results.append([function(ndl.init.ones(3, 3)).tolist() for _ in range(4)])
    assert results[0] == results[1]


def test_dropout_of_a_training_step(seed):
    def losses(jit):
        seed(1)
        model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2), nn.Dropout(0.1))
        opt = ndl.optim.Adam(model.parameters(), lr=0.01)
        loss_fn = nn.SoftmaxLoss()

        @jit
        def step(x, y):
            loss = loss_fn(model(x), y)
            loss.backward()
            opt.step()
            opt.reset_grad()
            return loss.detach()

        return [
            step(ndl.init.randn(4, 6), ndl.Tensor([0, 1, 1, 0], requires_grad=False)).item()
            for _ in range(8)
        ]

    np.testing.assert_allclose(losses(ndl.jit), losses(lambda f: f), rtol=1e-4)


def test_a_trace_leaves_every_stream_as_it_found_it(seed):
    seed(0)
    generator = np.random.default_rng(0)
    step = ndl.jit(lambda x: x + ndl.init.rand(2) + float(generator.bit_generator.state is None))
    x = ndl.init.zeros(2)
    step(x)

    class StopError(Exception):
        pass

    def failing(x):
        ndl.init.rand(3)
        ndl.init.randn(3)
        raise StopError

    before = ndl.random.get_state()
    stream = ndl.random.ambient_stream()
    with pytest.raises(StopError):
        ndl.jit(failing, warmup=0)(x)
    assert ndl.random.get_state() == before
    assert ndl.random.ambient_stream() is stream


def test_switching_streams_between_calls():
    step = ndl.jit(lambda x: x + ndl.init.rand(2), warmup=0)
    x = ndl.init.zeros(2)

    def expect_like_eager():
        state = ndl.random.get_state()
        eager = ndl.init.rand(2).tolist()
        ndl.random.set_state(state)
        assert step(x).tolist() == eager

    for _ in range(2):
        expect_like_eager()
        ndl.seed(5)
        expect_like_eager()
        expect_like_eager()
        ndl.seed(7)
        expect_like_eager()
        ndl.seed(None)
        expect_like_eager()


generator = np.random.default_rng(0)
legacy = np.random.RandomState(0)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: np.random.rand(2), "np.random"),
        (lambda: np.random.randn(2), "np.random"),
        (lambda: np.random.permutation(2), "np.random"),
        (lambda: np.random.seed(3), "np.random"),
        (lambda: generator.random(2), "Generator"),
        (lambda: legacy.rand(2), "np.random"),
        (lambda: python_random.random(), "random"),
        (lambda: ndl.random.ambient_stream().uniform((2,)), "(np.random|needle.random)"),
    ],
    ids=["rand", "randn", "permutation", "seed", "Generator", "RandomState", "python", "stream"],
)
def test_a_direct_draw_inside_a_trace_raises(draw, name, seed):
    seed(0)

    @ndl.jit(warmup=0)
    def step(x):
        ndl.init.rand(2)
        draw()
        return x

    before = ndl.random.get_state(), generator.bit_generator.state, python_random.getstate()
    message = rf"drawn from .*{name}.* directly while .* Draw with ndl\.init\.rand"
    with pytest.raises(ndl.TraceError, match=message):
        step(ndl.init.zeros(2))
    after = ndl.random.get_state(), generator.bit_generator.state, python_random.getstate()
    assert before == after


@pytest.mark.parametrize(
    "make",
    [
        np.random.default_rng,
        np.random.RandomState,
        python_random.SystemRandom,
        lambda: python_random.SystemRandom(secrets.randbits(8)),
    ],
    ids=["default_rng", "RandomState", "SystemRandom", "secrets"],
)
def test_a_generator_without_a_seed_inside_a_trace_raises(make):
    def step(x):
        try:
            rng = make()
            return x + rng.random(2) if hasattr(rng, "bit_generator") else x + rng.random()
        except ndl.TraceError:
            return x

    x = ndl.init.zeros(2)
    assert (step(x).numpy() > 0).all()
    with pytest.raises(ndl.TraceError, match=r"without a seed, .* Draw with ndl\.init\.rand"):
        ndl.jit(step, warmup=0)(x)
    assert (step(x).numpy() > 0).all()


def test_a_seeded_generator_draws_the_same_at_each_call_as_eagerly():
    def step(x):
        return x + np.random.default_rng(7).random(2).astype("float32")

    compiled, x = ndl.jit(step, warmup=0), ndl.init.zeros(2)
    assert compiled(x).tolist() == compiled(x).tolist() == step(x).tolist()


def test_a_seeded_random_state_is_refused_and_another_generator_named():
    step = ndl.jit(lambda x: x * float(np.random.RandomState(7).rand()), warmup=0)
    with pytest.raises(ndl.TraceError, match=r"RandomState .*default_rng\(seed\) does"):
        step(ndl.init.zeros(2))


def test_other_threads_may_draw_from_the_system_during_a_trace():
    with ThreadPoolExecutor(1) as others:

        def step(x):
            assert others.submit(secrets.randbits, 8).result() < 256
            return x * 2

        assert ndl.jit(step, warmup=0)(ndl.init.ones(2)).tolist() == [2, 2]


@pytest.mark.parametrize("n", [0, 7])
def test_seeding_inside_a_trace_raises(n, seed):
    seed(0)
    before = ndl.random.ambient_stream()
    with pytest.raises(ndl.TraceError, match=r"ndl\.seed was called .* Seed outside"):
        ndl.jit(lambda x: (ndl.seed(n), x + ndl.init.rand(2))[1], warmup=0)(ndl.init.zeros(2))
    assert ndl.random.ambient_stream() is before


def test_direct_draws_between_calls_are_fine():
    step = ndl.jit(lambda x: x + ndl.init.rand(2), warmup=0)
    np.random.seed(0)
    expected = [np.random.rand(2).astype("float32"), np.random.rand(3), np.random.rand(2)]
    np.random.seed(0)
    x = ndl.init.zeros(2)
    np.testing.assert_array_equal(step(x).numpy(), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])
    np.testing.assert_array_equal(step(x).numpy(), expected[2].astype("float32"))


def test_draws_in_nested_calls_and_in_methods(seed):
    class Noisy(nn.Module):
        @ndl.jit
        def forward(self, x):
            return x + ndl.init.rand(3)

    noisy = Noisy()
    outer = ndl.jit(lambda x: noisy(noisy(x)))
    seed(0)
    expected = [(ndl.init.rand(3) + ndl.init.rand(3)).tolist() for _ in range(4)]
    seed(0)
    ours = [outer(ndl.init.zeros(3)).tolist() for _ in range(4)]
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_operators_of_ones_own_draw_in_turn(seed):
    """Machine code gets its draws before it runs, so before an operator between kernels draws."""

    class Noise(ndl.TensorOp):
        def compute(self, x):
            return x + ndl.init.rand(*x.shape).numpy()

        def gradient(self, out_grad, node):
            return out_grad * ndl.init.rand(*out_grad.shape)

    def step(x):
        before, noisy, after = ndl.init.rand(3), Noise()(x), ndl.init.rand(3)
        (noisy * after).sum().backward()
        return before, noisy, after, x.grad, ndl.init.randn(2)

    runs = []
    for function in (step, ndl.jit(step, warmup=0)):
        seed(3)
        xs = [ndl.Tensor([1.0, 2.0, k], dtype="float32") for k in range(3)]
        runs.append([part.tolist() for x in xs for part in function(x)])
    assert runs[0] == runs[1]
