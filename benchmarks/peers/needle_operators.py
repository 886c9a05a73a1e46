"""Single operators and their gradients in Needle, eagerly."""

from __future__ import annotations

from typing import Any

import needle as ndl

from .operands import SCALAR, digest, incoming, operands

FORWARD: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "add_scalar": lambda x: x + SCALAR,
    "exp": ndl.exp,
    "tanh": ndl.tanh,
    "relu": ndl.relu,
    "sum": lambda x: x.sum(),
    "bias": lambda x, b: x + b.broadcast_to(x.shape),
    "logsumexp": lambda x: ndl.logsumexp(x, axes=1),
    "matmul": lambda a, b: a @ b,
}


def build(threads: int | None) -> Operators:
    """The contestant."""
    if threads is not None:
        ndl.set_num_threads(threads)
    return Operators()


class Operators:
    """One operator at a time."""

    def select(self, operator: str, size: int, backward: bool) -> None:
        """Say what `run` does."""
        self._inputs = [ndl.Tensor(array) for array in operands(operator, size)]
        self._backward = backward
        self._forward = FORWARD[operator]
        shape = self._forward(*self._inputs).shape
        self._out = ndl.Tensor(incoming(shape), requires_grad=False)

    def run(self, count: int) -> None:
        """`count` calls."""
        forward, inputs, out = self._forward, self._inputs, self._out
        if self._backward:
            for _ in range(count):
                forward(*inputs).backward(out)
        else:
            for _ in range(count):
                forward(*inputs)

    def check(self) -> list[float]:
        """The result and the gradients."""
        result = self._forward(*self._inputs)
        if not self._backward:
            return digest([result.numpy()])
        result.backward(self._out)
        return digest([result.numpy(), *(tensor.grad.numpy() for tensor in self._inputs)])
