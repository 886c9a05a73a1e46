"""Memory of results is used again only if nobody holds what was handed out."""

import weakref

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.jit import results
from needle.jit.native_executor import address_of
from needle.jit.results import Results

pytestmark = pytest.mark.parametrize("backend", ["native"], indirect=True)

SHAPES = [(2, 3), (), (0,), (4,)]


def given(shapes=SHAPES):
    words = [0] * len(shapes)
    specs = [(k, shape, np.dtype(np.float32)) for k, shape in enumerate(shapes)]
    return Results(specs, words, address_of), words


def test_the_words_are_the_addresses_of_new_arrays():
    memory, words = given()
    for _ in range(4):
        arrays = memory.give()
        assert [array.shape for array in arrays] == SHAPES
        assert words == [array.ctypes.data for array in arrays]


def test_arrays_that_nobody_holds_are_given_again():
    memory, _ = given()
    first = weakref.ref(memory.give()[0])
    again = memory.give()
    assert again[0] is first()
    other = memory.give()
    assert other[0] is not again[0]
    del again
    assert memory.give()[0] is first()


def recorded(array):
    """A graph that needs the values of an array for the gradient of something else."""
    return ndl.Tensor(np.ones_like(array)) * ndl.Tensor.wrap(array)


HOLD = {
    "array": (lambda array: array, np.asarray),
    "view": (lambda array: array[:1], np.asarray),
    "view of a view": (lambda array: array.T[1:].reshape(-1), np.asarray),
    "memoryview": (memoryview, np.asarray),
    "dlpack": (np.from_dlpack, np.asarray),
    "tensor": (ndl.Tensor.wrap, ndl.Tensor.numpy),
    "detached": (lambda array: ndl.Tensor.wrap(array).detach(), ndl.Tensor.numpy),
    "graph": (recorded, lambda product: product.node.inputs[1].storage),
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("kind", HOLD)
def test_what_somebody_holds_is_not_given_again(kind, place):
    hold, read = HOLD[kind]
    memory, _ = given([(2, 3)] * 3)
    for _ in range(3):  # sets are given again already
        arrays = memory.give()
    arrays[place][...] = 7
    kept = hold(arrays[place])
    del arrays
    for _ in range(5):
        for array in memory.give():
            array[...] = 0
    assert read(kept).size
    assert (read(kept) == 7).all()


@pytest.mark.parametrize("attribute", ["shape", "dtype", "writeable"])
def test_what_has_another_form_is_not_given_again(attribute):
    memory, _ = given([(2, 3)] * 3)
    for _ in range(3):  # sets are given again already
        arrays = memory.give()
    if attribute == "writeable":
        arrays[1].setflags(write=False)
    else:
        setattr(arrays[1], attribute, (6,) if attribute == "shape" else np.int32)
    del arrays
    for _ in range(3):
        for array in memory.give():
            assert (array.shape, array.dtype) == ((2, 3), np.float32)
            assert array.flags.writeable


def test_few_and_large_ones_are_not_kept(monkeypatch):
    monkeypatch.setattr(results, "MOST_BYTES", 71)
    for shapes in ([(2, 3)], [(2, 3)] * 3):
        memory, _ = given(shapes)
        gone = weakref.ref(memory.give()[0])
        assert gone() is None


def test_gradients_that_are_kept_stay_as_they_are():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)

    @ndl.jit
    def step(x):
        optimizer.reset_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    kept, copies = [], []
    for k in range(9):
        step(ndl.Tensor(np.full((2, 3), k + 1.0), dtype="float32", requires_grad=False))
        weight = model.parameters()[k % 4]
        if k % 3 == 0:
            kept.append(weight.grad.cached_data[-1:])
        elif k % 3 == 1:
            kept.append(weight.grad.numpy())
        else:
            kept.append(weight.grad)
        copies.append(np.array(kept[-1] if k % 3 < 2 else kept[-1].numpy()))
    for held, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(held.numpy() if isinstance(held, ndl.Tensor) else held, copy)
