"""Functions of each element, and softmax, as layers: they have no parameters."""

from __future__ import annotations

from .. import ops
from ..tensor import Tensor
from .module import Module


class ReLU(Module):
    """y = max(x, 0).

    Example:
        >>> import needle as ndl
        >>> ndl.nn.ReLU()(ndl.Tensor([-1.0, 2.0])).numpy()
        array([0., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Tanh(Module):
    """y = tanh(x).

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Tanh()(ndl.Tensor([0.0])).numpy()
        array([0.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x)).

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Sigmoid()(ndl.Tensor([0.0])).numpy()
        array([0.5])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class GELU(Module):
    """y = x · Φ(x); see `ndl.gelu`.

    Args:
        approximate: "none" or "tanh".

    Example:
        >>> import needle as ndl
        >>> ndl.nn.GELU()(ndl.Tensor([0.0])).numpy()
        array([0.])
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """y = x · sigmoid(x).

    Example:
        >>> import needle as ndl
        >>> ndl.nn.SiLU()(ndl.Tensor([0.0])).numpy()
        array([0.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return ops.silu(x)


class Softmax(Module):
    """y = exp(x) / Σ exp(x) along an axis.

    Args:
        axis: The axis that sums to one.

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Softmax()(ndl.Tensor([[1.0, 1.0]])).numpy()
        array([[0.5, 0.5]])
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
