"""Devices under the `np` backend, as existing programs use them."""

import os
import subprocess
import sys

import numpy as np
import pytest

import needle as ndl
from needle.errors import BackendError


def test_names():
    assert str(ndl.cpu()) == repr(ndl.cpu()) == "needle.cpu()"
    assert str(ndl.cuda()) == "needle.cuda()"
    assert ndl.cpu() == ndl.cpu() == ndl.cpu_numpy() == ndl.default_device()
    assert ndl.cpu() != ndl.cuda()
    assert ndl.cpu() != "cpu"
    assert hash(ndl.cuda()) == hash(ndl.cuda())
    assert {ndl.cpu(): 1}[ndl.cpu_numpy()] == 1
    assert ndl.all_devices() == [ndl.cpu()]


def test_what_is_there():
    assert ndl.cpu().enabled()
    assert not ndl.cuda().enabled()


@pytest.mark.parametrize(
    "make",
    [
        lambda d: d.rand(2, 3), lambda d: d.zeros(2), lambda d: d.empty((2,)),
        lambda d: d.full((2,), 1.0), lambda d: d.one_hot(3, np.array([0])),
    ],
)  # fmt: skip
def test_no_arrays_on_a_device_that_is_not_there(make):
    with pytest.raises(BackendError, match=r"cuda: Needle has no code for GPUs. Use ndl.cpu\(\)"):
        make(ndl.cuda())


@pytest.mark.parametrize("make", [ndl.rand, ndl.randn, ndl.zeros, ndl.ones, ndl.init.constant])
def test_no_tensors_on_a_device_that_is_not_there(make):
    assert make(2, device=ndl.cpu()).device == ndl.cpu()
    with pytest.raises(BackendError, match=r"device needle.cuda\(\) is not available"):
        make(2, device=ndl.cuda())


def test_draws_are_numpys():
    np.random.seed(0)
    expected = np.random.rand(2, 3), np.random.randn(4)
    np.random.seed(0)
    cpu = ndl.cpu()
    np.testing.assert_array_equal(cpu.rand(2, 3), expected[0])
    np.testing.assert_array_equal(cpu.randn(4, dtype="float32"), expected[1].astype("float32"))
    assert (cpu.rand().shape, cpu.randn().dtype) == ((), np.float64)


def test_arrays():
    cpu = ndl.cpu()
    np.testing.assert_array_equal(cpu.zeros(2, 3), np.zeros((2, 3)))
    np.testing.assert_array_equal(cpu.zeros((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(cpu.ones(2, dtype="int64"), [1, 1])
    np.testing.assert_array_equal(cpu.full((2,), 7), [7, 7])
    assert cpu.empty((2, 0), dtype="float64").shape == (2, 0)
    for index in (np.array([2, 0]), [2, 0], ndl.Tensor([2.0, 0.0])):
        one_hot = cpu.one_hot(3, index, dtype="float64")
        np.testing.assert_array_equal(one_hot, [[0, 0, 1], [1, 0, 0]])
    assert cpu.zeros(1).dtype == cpu.ones(1).dtype == cpu.full(1, 1).dtype == np.float32


def test_the_strided_backend_is_not_there_yet():
    process = subprocess.run(
        [sys.executable, "-c", "import needle"],
        env={**os.environ, "NEEDLE_BACKEND": "nd"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]
    assert "BackendError: NEEDLE_BACKEND=nd asks for needle.backend_ndarray, which is" in last


def test_backend_selection():
    from needle import backend_selection

    assert backend_selection.BACKEND == "np"
    assert backend_selection.array_api is np
    assert backend_selection.NDArray is np.ndarray
    assert backend_selection.Device is ndl.Device
    assert backend_selection.default_device() == ndl.cpu()
