"""Activation functions, element by element; `sigmoid` and `tanh` are among the other functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph.kinds import Elementwise


class SiLU(Elementwise):
    """y = a · sigmoid(a)."""

    label = "silu"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return a * e.sigmoid(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0]
        s = a.sigmoid()
        return out_grad * (s * (1 + a * (1 - s)))


def silu(a: Any) -> Any:
    """Sigmoid-weighted linear unit, or swish: y = a · sigmoid(a) (Elfwing et al. 2017).

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.silu(ndl.Tensor([0.0])).numpy()
        array([0.])
    """
    return SiLU()(a)


_TWICE = 2 * math.sqrt(2 / math.pi)


class GELU(Elementwise):
    """y = a · Φ(a), Φ the normal distribution function; or its tanh approximation.

    (1 + tanh(x)) / 2 is written as sigmoid(2x): 1 + tanh(x) has no digits left where tanh(x) is -1.
    """

    float_result = True
    examples = (("none",), ("tanh",))

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ArgumentError(
                f'gelu: approximate={approximate!r} is not known. Use "none" or "tanh"'
            )
        self.approximate = approximate

    def expression(self, e: Any, a: Any) -> Any:
        if self.approximate == "tanh":
            return a * e.sigmoid((a + a * a * a * 0.044715) * _TWICE)
        return a * 0.5 * (1 + e.erf(a * math.sqrt(0.5)))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0].astype(node.dtype)  # squares of integers would wrap around
        if self.approximate == "tanh":
            s = ((a + a * a * a * 0.044715) * _TWICE).sigmoid()
            inner = (a * a * (3 * 0.044715) + 1) * _TWICE
            return out_grad * (s + a * s * (1 - s) * inner)
        phi = (-(a * a) / 2).exp() / math.sqrt(2 * math.pi)
        return out_grad * (((a * math.sqrt(0.5)).erf() + 1) * 0.5 + a * phi)


def gelu(a: Any, approximate: str = "none") -> Any:
    """Gaussian error linear unit: y = a · Φ(a) (Hendrycks & Gimpel 2016, equations 1 and 2).

    Args:
        a: Tensor of any shape; integers give float64.
        approximate: "none", or "tanh" for 0.5·a·(1 + tanh(√(2/π)·(a + 0.044715·a³))).

    Raises:
        ArgumentError: another `approximate`.

    Example:
        >>> import needle as ndl
        >>> ndl.gelu(ndl.Tensor([0.0])).numpy()
        array([0.])
    """
    return GELU(approximate)(a)


class ReLU(Elementwise):
    """y = max(a, 0)."""

    label = "relu"

    def expression(self, e: Any, a: Any) -> Any:
        return e.maximum(a, 0)

    def compute(self, a: Any) -> Any:
        # NumPy has vector instructions for two arrays, not for an array and a number.
        return np.maximum(a, np.zeros(a.shape, a.dtype))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return _RELU_GRADIENT(out_grad, node)


class ReLUGradient(Elementwise):
    """da = g where y > 0, else 0: also where g is infinite, which a product would make NaN."""

    label = "relu_gradient"

    def expression(self, e: Any, g: Any, y: Any) -> Any:
        return e.where(y > 0, g, 0)

    def compute(self, g: Any, y: Any) -> Any:
        if g.dtype is not y.dtype or g.dtype.kind != "f":
            return super().compute(g, y)
        # np.where takes three times as long and more: here, bits are taken once, or not at all.
        bits = np.dtype(f"i{g.itemsize}")
        return (g.view(bits) * (y > 0).astype(bits)).view(g.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return _RELU_GRADIENT(out_grad, node.inputs[1]), None


def relu(a: Any) -> Any:
    """Rectified linear unit: y = max(a, 0). The derivative at 0 is 0.

    Args:
        a: Tensor of any shape and dtype.

    Example:
        >>> import needle as ndl
        >>> ndl.relu(ndl.Tensor([-1.0, 2.0])).numpy()
        array([0., 2.])
    """
    return _RELU(a)


class Step(Elementwise):
    """y = 1 where a > 0, else 0, in a's dtype."""

    differentiable = False

    def expression(self, e: Any, a: Any) -> Any:
        return e.cast(a > 0, a.dtype)


def step(a: Any) -> Any:
    """Heaviside's step function: y = 1 where a > 0, else 0, in a's dtype. It passes no gradient.

    Example:
        >>> import needle as ndl
        >>> ndl.step(ndl.Tensor([-1.0, 0.0, 2.0])).numpy()
        array([0., 0., 1.])
    """
    return _STEP(a)


_RELU, _RELU_GRADIENT, _STEP = ReLU(), ReLUGradient(), Step()
