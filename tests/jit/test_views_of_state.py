"""Arguments that lie in the live memory of state, however they came to: they are read first."""

import numpy as np
import pytest

import needle as ndl


class Interface:
    """What other libraries' arrays say of their memory."""

    def __init__(self, array):
        self.kept, self.__array_interface__ = array, array.__array_interface__


VIEWS = {
    "slice": lambda a: a[:],
    "memoryview": lambda a: np.asarray(memoryview(a)),
    "slice of one": lambda a: np.asarray(memoryview(a))[:],
    "strided": np.lib.stride_tricks.as_strided,
    "window": lambda a: np.lib.stride_tricks.sliding_window_view(a, a.shape)[0],
    "dlpack": np.from_dlpack,
    "buffer": lambda a: np.frombuffer(a, a.dtype),
    "ctypes": lambda a: np.ctypeslib.as_array(np.ctypeslib.as_ctypes(a)),
    "interface": lambda a: np.asarray(Interface(a)),
}


@pytest.mark.parametrize("wrap", [lambda a: a, ndl.Tensor.wrap], ids=["array", "tensor"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_state_is_read_before_that_is_written(name, wrap):
    w = ndl.Tensor(np.arange(64.0), requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        w.data = w * 0.5 + x[::-1]
        return x.sum()

    step(wrap(np.ones(64)))
    for _ in range(3):
        before = w.numpy()
        assert step(wrap(VIEWS[name](w.cached_data))).item() == before.sum()
        np.testing.assert_array_equal(w.numpy(), before * 0.5 + before[::-1])


def test_a_view_of_a_part_of_state_is_read_before_that_is_written():
    w = ndl.Tensor(np.arange(64.0), requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        w.data = w * 0.5 + x.sum().broadcast_to((64,)) + ndl.concatenate([x, x])[::-1]

    step(np.ones(32))
    for start in (0, 7, 32):
        before = w.numpy()
        step(np.asarray(memoryview(w.cached_data)[start : start + 32]))
        part = before[start : start + 32]
        expected = before * 0.5 + part.sum() + np.concatenate([part, part])[::-1]
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-12)


def test_memory_of_another_librarys_is_read_where_it_lies():
    w = ndl.Tensor(np.zeros(64), requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        w.data = w + x

    memory = np.asarray(memoryview(np.ones(64)))
    for _ in range(3):
        step(memory)
    memory[:] = 2
    step(memory)
    assert w.numpy().tolist() == [5.0] * 64
