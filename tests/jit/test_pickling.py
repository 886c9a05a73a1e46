"""Jitted functions go to other processes by name, and compile there for themselves."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import needle as ndl


@ndl.jit(warmup=0)
def doubled(x):
    return (x * 2).sum()


def tripled(x):
    return (x * 3).sum()


by_another_name = ndl.jit(tripled, warmup=0)


def called(function, array):
    return function(ndl.Tensor(array, requires_grad=False)).item()


@pytest.mark.parametrize("function", [doubled, by_another_name])
def test_a_jitted_function_of_a_module_is_pickled_before_and_after_calls(function):
    array = np.arange(3.0)
    for _ in range(3):
        again = pickle.loads(pickle.dumps(function))
        assert (again is function) == (function is doubled)
        assert called(again, array) == called(function, array)


def test_a_process_that_is_spawned_calls_one():
    array = np.arange(4.0)
    expected = [called(doubled, array), called(by_another_name, array)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        jobs = [(doubled, array), (by_another_name, array)]
        assert pool.starmap(called, jobs) == expected


def test_a_local_function_has_no_name_to_be_found_by():
    local = ndl.jit(lambda x: x)
    with pytest.raises((pickle.PicklingError, AttributeError), match="local object"):
        pickle.dumps(local)


def test_a_copy_makes_programs_of_its_own():
    twin = copy.copy(by_another_name)
    called(by_another_name, np.ones(3))
    assert twin.programs == []
    assert called(twin, np.ones(3)) == 9.0
