"""Sums of arrays, as NumPy's but for the order of additions along long axes.

NumPy adds up pairwise along the axis whose elements lie closest together, and one after the other
along all others. There a sum of float32 over a million rows has three digits. So long axes go in
blocks::

    before                      after

    np.sum(x, axis=0)           blocks = np.sum(x.reshape(n // BLOCK, BLOCK, …), axis=1)
                                np.sum(blocks, axis=0)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..shapes import Axes

BLOCK = 1024
"""Additions one after the other, at most."""


def total(x: Any, axes: Axes, *, keepdims: bool = False) -> Any:
    """The sum of an array over axes."""
    if x.size > BLOCK and x.dtype.kind == "f":
        summed = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
        if _count(x, summed) > BLOCK:
            x = _with_short_axes(x, summed)
    return np.add.reduce(x, axis=axes, keepdims=keepdims)


def _count(x: Any, axes: Iterable[int]) -> int:
    """Of how many elements a sum over axes is."""
    return math.prod([x.shape[axis] for axis in axes])


def _with_short_axes(x: Any, summed: Sequence[int]) -> Any:
    """Summed already, but for the axis that NumPy sums pairwise, where it is long otherwise."""
    in_a_row = _in_a_row(x, summed)
    if _count(x, in_a_row) > BLOCK:
        for axis in in_a_row:
            x = _along(x, axis)
    return x


def _in_a_row(x: Any, summed: Sequence[int]) -> list[int]:
    """The axes along which NumPy would add up one element after the other."""
    if len(summed) == x.ndim and x.flags.forc:  # one axis to NumPy
        return []
    strides = [abs(stride) for stride in x.strides]
    closest = min(
        [s for s, size in zip(strides, x.shape, strict=True) if s and size > 1], default=0
    )
    return [axis % x.ndim for axis in summed if strides[axis] != closest]


def _along(x: Any, axis: int) -> Any:
    """The sum along one axis, which is kept, in blocks."""
    count, rest = divmod(x.shape[axis], BLOCK)
    if not count:
        return np.add.reduce(x, axis=axis, keepdims=True)
    before = (slice(None),) * axis
    whole = x[(*before, slice(count * BLOCK))]
    blocks = whole.reshape((*x.shape[:axis], count, BLOCK, *x.shape[axis + 1 :]))
    result = _along(np.add.reduce(blocks, axis=axis + 1), axis)
    return result + _along(x[(*before, slice(-rest, None))], axis) if rest else result
