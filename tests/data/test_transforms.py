"""Flips and crops against written-out loops, alone and in batches, with the same numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle import random
from needle.data import MNISTDataset, RandomCrop, RandomFlipHorizontal, Transform
from needle.errors import ArgumentError, ShapeError


def flip_by_loop(image, number, p):
    out = image.copy()
    if number < p:
        for j in range(image.shape[1]):
            out[:, j] = image[:, image.shape[1] - 1 - j]
    return out


def crop_by_loop(image, down, right):
    out = np.zeros_like(image)
    height, width, _ = image.shape
    for i in range(height):
        for j in range(width):
            if 0 <= i + down < height and 0 <= j + right < width:
                out[i, j] = image[i + down, j + right]
    return out


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))


@given(SHAPES, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_flip_is_the_published_one(shape, seed, p):
    image = np.random.default_rng(seed).normal(size=shape)
    np.random.seed(seed)
    got = [RandomFlipHorizontal(p)(image) for _ in range(4)]
    after = np.random.rand()
    np.random.seed(seed)
    assert all(np.array_equal(g, flip_by_loop(image, np.random.rand(), p)) for g in got)
    assert np.random.rand() == after


@given(SHAPES, st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_crop_is_the_published_one(shape, seed, padding):
    image = np.random.default_rng(seed).normal(size=shape).astype("float32")
    np.random.seed(seed)
    got = [RandomCrop(padding)(image) for _ in range(4)]
    after = np.random.rand()
    np.random.seed(seed)
    for one in got:
        shifts = np.random.randint(low=-padding, high=padding + 1, size=2)
        assert np.array_equal(one, crop_by_loop(image, *shifts))
        assert one.dtype == np.float32
    assert np.random.rand() == after


def test_the_input_is_left_alone():
    image = np.arange(12.0).reshape(2, 3, 2)
    for transform in (RandomFlipHorizontal(1), RandomCrop(2)):
        transform(image)[...] = -1
        assert np.array_equal(image, np.arange(12.0).reshape(2, 3, 2))


class Scale(Transform):
    """A user's transform, that draws as well."""

    def __call__(self, x):
        return x * np.float32(np.random.rand())


CHAINS = {
    "flip": [RandomFlipHorizontal()],
    "crop": [RandomCrop(2)],
    "flip, crop": [RandomFlipHorizontal(0.4), RandomCrop(1)],
    "crop, flip, crop": [RandomCrop(1), RandomFlipHorizontal(), RandomCrop(2)],
    "with a user's own": [RandomCrop(1), Scale(), RandomFlipHorizontal()],
    "a function": [lambda image: image[:3, :3]],
    "empty": [],
}


@pytest.mark.parametrize("seed", [None, 5], ids=["NumPy", "Philox"])
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_a_batch_is_its_images_one_at_a_time(chain, seed, write_idx, images, labels):
    data = MNISTDataset(write_idx("images", images), write_idx("labels", labels), chain)
    for index in (np.array([7, 2, 2, 11]), slice(3, 9), np.arange(0), [5, -1], slice(0, 0)):
        np.random.seed(3)
        random.seed(seed)
        batch, batch_labels = data[index]
        after = random.get_state()
        np.random.seed(3)
        random.seed(seed)
        samples = np.arange(12)[index]
        single = [data[int(i)] for i in samples]
        assert random.get_state() == after
        assert len(batch) == len(single)
        assert batch.dtype == np.float32
        for got, got_label, (image, label) in zip(batch, batch_labels, single, strict=True):
            assert np.array_equal(got, image)
            assert got_label == label


def test_subclasses_of_our_transforms_are_called():
    class Brighter(RandomFlipHorizontal):
        def __call__(self, x):
            return super().__call__(x) + 1

    assert Brighter(0)(np.zeros((1, 1, 1))) == 1


def test_a_subclass_is_not_taken_for_ours(write_idx, images, labels):
    class Nothing(RandomCrop):
        def __call__(self, x):
            return x * 0

    data = MNISTDataset(write_idx("images", images), write_idx("labels", labels), [Nothing()])
    assert not data[np.array([1, 2])][0].any()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_flip_needs_a_probability(p):
    with pytest.raises(ArgumentError, match=r"RandomFlipHorizontal: p=.* is no probability"):
        RandomFlipHorizontal(p)


def test_crop_needs_a_whole_number():
    with pytest.raises(ArgumentError, match=r"RandomCrop: padding=-1. Give 0 or more"):
        RandomCrop(-1)
    with pytest.raises(ArgumentError, match=r"RandomCrop: padding must be an integer, got 1.5"):
        RandomCrop(1.5)


@pytest.mark.parametrize("transform", [RandomFlipHorizontal(), RandomCrop()])
def test_images_have_three_axes(transform):
    name = type(transform).__name__
    with pytest.raises(ShapeError, match=rf"{name}: an image of shape \(28, 28\). Give height"):
        transform(np.zeros((28, 28)))


def test_bases_say_what_to_define():
    with pytest.raises(NotImplementedError, match=r"Transform must define __call__"):
        Transform()(0)
