"""MNIST as it is known, and sets of images that do not fit together."""

from pathlib import Path

import numpy as np
import pytest

from needle.data import MNISTDataset, load_mnist
from needle.errors import DataError, IndexRangeError

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def mnist():
    return load_mnist(DATA)


def test_mnist_is_mnist(mnist):
    """Labels as http://yann.lecun.com/exdb/mnist/ ships them; mean and deviation as published."""
    train, test = mnist
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.y).tolist() == counts
    assert train.X.shape == (60_000, 28, 28, 1)
    share, values = np.bincount(train.X.ravel()) / train.X.size, np.arange(256) / 255
    mean = share @ values
    deviation = np.sqrt(share @ (values - mean) ** 2)
    assert (round(mean, 4), round(deviation, 4)) == (0.1307, 0.3081)


def test_an_item(mnist):
    image, label = mnist[0][0]
    assert image.shape == (28, 28, 1)
    assert image.dtype == np.float32
    assert (label, label.dtype) == (5, np.uint8)
    assert np.array_equal(image, mnist[0].X[0].astype(np.float32) / np.float32(255))


def test_every_byte_is_the_float_nearest_to_its_255th(write_idx):
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    data = MNISTDataset(write_idx("x", every), write_idx("y", np.zeros(1, np.uint8)))
    expected = (np.arange(256) / 255).astype(np.float32)
    assert data[0][0].ravel().tolist() == expected.tolist()
    assert data[:][0].ravel().tolist() == expected.tolist()


@pytest.mark.parametrize(
    "index",
    [slice(2, 9, 3), slice(None), np.array([3, 1, 1, -1]), [0, 2], np.arange(60_000) % 29 == 0],
    ids=["slice", "all", "array", "list", "mask"],
)
def test_many_items_are_the_items(mnist, index):
    data = mnist[1]
    index = index[: len(data)] if isinstance(index, np.ndarray) and index.dtype == bool else index
    images, labels = data[index]
    samples = np.arange(len(data))[index]
    assert images.shape == (len(samples), 28, 28, 1)
    assert images.dtype == np.float32
    assert labels.dtype == np.uint8
    for k, i in list(enumerate(samples))[:50]:
        image, label = data[int(i)]
        assert np.array_equal(images[k], image)
        assert labels[k] == label


def test_iterating_ends(write_idx, images, labels):
    data = MNISTDataset(write_idx("images", images), write_idx("labels", labels))
    assert [int(label) for _, label in data] == labels.tolist()


def test_items_can_be_written_to(write_idx, images, labels):
    data = MNISTDataset(write_idx("images", images), write_idx("labels", labels))
    data[0][0][...] = 9
    data[:3][0][...] = 9
    data[np.array([0])][0][...] = 9
    for index in (slice(3), slice(None), np.array([0])):
        data[index][1][...] = 9
    assert np.array_equal(data.X[..., 0], images)
    assert np.array_equal(data.y, labels)


@pytest.mark.parametrize("index", [12, -13, np.array([3, 12])], ids=str)
def test_an_index_outside(write_idx, images, labels, index):
    data = MNISTDataset(write_idx("images", images), write_idx("labels", labels))
    with pytest.raises(IndexRangeError, match=r"MNISTDataset: .*out of bounds.*It has 12 images"):
        data[index]


def test_files_that_do_not_fit(write_idx, images, labels):
    x, y = write_idx("images", images), write_idx("labels", labels)
    with pytest.raises(DataError, match=r"holds 12 images, .*short 11 labels. Give two files"):
        MNISTDataset(x, write_idx("short", labels[:11]))
    with pytest.raises(DataError, match=r"labels: holds uint8 of shape \(12,\), not bytes of imag"):
        MNISTDataset(y, y)
    with pytest.raises(DataError, match=r"images: holds uint8 of shape \(12, 5, 4\).*labels"):
        MNISTDataset(x, x)
    with pytest.raises(DataError, match=r"holds int32 of shape.*Give image and label files in"):
        MNISTDataset(x, write_idx("wide", labels.astype(np.int32)))
    for shape in ((0, 28, 28), (12, 0, 4)):
        empty = write_idx("empty", np.zeros(shape, np.uint8))
        with pytest.raises(DataError, match=r"empty: no image in \(\d+, \d+, \d+\). Give a set"):
            MNISTDataset(empty, write_idx("none", np.zeros(shape[0], np.uint8)))


def test_a_file_that_is_not_there_is_not_downloaded(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: no such file"):
        MNISTDataset(tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "labels")
    assert not list(tmp_path.iterdir())
