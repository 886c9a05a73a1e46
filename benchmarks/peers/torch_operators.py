"""Single operators and their gradients in PyTorch, eagerly."""

from __future__ import annotations

from typing import Any

import torch

from .operands import SCALAR, digest, incoming, operands

FORWARD: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "add_scalar": lambda x: x + SCALAR,
    "exp": torch.exp,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sum": lambda x: x.sum(),
    "bias": lambda x, b: x + b,
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "matmul": lambda a, b: a @ b,
}


def build(threads: int | None) -> Operators:
    """The contestant."""
    if threads is not None:
        torch.set_num_threads(threads)
    return Operators()


class Operators:
    """One operator at a time."""

    def select(self, operator: str, size: int, backward: bool) -> None:
        """Say what `run` does."""
        self._inputs = [
            torch.from_numpy(array).requires_grad_() for array in operands(operator, size)
        ]
        self._backward = backward
        self._forward = FORWARD[operator]
        self._out = torch.from_numpy(incoming(tuple(self._forward(*self._inputs).shape)))

    def run(self, count: int) -> None:
        """`count` calls; gradients are set anew each time, as Needle does."""
        forward, inputs, out = self._forward, self._inputs, self._out
        for _ in range(count):
            result = forward(*inputs)
            if self._backward:
                for tensor in inputs:
                    tensor.grad = None
                result.backward(out)

    def check(self) -> list[float]:
        """The result and the gradients."""
        for tensor in self._inputs:
            tensor.grad = None
        result = self._forward(*self._inputs)
        if not self._backward:
            return digest([result.detach().numpy()])
        result.backward(self._out)
        return digest([result.detach().numpy(), *(tensor.grad.numpy() for tensor in self._inputs)])
