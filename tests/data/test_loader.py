"""`DataLoader`: every sample once, the published order, and where it stands."""

import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import Tensor, random
from needle.data import (
    DataLoader,
    Dataset,
    MNISTDataset,
    NDArrayDataset,
    RandomCrop,
    RandomFlipHorizontal,
)
from needle.errors import ArgumentError, ShapeError, StateError


def numbers(n):
    return NDArrayDataset(np.arange(n))


def lists(batches):
    return [batch[0].numpy().tolist() for batch in batches]


class OneByOne(Dataset):
    def __init__(self, n):
        super().__init__()
        self.n = n

    def __getitem__(self, index):
        return index

    def __len__(self):
        return self.n


@given(
    st.integers(0, 40),
    st.integers(1, 45),
    st.booleans(),
    st.booleans(),
    st.none() | st.integers(0, 9),
    st.sampled_from([numbers, OneByOne]),
    st.integers(0, 3),
)
def test_every_sample_exactly_once(n, size, shuffle, drop_last, seed, make, prefetch):
    loader = DataLoader(make(n), size, shuffle, drop_last=drop_last, seed=seed, prefetch=prefetch)
    for _ in range(2):
        got = lists(loader)
        samples = list(itertools.chain(*got))
        assert len(loader) == len(got) == (n // size if drop_last else -(-n // size))
        assert all(len(batch) == size for batch in got[:-1])
        assert len(samples) == (n - n % size if drop_last else n)
        assert len(set(samples)) == len(samples)
        assert set(samples) <= set(range(n))
        if not shuffle:
            assert samples == list(range(len(samples)))


@pytest.mark.parametrize("make", [numbers, OneByOne])
def test_shuffling_is_numpys_published_stream(make):
    loader = DataLoader(make(10), 4, shuffle=True)
    np.random.seed(0)
    got = lists(loader) + lists(loader)
    np.random.seed(0)
    for epoch in (got[:3], got[3:]):
        order = np.random.permutation(10).tolist()
        assert epoch == [order[:4], order[4:8], order[8:]]
    # The first permutation of ten after seed 0, as it is all over the literature.
    assert list(itertools.chain(*got[:3])) == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


def test_one_draw_at_iter_and_none_elsewhere():
    def state():
        return random.get_state()

    before = state()
    loader = DataLoader(numbers(10), 3, shuffle=True)
    assert len(loader) == 4
    assert state() == before
    batches = iter(loader)
    after = state()
    np.random.set_state(("MT19937", before["numpy"]["key"], before["numpy"]["position"]))
    np.random.shuffle(np.arange(10))
    assert state()["numpy"]["key"] == after["numpy"]["key"]
    assert state()["numpy"]["position"] == after["numpy"]["position"]
    list(batches)
    list(DataLoader(numbers(10), 3))
    assert state() == after


def test_after_seed_the_order_is_philoxs():
    random.seed(7)
    before = np.random.get_state()[1].tolist()
    got = list(itertools.chain(*lists(DataLoader(numbers(20), 6, shuffle=True))))
    assert got == random.PhiloxStream(7).permutation(20).tolist()
    assert np.random.get_state()[1].tolist() == before


def test_batches_are_tuples_of_tensors_without_gradients():
    data = NDArrayDataset(np.zeros((5, 2), "float32"), np.arange(5, dtype="uint8"))
    x, y = next(iter(DataLoader(data, 2)))
    assert (type(x), type(y)) == (Tensor, Tensor)
    assert (x.shape, x.dtype, y.dtype) == ((2, 2), np.float32, np.uint8)
    assert not x.requires_grad
    assert not y.requires_grad
    single = next(iter(DataLoader(NDArrayDataset(np.zeros(4)), 2)))
    assert isinstance(single, tuple)
    assert len(single) == 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_share_no_memory_with_the_data(shuffle):
    data = np.arange(6.0)
    for (batch,) in DataLoader(NDArrayDataset(data), 6, shuffle):
        batch.cached_data[...] = -1
    for (batch,) in DataLoader(list(data.reshape(6, 1)), 1, shuffle):
        batch.cached_data[...] = -1
    assert data.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", [None, 3])
def test_iterators_are_independent(seed):
    loader = DataLoader(numbers(9), 2, shuffle=True, seed=seed)
    np.random.seed(1)
    first, second = iter(loader), iter(loader)
    mixed = [(lists([a])[0], lists([b])[0]) for a, b in zip(first, second, strict=True)]
    np.random.seed(1)
    again = DataLoader(numbers(9), 2, shuffle=True, seed=seed)
    assert [a for a, _ in mixed] == lists(again)
    assert [b for _, b in mixed] == lists(again)
    assert [a for a, _ in mixed] != [b for _, b in mixed]


def test_an_own_seed_leaves_and_needs_no_global_state():
    before = random.get_state()
    loader = DataLoader(numbers(30), 7, shuffle=True, seed=5)
    first, second = lists(loader), lists(loader)
    assert random.get_state() == before
    np.random.seed(99)
    random.seed(99)
    again = DataLoader(numbers(30), 7, shuffle=True, seed=5)
    assert (lists(again), lists(again)) == (first, second)
    assert first != second
    assert lists(DataLoader(numbers(30), 7, shuffle=True, seed=6)) != first


@pytest.fixture
def pictures(write_idx, images, labels):
    """A function from transforms to a data set of twelve pictures."""
    files = write_idx("images", images), write_idx("labels", labels)
    return lambda transforms=None: MNISTDataset(*files, transforms)


def arrays(batches):
    return [tuple(tensor.numpy() for tensor in batch) for batch in batches]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


OWN = [RandomFlipHorizontal(), RandomCrop(2)]


def test_an_own_seed_covers_the_transforms(pictures):
    def loader(**kwargs):
        return DataLoader(pictures(OWN), 5, shuffle=True, seed=2, **kwargs)

    before = random.get_state()
    one = loader()
    epochs = [arrays(one), arrays(one)]
    assert random.get_state() == before
    assert not same(*epochs)
    for prefetch in (0, 1, 3):
        other = loader(prefetch=prefetch)
        mixed = list(zip(iter(other), iter(other), strict=True))
        assert same(arrays(a for a, _ in mixed), epochs[0])
        assert same(arrays(b for _, b in mixed), epochs[1])


def test_transforms_vary_without_shuffling(pictures):
    loader = DataLoader(pictures(OWN), 12, seed=2)
    assert not same(arrays(loader), arrays(loader))


def test_a_users_own_data_set_with_our_transforms_draws_from_the_seed():
    class User:
        crop = RandomCrop(3)

        def __getitem__(self, index):
            return self.crop(np.arange(1.0, 17.0).reshape(4, 4, 1))

        def __len__(self):
            return 6

    before = random.get_state()
    first, second = (arrays(DataLoader(User(), 4, seed=3)) for _ in range(2))
    assert same(first, second)
    assert random.get_state() == before


@pytest.mark.parametrize("ambient", [None, 17], ids=["NumPy", "Philox"])
@given(
    consumed=st.integers(0, 4),
    epochs=st.integers(0, 2),
    shuffle=st.booleans(),
    seed=st.none() | st.just(4),
    prefetch=st.integers(0, 2),
)
def test_resuming_gives_what_was_left(ambient, consumed, epochs, shuffle, seed, prefetch):
    def make():
        return DataLoader(numbers(18), 5, shuffle, seed=seed, prefetch=prefetch)

    np.random.seed(8)
    random.seed(ambient)
    loader = make()
    for _ in range(epochs):
        list(loader)
    batches = iter(loader)
    for _ in range(consumed):
        next(batches)
        random.ambient_stream().uniform((3,))  # dropout, say
    state = json.loads(json.dumps([loader.state_dict(), random.get_state()]))
    rest, following = lists(batches), lists(loader)

    np.random.seed(1)
    random.seed(None)
    resumed = make()
    resumed.load_state_dict(state[0])
    random.set_state(state[1])
    assert resumed.state_dict() == state[0]
    assert lists(resumed) == rest
    assert lists(resumed) == following
    assert resumed.state_dict() == loader.state_dict()
    assert len(rest) == 4 - consumed


@pytest.mark.parametrize("ambient", [None, 17], ids=["NumPy", "Philox"])
@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("transforms", [OWN, [lambda image: image * np.random.rand()]])
def test_resuming_with_transforms(pictures, transforms, seed, ambient):
    def make():
        return DataLoader(pictures(transforms), 5, shuffle=True, seed=seed)

    random.seed(ambient)
    loader = make()
    batches = iter(loader)
    next(batches)
    state = loader.state_dict(), random.get_state()
    expected = arrays(batches), arrays(loader)
    resumed = make()
    resumed.load_state_dict(state[0])
    random.set_state(state[1])
    assert same(arrays(resumed), expected[0])
    assert same(arrays(resumed), expected[1])


@pytest.mark.parametrize("seed", [None, 4])
def test_between_epochs(seed):
    def make():
        return DataLoader(numbers(7), 3, shuffle=True, seed=seed)

    loader = make()
    fresh = loader.state_dict()
    assert fresh["batches"] is None
    list(loader)
    done, ambient = loader.state_dict(), random.get_state()
    assert done["batches"] is None
    following = lists(loader)
    resumed = make()
    list(resumed)
    resumed.load_state_dict(done)
    random.set_state(ambient)
    assert lists(resumed) == following
    np.random.seed(0)
    resumed.load_state_dict(fresh)
    first = lists(resumed)
    np.random.seed(0)
    assert first == lists(make())


def test_an_epoch_left_early_is_where_it_was_left():
    loader = DataLoader(numbers(10), 2, shuffle=True)
    for k, _ in enumerate(loader):
        if k == 2:
            break
    assert loader.state_dict()["batches"] == 3
    list(loader)
    assert loader.state_dict()["batches"] is None


def test_loading_a_state_leaves_iterators_alone():
    loader = DataLoader(numbers(6), 2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    next(batches)
    loader.load_state_dict(state)
    assert lists(batches) == [[4, 5]]
    assert lists(loader) == [[2, 3], [4, 5]]
    assert lists(loader) == [[0, 1], [2, 3], [4, 5]]


def test_a_state_of_another_loader_is_refused():
    state = DataLoader(numbers(6), 2, seed=1).state_dict()
    other = DataLoader(numbers(7), 3, shuffle=True)
    with pytest.raises(
        StateError,
        match=r"samples=6, here 7; batch_size=2, here 3; shuffle=False, here True; seed=1, here No",
    ):
        other.load_state_dict(state)


def test_a_state_beyond_the_epoch_is_refused():
    loader = DataLoader(numbers(6), 2, seed=1)
    next(iter(loader))
    state = loader.state_dict()
    with pytest.raises(StateError, match=r"no state within an epoch of 3 batches. Give what state"):
        loader.load_state_dict({**state, "batches": 10**9})
    loader.load_state_dict({**state, "batches": 3})
    assert (lists(loader), len(lists(loader))) == ([], 3)


@pytest.mark.parametrize(
    "change", [{"batches": -1}, {"batches": "2"}, {"batches": 2, "stream": None}, {"extra": 0}]
)
def test_what_is_no_state_is_refused(change):
    loader = DataLoader(numbers(6), 2, seed=1)
    with pytest.raises(StateError, match=r"is no loader's state. Give what state_dict returned"):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(StateError, match=r"load_state_dict: \[\] is no loader's state"):
        loader.load_state_dict([])


def test_bad_arguments():
    for wrong in (0, -3):
        with pytest.raises(ArgumentError, match=rf"DataLoader: batch_size={wrong}. Give 1 or more"):
            DataLoader(numbers(3), wrong)
    with pytest.raises(ArgumentError, match=r"DataLoader: batch_size must be an integer, got 1.5"):
        DataLoader(numbers(3), 1.5)
    with pytest.raises(ArgumentError, match=r"DataLoader: prefetch=-1. Give 0 or more"):
        DataLoader(numbers(3), prefetch=-1)
    with pytest.raises(ArgumentError, match=r"seed: -1 is no integer"):
        DataLoader(numbers(3), seed=-1)


def test_numpy_integers_are_sizes_and_seeds():
    loader = DataLoader(numbers(3), np.int64(2), seed=np.uint8(1))
    assert lists(loader) == [[0, 1], [2]]
    assert json.loads(json.dumps(loader.state_dict()))["seed"] == 1


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize(
    "answer", [lambda i: (i * 1.0, np.arange(6)), lambda i: 3.0, lambda i: i[:1]]
)
def test_a_batched_data_set_returns_one_row_a_sample(answer, prefetch):
    class Answers(Dataset):
        batched = True
        pure = True

        def __getitem__(self, index):
            return answer(index)

        def __len__(self):
            return 6

    message = r"DataLoader: fields of shapes .* for 4 samples. Return one row a sample"
    with pytest.raises(ShapeError, match=message):
        list(DataLoader(Answers(), 4, prefetch=prefetch))


def test_a_failing_transform_names_its_sample(pictures):
    def fail(image):
        raise RuntimeError("no picture")

    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(pictures([fail]), 4))
    assert caught.value.__notes__ == [
        "while transforming sample 0",
        "while fetching samples [0 1 2 3]",
    ]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_data_set_cannot_end_an_epoch_early(prefetch):
    class Exhausted(NDArrayDataset):
        pure = True

        def __getitem__(self, index):
            return super().__getitem__(index) if index < 3 else next(iter(()))

    loader = DataLoader(Exhausted(np.arange(9)), 2, prefetch=prefetch)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        list(loader)
    assert caught.value.__cause__.__notes__ == ["while fetching sample 3"]


def test_the_time_of_a_pass_grows_with_the_batches():
    def seconds(batches):
        loader = DataLoader(NDArrayDataset(np.zeros((batches, 4)), np.arange(batches)))
        start = time.process_time()
        assert sum(1 for _ in loader) == batches
        return time.process_time() - start

    assert seconds(60_000) < 40 * max(seconds(6_000) for _ in range(3))
