"""The random streams: Random123's vectors, a written-out Philox, NumPy's published streams."""

import json
import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from needle import philox, random
from needle.errors import ArgumentError, StateError
from needle.philox import PhiloxStream
from needle.streams import IntegersDraw, NumPyStream, UniformDraw

WORD = 0xFFFFFFFF
SEEDS = st.integers(0, 2**64 - 1)


@pytest.fixture(autouse=True)
def numpy_in_force():
    before = random.get_state()
    random.seed(None)
    yield
    random.set_state(before)


def block_of(counter, key):
    """Philox4x32-10 in Python integers, as the paper writes it."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def words_of(seed, draw, count):
    key = seed & WORD, seed >> 32
    words = []
    for block in range(-(-count // 4)):
        words += block_of((block & WORD, block >> 32, draw & WORD, draw >> 32), key)
    return words[:count]


def longs_of(seed, draw, count):
    words = words_of(seed, draw, 2 * count)
    return [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]


# Random123, tests/kat_vectors: philox4x32 10 <counter> <key> <result>
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_random123_known_answers(counter, key, expected):
    counter, key, expected = ([int(w, 16) for w in x.split()] for x in (counter, key, expected))
    out = np.empty((1, 4), np.uint32)
    philox.philox4x32(counter, philox.key_schedule(key[0] | key[1] << 32), out)
    assert out[0].tolist() == expected
    assert list(block_of(counter, key)) == expected


@given(SEEDS, st.integers(0, 2**40), st.integers(0, 30))
def test_uniforms_follow_the_stated_layout(seed, draw, size):
    stream = PhiloxStream(seed, draw)
    narrow, wide = stream.uniform((size,), "float32"), stream.uniform((size,), "float64")
    assert narrow.dtype == np.float32
    assert wide.dtype == np.float64
    assert narrow.tolist() == [(w >> 8) * 2.0**-24 for w in words_of(seed, draw, size)]
    assert wide.tolist() == [(n >> 11) * 2.0**-53 for n in longs_of(seed, draw + 1, size)]
    assert stream.draw == draw + 2


def test_long_draws_are_the_same_numbers_in_chunks():
    size = 4 * philox._CHUNK_BLOCKS + 6
    words = words_of(5, 0, size)
    assert PhiloxStream(5).uniform((size,), "float32").tolist() == [
        (w >> 8) * 2.0**-24 for w in words
    ]
    longs = PhiloxStream(5).uniform((size,))
    assert longs[: size // 2].tolist() == [
        ((a | b << 32) >> 11) * 2.0**-53 for a, b in zip(words[::2], words[1::2], strict=True)
    ]


@given(SEEDS, st.integers(0, 9), st.sampled_from(["float32", "float64"]))
def test_normals_are_box_muller_of_the_uniforms(seed, size, dtype):
    got = PhiloxStream(seed).normal((size,), dtype)
    uniforms = PhiloxStream(seed).uniform((size + size % 2,), dtype).tolist()
    spacing = 2.0**-24 if dtype == "float32" else 2.0**-53
    expected = []
    for first, second in zip(uniforms[::2], uniforms[1::2], strict=True):
        radius, angle = math.sqrt(-2 * math.log(first + spacing)), 2 * math.pi * second
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    assert got.dtype == dtype
    rtol = 1.2e-7 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(got, expected[:size], rtol=rtol, atol=1e-14)


@given(SEEDS, st.integers(-100, 100), st.integers(1, 2**40), st.integers(0, 9))
def test_integers_follow_the_stated_layout(seed, low, span, size):
    got = PhiloxStream(seed).integers(low, low + span, (size,))
    assert got.dtype == np.int64
    assert got.tolist() == [low + n % span for n in longs_of(seed, 0, size)]


@given(SEEDS, st.integers(0, 200))
def test_a_permutation_holds_every_number_once(seed, n):
    order = PhiloxStream(seed).permutation(n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_distributions():
    stream = PhiloxStream(2024)
    assert stats.kstest(stream.uniform((100_000,), "float32"), "uniform").pvalue > 0.001
    assert stats.kstest(stream.uniform((100_000,)), "uniform").pvalue > 0.001
    assert stats.kstest(stream.normal((100_000,), "float32"), "norm").pvalue > 0.001
    assert stats.kstest(stream.normal((100_000,)), "norm").pvalue > 0.001
    assert stats.chisquare(np.bincount(stream.integers(0, 7, (70_000,)))).pvalue > 0.001
    orders = [tuple(stream.permutation(4).tolist()) for _ in range(4800)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 0.001


def test_consecutive_draws_are_independent():
    stream = PhiloxStream(1)
    first, second = stream.uniform((50_000,)), stream.uniform((50_000,))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert not np.array_equal(first, second)


def test_shapes():
    for stream in (PhiloxStream(0), NumPyStream()):
        assert stream.uniform().shape == ()
        assert stream.normal(()).shape == ()
        assert stream.uniform((2, 3)).shape == stream.normal((2, 3)).shape == (2, 3)
        assert stream.uniform((0, 3)).shape == stream.normal((0, 3)).shape == (0, 3)
        assert stream.integers(0, 5, (2, 2)).shape == (2, 2)
        assert stream.integers(0, 5).shape == ()
        assert stream.permutation(0).shape == (0,)
        assert stream.permutation(1).tolist() == [0]


def test_numpy_stream_is_numpys_global_stream():
    stream = random.ambient_stream()
    np.random.seed(3)
    drawn = stream.uniform((2, 3)), stream.normal((4,)), stream.integers(-3, 4, (2,))
    order = stream.permutation(10)
    np.random.seed(3)
    expected = np.random.rand(2, 3), np.random.randn(4), np.random.randint(-3, 4, size=2)
    for got, want in zip(drawn, expected, strict=True):
        assert np.array_equal(got, want)
    assert np.array_equal(order, np.random.permutation(10))


def test_published_numpy_numbers():
    """np.random.seed(0): the numbers in NumPy's own documentation of the legacy generator."""
    np.random.seed(0)
    uniforms = random.ambient_stream().uniform((3,))
    np.testing.assert_allclose(uniforms, [0.5488135, 0.71518937, 0.60276338], atol=5e-9)
    np.random.seed(0)
    normals = random.ambient_stream().normal((3,))
    np.testing.assert_allclose(normals, [1.76405235, 0.40015721, 0.97873798], atol=5e-9)


DRAWS = st.lists(
    st.one_of(
        st.just(UniformDraw()),
        st.builds(IntegersDraw, st.integers(-5, 0), st.integers(1, 9), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=3,
)


@given(st.integers(0, 2**32 - 1), DRAWS, st.integers(1, 6), st.booleans())
def test_rounds_equal_draws_made_one_by_one(seed, draws, count, philox):
    def stream():
        return PhiloxStream(seed) if philox else NumPyStream(np.random.RandomState(seed))

    together, single = stream(), stream()
    got = together.rounds(count, draws)
    for turn in range(count):
        for place, draw in enumerate(draws):
            if isinstance(draw, UniformDraw):
                assert got[place][turn] == single.uniform()
            else:
                expected = single.integers(draw.low, draw.high, (draw.size,))
                assert np.array_equal(got[place][turn], expected)
    assert together.get_state() == single.get_state()


def test_rounds_of_nothing():
    for stream in (PhiloxStream(0), NumPyStream()):
        single, pair = [UniformDraw()], [UniformDraw(), IntegersDraw(0, 3, 2)]
        assert [a.shape for a in stream.rounds(0, single)] == [(0,)]
        assert [a.shape for a in stream.rounds(0, pair)] == [(0,), (0, 2)]


def test_seed_switches_to_philox_and_back():
    np.random.seed(1)
    random.seed(42)
    np.random.seed(9)  # does not end Philox
    stream = random.ambient_stream()
    assert isinstance(stream, PhiloxStream)
    assert np.array_equal(stream.uniform((5,)), PhiloxStream(42).uniform((5,)))
    random.seed(42)
    assert random.ambient_stream().draw == 0
    random.seed(None)
    assert isinstance(random.ambient_stream(), NumPyStream)
    assert random.ambient_stream().uniform() == np.random.RandomState(9).rand()


def test_philox_leaves_numpys_state_alone():
    np.random.seed(5)
    random.seed(0)
    random.ambient_stream().normal((10,))
    random.ambient_stream().permutation(10)
    random.seed(None)
    assert np.random.rand() == np.random.RandomState(5).rand()


def test_the_choice_holds_for_every_thread():
    random.seed(3)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(random.ambient_stream()))
    thread.start()
    thread.join()
    assert seen == [random.ambient_stream()]


def test_reserve_takes_numbers_without_drawing():
    stream = PhiloxStream(8)
    assert stream.reserve() == 0
    assert stream.reserve(3) == 1
    assert np.array_equal(stream.uniform((3,)), PhiloxStream(8, 4).uniform((3,)))


def test_threads_never_reserve_the_same_number():
    stream, taken = PhiloxStream(0), []

    def take():
        taken.extend([stream.reserve() for _ in range(20_000)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 80_000


@pytest.mark.parametrize("n", [None, 11])
def test_state_goes_through_json(n):
    random.seed(n)
    np.random.seed(2)
    np.random.randn(3)  # leaves a second normal waiting
    stream = random.ambient_stream()
    stream.uniform((3,))
    state = json.loads(json.dumps(random.get_state()))
    expected = stream.normal((3,)), stream.uniform((3,)), np.random.randn()
    random.seed(99)
    np.random.seed(99)
    random.set_state(state)
    stream = random.ambient_stream()
    assert np.array_equal(stream.normal((3,)), expected[0])
    assert np.array_equal(stream.uniform((3,)), expected[1])
    assert np.random.randn() == expected[2]


@pytest.mark.parametrize("make", [NumPyStream, lambda: PhiloxStream(2**64 - 1)])
def test_a_stream_made_from_a_state_stands_alone(make):
    stream = make()
    before = json.loads(json.dumps(stream.get_state()))
    expected = stream.permutation(20)
    after = stream.get_state()
    assert np.array_equal(random.stream_from_state(before).permutation(20), expected)
    assert stream.get_state() == after
    stream.set_state(before)
    assert np.array_equal(stream.permutation(20), expected)


@pytest.mark.parametrize("n", [-1, 2**64, 1.5, "7"])
def test_bad_seeds(n):
    with pytest.raises(ArgumentError, match=r"seed: .* no integer from 0 to 2\*\*64 - 1"):
        random.seed(n)
    with pytest.raises(ArgumentError, match="Give one that is"):
        PhiloxStream(n)


def test_numpy_integers_are_seeds():
    assert PhiloxStream(np.uint64(7)).get_state() == {"stream": "philox", "seed": 7, "draw": 0}


def test_integers_need_a_range():
    with pytest.raises(ArgumentError, match=r"integers: no value in \[4, 4\). Give low < high"):
        PhiloxStream(0).integers(4, 4)


def test_bad_states():
    with pytest.raises(StateError, match=r"needs 'numpy' and 'philox'.*what get_state returned"):
        random.set_state({"numpy": {}})
    with pytest.raises(StateError, match="no state of a NumPy stream"):
        NumPyStream(np.random.RandomState()).set_state({"key": [1, 2]})
    with pytest.raises(StateError, match="no state of a NumPy stream"):
        random.stream_from_state({**NumPyStream().get_state(), "key": [-1]})
    for seed, draw in ((-4, 0), (0, -1), (0, 2**64), (0, None)):
        with pytest.raises(StateError, match="no state of a Philox stream"):
            random.stream_from_state({"stream": "philox", "seed": seed, "draw": draw})
    with pytest.raises(StateError, match="neither 'numpy' nor 'philox'"):
        random.stream_from_state({"stream": "dice"})


def test_a_refused_state_changes_nothing():
    random.seed(1)
    before = random.get_state()
    with pytest.raises(StateError):
        random.set_state({"numpy": {}, "philox": None})
    with pytest.raises(StateError):
        random.set_state({"numpy": before["numpy"], "philox": {"stream": "philox"}})
    assert random.get_state() == before


def test_only_the_default_numpy_generator_can_be_stored():
    source = np.random.RandomState(np.random.PCG64(1))
    with pytest.raises(StateError, match=r"generator is PCG64,.*set_bit_generator"):
        NumPyStream(source).get_state()


def test_draws_that_are_made_together_are_those_made_alone():
    """Draws of one size that follow each other are made at once: nobody may notice."""
    stream = PhiloxStream(5)
    sizes = [10, 10, 10, 7, 10, 10, 3, 3, 3, 3, 3, 3, 9000, 9000, 9000, 40_000, 0, 0, 10, 10]
    for number, size in enumerate(sizes):
        for kind in ("uniform", "normal"):
            ours = getattr(stream, kind)((size,), "float32")
            alone = getattr(PhiloxStream(5, stream.draw - 1), kind)((size,), "float32")
            np.testing.assert_array_equal(ours, alone, err_msg=f"{kind} of draw {number}")
        assert stream.draw == 2 * number + 2


@pytest.mark.parametrize("seed", [5, 6])
def test_draws_made_beforehand_are_forgotten_with_the_state(seed):
    stream = PhiloxStream(5)
    for _ in range(3):
        stream.uniform((10,))
    stream.set_state({"stream": "philox", "seed": seed, "draw": 2})
    for draw in range(2, 9):
        alone = PhiloxStream(seed, draw).uniform((10,))
        np.testing.assert_array_equal(stream.uniform((10,)), alone)
    stream.integers(0, 9, (3,))  # as many words as a uniform draw of float32
    np.testing.assert_array_equal(stream.uniform((10,)), PhiloxStream(seed, 10).uniform((10,)))
