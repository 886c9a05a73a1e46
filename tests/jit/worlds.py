"""Running a function eagerly and compiled, each on state of its own."""

import numpy as np

import needle as ndl


def zeros(*shape):
    return ndl.init.zeros(*shape, dtype="float64")


def assert_alike(ours, theirs):
    """Two trees are of one structure, and their tensors equal but for rounding."""
    if isinstance(theirs, ndl.Tensor):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        for mine, its in zip(ours, theirs, strict=True):
            assert_alike(mine, its)
    elif isinstance(theirs, dict):
        assert_alike(list(ours.values()), list(theirs.values()))
    else:
        assert ours == theirs


def expect_like_eager(make, calls=6, warmup=1):
    """Call a function eagerly and compiled, each on its own world, and compare after each call.

    `make()` returns the function and what gives its state as a tree.
    """
    eager, eager_state = make()
    function, state = make()
    compiled = ndl.jit(function, warmup=warmup)
    for k in range(calls):
        x = ndl.Tensor([1.0 + k, 2.0], requires_grad=False)
        expected = eager(x)
        assert_alike(compiled(x), expected)
        assert_alike(state(), eager_state())
    return compiled
