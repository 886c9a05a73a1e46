"""Prefetching: the same batches and exceptions, only where it is safe, and no thread left."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from needle.data import DataLoader, Dataset, MNISTDataset, NDArrayDataset, RandomCrop
from needle.data.prefetch import prefetched
from needle.errors import ArgumentError


def prefetching():
    return [t for t in threading.enumerate() if t.name.startswith("needle-prefetch")]


def wait_until_none():
    deadline = time.monotonic() + 10
    while prefetching() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not prefetching()


class Where(NDArrayDataset):
    """Numbers, and whether they were fetched in a background thread."""

    batched = True
    pure = True

    def __getitem__(self, index):
        background = threading.current_thread() is not threading.main_thread()
        return *super().__getitem__(index), np.full(np.shape(index), background)


def fetched_in_background(data, **kwargs):
    seen = [bool(batch[-1].numpy().all()) for batch in DataLoader(data, 2, prefetch=2, **kwargs)]
    wait_until_none()
    assert len(set(seen)) == 1
    return seen[0]


def test_pure_data_sets_are_fetched_in_the_background():
    assert fetched_in_background(Where(np.arange(7)))
    assert fetched_in_background(Where(np.arange(7)), shuffle=True)


def test_whatever_could_draw_is_fetched_in_the_caller():
    class Impure(Where):
        def __getitem__(self, index):
            return super().__getitem__(index)

    class OverTransforms(Where):
        def apply_transforms(self, x):
            return x

    assert not fetched_in_background(Impure(np.arange(6)))
    assert not fetched_in_background(OverTransforms(np.arange(6)))
    data = Where(np.arange(6))
    data.transforms = [RandomCrop()]
    assert not fetched_in_background(data)  # no seed: they draw from NumPy's global state
    assert fetched_in_background(data, seed=1)
    data.transforms = [lambda image: image]
    assert not fetched_in_background(data, seed=1)


def test_a_users_data_set_is_fetched_in_the_caller():
    class User(Dataset):
        def __getitem__(self, index):
            return index, threading.current_thread() is not threading.main_thread()

        def __len__(self):
            return 6

    assert not fetched_in_background(User())


def test_at_most_so_many_ahead():
    fetched = []

    def fetch(number):
        fetched.append(number)
        return number

    batches = prefetched(fetch, range(2, 10), 3)
    assert fetched == []
    assert next(batches) == 2
    deadline = time.monotonic() + 10
    while len(fetched) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert fetched == [2, 3, 4, 5]
    assert list(batches) == [3, 4, 5, 6, 7, 8, 9]
    assert fetched == list(range(2, 10))


def test_an_exception_comes_in_its_place_with_its_sample():
    class Shorter(Where):
        batched = True
        pure = True

        def __getitem__(self, index):
            if index.max() > 7:
                raise RuntimeError("no more")
            return super().__getitem__(index)

    loader = DataLoader(Shorter(np.arange(12)), 3, prefetch=2)
    batches = iter(loader)
    assert [next(batches)[0].numpy().tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(RuntimeError, match=r"no more") as caught:
        next(batches)
    assert caught.value.__notes__ == ["while fetching samples [6 7 8]"]
    assert loader.state_dict()["batches"] == 2
    wait_until_none()


def test_a_failing_transform_names_its_samples_in_the_background(write_idx, images, labels):
    crop = RandomCrop()
    crop.padding = -9
    data = MNISTDataset(write_idx("x", images), write_idx("y", labels), [crop])
    with pytest.raises(ArgumentError, match=r"integers: no value in \[9, -8\)") as caught:
        list(DataLoader(data, 4, seed=0, prefetch=1))
    assert caught.value.__notes__ == ["while fetching samples [0 1 2 3]"]
    wait_until_none()


def test_leaving_early_ends_the_thread():
    for _ in DataLoader(Where(np.arange(1000)), prefetch=4):
        break
    wait_until_none()
    batches = iter(DataLoader(Where(np.arange(1000)), prefetch=4))
    next(batches)
    assert prefetching()
    batches.close()
    wait_until_none()


def test_collecting_the_iterator_ends_the_thread():
    batches = iter(DataLoader(Where(np.arange(1000)), prefetch=4))
    next(batches)
    holder = [batches]
    holder.append(holder)  # only the cycle collector finds it
    del batches, holder
    gc.collect()
    wait_until_none()


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


START = """
import os, sys, time
import numpy as np
from needle.data import DataLoader, NDArrayDataset
class Slow(NDArrayDataset):
    batched = pure = True
    def __getitem__(self, index):
        time.sleep(0.01)
        return super().__getitem__(index)
batches = iter(DataLoader(Slow(np.arange(50)), prefetch=4))
first = next(batches)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "batches.close()"])
def test_the_interpreter_ends_at_once(end):
    start = time.monotonic()
    assert run(START + end) == (0, "", "")
    assert time.monotonic() - start < 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_goes_on():
    code = """
    sys.stdout.flush()
    child = os.fork()
    rest = [int(batch[0].numpy()[0]) for batch in batches]
    assert rest == list(range(1, 50)), rest
    if child:
        assert os.waitpid(child, 0)[1] == 0
        print("both")
    """
    code = START + textwrap.dedent(code)
    status, out, _ = run(code)  # Python 3.12 warns of any fork beside a thread
    assert (status, out) == (0, "both\n")
