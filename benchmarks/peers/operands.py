"""Operands of the single operators: the same arrays for every library."""

from __future__ import annotations

import math

import numpy as np

SCALAR = 1.5


def operands(operator: str, size: int) -> list[np.ndarray]:
    """Float32 arrays of about `size` elements in all axes together."""
    random = np.random.default_rng(size)
    columns = min(size, 100)
    side = math.isqrt(size)
    shapes = {
        "add": [(size,), (size,)],
        "multiply": [(size,), (size,)],
        "bias": [(size // columns, columns), (columns,)],
        "logsumexp": [(size // columns, columns)],
        "matmul": [(side, side), (side, side)],
    }.get(operator, [(size,)])
    return [random.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]


def incoming(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient that comes in from above."""
    return np.random.default_rng(1).uniform(0.5, 1.5, shape).astype(np.float32)


def digest(arrays: list[np.ndarray]) -> list[float]:
    """Numbers to compare: the sum of sizes and the first elements of each array."""
    return [
        number
        for array in arrays
        for number in (float(np.abs(array).sum(dtype=np.float64)), *map(float, array.flat[:3]))
    ]
