"""Profiles of `explain`: functions that run alone, on memory that is kept for them."""

from weakref import ref

import numpy as np
import pytest

import needle as ndl
from needle.jit.compiler import native_executor

pytest.importorskip("llvmlite")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 2, x.exp()),
        lambda x: (x * 2, x * 2),  # one result, of which the caller gets two copies
    ],
)
def test_results_have_memory_as_long_as_functions_run(function, monkeypatch):
    memory = []

    def empty(*args):
        array = np.empty(*args)
        memory.append(ref(array))
        return array

    def alone(self, call):
        run = run_alone(self, call)
        return lambda: runs.append(all(array() is not None for array in memory)) or run()

    runs, run_alone = [], native_executor.NativeExecutor.alone
    monkeypatch.setattr(native_executor, "_empty", empty)
    monkeypatch.setattr(native_executor.NativeExecutor, "alone", alone)
    ndl.explain(function, ndl.ones(3), profile=True)
    assert memory
    assert runs
    assert all(runs)


def test_a_call_with_an_index_out_of_range_is_not_measured():
    def looked_up(x, i):
        return x.take(i).exp().sum()

    x = ndl.ones(3)
    for index, is_measured in ((2, True), (5, False)):
        i = ndl.Tensor([index], requires_grad=False)
        rows = ndl.explain(looked_up, x, i, profile=True).rows
        assert rows
        assert all((row.microseconds is not None) == is_measured for row in rows)


def test_an_explanation_in_a_notebook_is_as_printed():
    shown = ndl.explain(lambda x: x.tanh(), ndl.ones(3))
    assert repr(shown) == str(shown)
    assert f"== kernels ==\n{shown.kernels}\n" in repr(shown)
