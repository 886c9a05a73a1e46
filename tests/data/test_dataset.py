"""Data sets: what they promise, and how items become batches."""

import numpy as np
import pytest

from needle import Tensor
from needle.data import DataLoader, Dataset, NDArrayDataset, RandomCrop
from needle.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError


def batches(dataset, *args, **kwargs):
    return [tuple(t.numpy() for t in batch) for batch in DataLoader(dataset, *args, **kwargs)]


class Items(Dataset):
    """Items from a list, one at a time; remembers what it was asked for."""

    def __init__(self, items):
        super().__init__()
        self.items, self.asked = items, []

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]

    def __len__(self):
        return len(self.items)


class Together(Items):
    """Items at an index array, in one array."""

    batched = True


def test_items_of_arrays_are_tuples():
    data = NDArrayDataset(np.arange(6.0).reshape(3, 2), [4, 5, 6])
    row, number = data[1]
    assert (row.tolist(), number) == ([2.0, 3.0], 5)
    assert [a.tolist() for a in data[np.array([2, 0])]] == [[[4.0, 5.0], [0.0, 1.0]], [6, 4]]
    assert len(data) == 3


def test_arrays_may_be_tensors():
    data = NDArrayDataset(Tensor(np.arange(3.0)))
    assert data[2] == (2.0,)


def test_arrays_that_do_not_fit():
    with pytest.raises(ArgumentError, match=r"NDArrayDataset: no array. Give one or more"):
        NDArrayDataset()
    with pytest.raises(ShapeError, match=r"arrays of shapes \(3,\), \(2, 3\). Give arrays with"):
        NDArrayDataset(np.zeros(3), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"arrays of shapes \(\). Give arrays"):
        NDArrayDataset(np.zeros(()))
    with pytest.raises(ShapeError, match=r"NDArrayDataset: the nested lists make no array"):
        NDArrayDataset([[1.0], [2.0, 3.0]])
    with pytest.raises(DTypeError, match=r"NDArrayDataset: list of dtype <U1 holds no"):
        NDArrayDataset(["a", "b"])


ITEMS = {
    "arrays": ([np.full(2, i) for i in range(3)], [[[0, 0], [1, 1], [2, 2]]]),
    "numbers": ([0.5, 1.5, 2.5], [[0.5, 1.5, 2.5]]),
    "tuples": ([(np.full(1, i), i) for i in range(3)], [[[0], [1], [2]], [0, 1, 2]]),
    "lists": ([[i, float(i)] for i in range(3)], [[0, 1, 2], [0.0, 1.0, 2.0]]),
    "tensors": ([(Tensor([float(i)]), i) for i in range(3)], [[[0.0], [1.0], [2.0]], [0, 1, 2]]),
    "bools": ([(i > 0,) for i in range(3)], [[False, True, True]]),
}


@pytest.mark.parametrize(("items", "expected"), ITEMS.values(), ids=ITEMS.keys())
def test_what_items_may_be(items, expected):
    (batch,) = batches(Items(items), 3)
    assert [array.tolist() for array in batch] == expected


def test_dtypes_of_items_are_kept():
    types = [np.uint8, np.int64, np.float16, np.float32, np.float64, np.bool_]
    (batch,) = batches(Items([tuple(t(1) for t in types)] * 2), 2)
    assert [array.dtype for array in batch] == types


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_users_data_set_is_asked_for_plain_ints(shuffle):
    data = Items([1, 2, 3, 4])
    batches(data, 2, shuffle)
    assert sorted(data.asked) == [0, 1, 2, 3]
    assert {type(index) for index in data.asked} == {int}


@pytest.mark.parametrize("data", [[(1, 2.0), (3, 4.0)], np.eye(2), ((1, 2.0), (3, 4.0))])
def test_anything_with_items_and_a_length_is_a_data_set(data):
    (batch,) = batches(data, 2)
    assert np.array_equal(batch[0], [1, 3] if isinstance(data, (list, tuple)) else np.eye(2))


def test_a_declared_data_set_is_asked_for_a_batch_at_once():
    class Together(Items):
        batched = True

        def __getitem__(self, index):
            self.asked.append(index)
            return np.asarray(self.items)[index]

    data = Together([5, 6, 7])
    assert [b[0].tolist() for b in batches(data, 2)] == [[5, 6], [7]]
    assert [index.tolist() for index in data.asked] == [[0, 1], [2]]


def test_a_declaration_does_not_hold_for_what_is_put_over_it():
    class OneByOne(NDArrayDataset):
        def __getitem__(self, index):
            (row,) = super().__getitem__(index)
            return row.reshape(-1), index  # wrong for many at once

    (batch,) = batches(OneByOne(np.arange(8.0).reshape(2, 2, 2)), 2)
    assert batch[0].shape == (2, 4)
    assert batch[1].tolist() == [0, 1]

    class Again(OneByOne):
        batched = True

        def __getitem__(self, index):
            return self.arrays[0][index]

    (batch,) = batches(Again(np.arange(8.0).reshape(2, 2, 2)), 2)
    assert batch[0].shape == (2, 2, 2)


def test_transforms_without_the_bases_constructor():
    class Plain(Dataset):
        def __getitem__(self, index):
            return self.apply_transforms(np.float32(index))

        def __len__(self):
            return 2

    assert batches(Plain(), 2)[0][0].tolist() == [0, 1]
    assert batches(Plain([lambda x: x + 1, lambda x: x * 10]), 2)[0][0].tolist() == [10, 20]


def test_bases_say_what_to_define():
    with pytest.raises(NotImplementedError, match=r"Dataset must define __getitem__\(index\)"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match=r"Dataset must define __len__\(\)"):
        len(Dataset())


BAD = {
    "shapes": ([np.zeros(2), np.zeros(3)], ShapeError, r"shapes \(2,\), \(3,\) in one.*pad them"),
    "fields": ([(1, 2), (1, 2, 3)], ShapeError, "some items have 2 fields, others not"),
    "tuple and number": ([(1, 2), 1], ShapeError, "Every item must be a tuple of the same length"),
    "strings": (["a", "b"], DTypeError, "DataLoader: str of dtype <U1 holds no real numbers"),
    "dicts": ([{}, {}], DTypeError, "dict of dtype object.*Use floats, integers or bools"),
    "ragged": ([([1, [2]],)], ValueError, "inhomogeneous"),
}


@pytest.mark.parametrize(("items", "error", "message"), BAD.values(), ids=BAD.keys())
def test_items_that_make_no_batch(items, error, message):
    with pytest.raises(error, match=message):
        batches(Items(items), 2)


def test_an_exception_names_the_sample():
    class Broken(Items):
        def __getitem__(self, index):
            if index == 3:
                raise RuntimeError("disk on fire")
            return index

    with pytest.raises(RuntimeError, match=r"^disk on fire") as caught:
        batches(Broken(range(6)), 2)
    assert caught.value.__notes__ == ["while fetching sample 3"]


def test_an_exception_of_a_batch_names_its_samples():
    class Broken(Items):
        batched = True

        def __getitem__(self, index):
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError) as caught:
        batches(Broken(range(6)), 3)
    assert caught.value.__notes__ == ["while fetching samples [0 1 2]"]


def test_transforms_from_an_iterator_are_those_of_every_image():
    data = Dataset(transforms=iter([lambda x: x + 1, lambda x: x * 2]))
    assert [data.apply_transforms(x) for x in (0, 1, 2)] == [2, 4, 6]


@pytest.mark.parametrize("transforms", [[None], [lambda x: x, 3], {1: 2}])
def test_transforms_that_cannot_be_called_are_refused(transforms):
    with pytest.raises(ArgumentError, match=r"Dataset: transforms (holds|is) a \w+\. Pass "):
        Dataset(transforms=transforms)


@pytest.mark.parametrize("transforms", [3, "crop"])
def test_transforms_that_are_no_list_are_refused(transforms):
    with pytest.raises(ArgumentError, match=r"Dataset: transforms is a .*\. Pass a list"):
        Dataset(transforms=transforms)


@pytest.mark.parametrize("dtype", [">f4", ">i2"])
def test_batches_are_in_the_machines_byte_order(dtype):
    x = np.arange(4).astype(dtype)
    for data in (NDArrayDataset(x), Together(x), Items(list(x))):
        for (batch,) in DataLoader(data, batch_size=4):
            assert batch.dtype == x.dtype.newbyteorder("=")
            assert batch.tolist() == [0, 1, 2, 3]


def test_a_transform_that_is_in_no_list_is_refused():
    with pytest.raises(ArgumentError, match=r"Dataset: transforms is a .*\. Pass a list: \[tra"):
        Dataset(transforms=RandomCrop(3))


@pytest.mark.parametrize("index", [3, -4, [0, 3], "a", 1.5])
def test_an_index_that_is_none_of_the_arrays(index):
    data = NDArrayDataset(np.eye(3), np.arange(3))
    with pytest.raises(IndexRangeError, match=r"^NDArrayDataset: .* It has 3 items$"):
        data[index]
    assert len(list(data)) == 3  # Python iterates up to an IndexError
