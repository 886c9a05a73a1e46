"""Single operators and their gradients in NumPy, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .operands import SCALAR, digest, incoming, operands

Array = np.ndarray

_ONE = np.float32(1)


def _logsumexp(x: Array) -> Array:
    top = x.max(axis=1, keepdims=True)
    return (np.log(np.exp(x - top).sum(axis=1, keepdims=True)) + top)[:, 0]


FORWARD: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "multiply": np.multiply,
    "add_scalar": lambda x: x + SCALAR,
    "exp": np.exp,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sum": lambda x: x.sum(),
    "bias": np.add,
    "logsumexp": _logsumexp,
    "matmul": np.matmul,
}

# Each from the gradient that comes in, the result and the operands.
BACKWARD: dict[str, Callable[..., tuple[Array, ...]]] = {
    "add": lambda g, y, a, b: (g, g),
    "multiply": lambda g, y, a, b: (g * b, g * a),
    "add_scalar": lambda g, y, x: (g,),
    "exp": lambda g, y, x: (g * y,),
    "tanh": lambda g, y, x: (g * (_ONE - y * y),),
    "relu": lambda g, y, x: (g * (y > 0),),
    "sum": lambda g, y, x: (np.broadcast_to(g, x.shape),),
    "bias": lambda g, y, x, b: (g, g.sum(axis=0)),
    "logsumexp": lambda g, y, x: (np.exp(x - y[:, None]) * g[:, None],),
    "matmul": lambda g, y, a, b: (g @ b.T, a.T @ g),
}


def build(threads: int | None) -> Operators:
    """The contestant; `threads` is set through the environment."""
    del threads
    return Operators()


class Operators:
    """One operator at a time."""

    def select(self, operator: str, size: int, backward: bool) -> None:
        """Say what `run` does."""
        inputs = operands(operator, size)
        forward, gradients = FORWARD[operator], BACKWARD[operator]
        out = incoming(np.shape(forward(*inputs)))

        def both() -> tuple[Any, ...]:
            result = forward(*inputs)
            return (result, *gradients(out, result, *inputs))

        self._call = both if backward else lambda: (forward(*inputs),)

    def run(self, count: int) -> None:
        """`count` calls."""
        call = self._call
        for _ in range(count):
            call()

    def check(self) -> list[float]:
        """The result and the gradients."""
        return digest([np.asarray(array) for array in self._call()])
