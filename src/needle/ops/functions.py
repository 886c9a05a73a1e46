"""Functions of one tensor, element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph.kinds import Composite, Elementwise


class Log(Elementwise):
    """y = ln(a)."""

    label = "log"
    float_result = True
    domain = (0.5, 2.0)

    def expression(self, e: Any, a: Any) -> Any:
        return e.log(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad / node.inputs[0]


def log(a: Any) -> Any:
    """Natural logarithm: y = ln(a).

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.log(ndl.Tensor([1.0])).numpy()
        array([0.])
    """
    return Log()(a)


class Exp(Elementwise):
    """y = e ** a."""

    label = "exp"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return e.exp(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad * node


def exp(a: Any) -> Any:
    """Exponential: y = e ** a.

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.exp(ndl.Tensor([0.0])).numpy()
        array([1.])
    """
    return Exp()(a)


class Sqrt(Elementwise):
    """y = √a."""

    label = "sqrt"
    float_result = True
    domain = (0.5, 2.0)

    def expression(self, e: Any, a: Any) -> Any:
        return e.sqrt(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad / (node * 2)


def sqrt(a: Any) -> Any:
    """Square root: y = √a.

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.sqrt(ndl.Tensor([4.0])).numpy()
        array([2.])
    """
    return Sqrt()(a)


class Sin(Elementwise):
    """y = sin(a)."""

    label = "sin"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return e.sin(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad * node.inputs[0].cos()


def sin(a: Any) -> Any:
    """Sine of an angle in radians: y = sin(a).

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.sin(ndl.Tensor([0.0])).numpy()
        array([0.])
    """
    return Sin()(a)


class Cos(Elementwise):
    """y = cos(a)."""

    label = "cos"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return e.cos(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return -(out_grad * node.inputs[0].sin())


def cos(a: Any) -> Any:
    """Cosine of an angle in radians: y = cos(a).

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.cos(ndl.Tensor([0.0])).numpy()
        array([1.])
    """
    return Cos()(a)


class Tanh(Elementwise):
    """y = tanh(a)."""

    label = "tanh"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return e.tanh(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad * (1 - node * node)


def tanh(a: Any) -> Any:
    """Hyperbolic tangent: y = tanh(a).

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.tanh(ndl.Tensor([0.0])).numpy()
        array([0.])
    """
    return Tanh()(a)


class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-a))."""

    label = "sigmoid"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return e.sigmoid(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad * (node * (1 - node))


def sigmoid(a: Any) -> Any:
    """Logistic function: y = 1 / (1 + exp(-a)), without overflow.

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.sigmoid(ndl.Tensor([0.0])).numpy()
        array([0.5])
    """
    return Sigmoid()(a)


class Erf(Elementwise):
    """y = 2/√π ∫₀ᵃ exp(-t²) dt."""

    label = "erf"
    float_result = True

    def expression(self, e: Any, a: Any) -> Any:
        return e.erf(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0].astype(node.dtype)  # squares of integers would wrap around
        return out_grad * ((-(a * a)).exp() * (2 / math.sqrt(math.pi)))


def erf(a: Any) -> Any:
    """Error function: y = 2/√π ∫₀ᵃ exp(-t²) dt.

    Args:
        a: Tensor of any shape; integers give float64.

    Example:
        >>> import needle as ndl
        >>> ndl.erf(ndl.Tensor([0.0])).numpy()
        array([0.])
    """
    return Erf()(a)


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

    label = "gelu"
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


class ReLUGradient(Composite, Elementwise):
    """da = g · step(y)."""

    label = "relu_gradient"

    def expression(self, e: Any, g: Any, y: Any) -> Any:
        return g * e.cast(y > 0, y.dtype)

    def decompose(self, g: Any, y: Any) -> Any:
        return g * y.step()

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

    label = "step"
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


class Sign(Elementwise):
    """y = 1 where a > 0, -1 where a < 0, else 0, in a's dtype."""

    label = "sign"
    differentiable = False

    def expression(self, e: Any, a: Any) -> Any:
        return e.cast(a > 0, a.dtype) - e.cast(a < 0, a.dtype)


def sign(a: Any) -> Any:
    """Sign: y = 1 where a > 0, -1 where a < 0, else 0, in a's dtype. It passes no gradient.

    Example:
        >>> import needle as ndl
        >>> ndl.sign(ndl.Tensor([-3.0, 0.0, 2.0])).numpy()
        array([-1.,  0.,  1.])
    """
    return Sign()(a)


class Abs(Elementwise):
    """y = |a|."""

    label = "abs"

    def expression(self, e: Any, a: Any) -> Any:
        return e.abs(a)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad * node.inputs[0].sign()


def abs(a: Any) -> Any:
    """Absolute value: y = |a|. The derivative at 0 is 0.

    Example:
        >>> import needle as ndl
        >>> ndl.abs(ndl.Tensor([-1.0, 2.0])).numpy()
        array([1., 2.])
    """
    return Abs()(a)


_RELU, _RELU_GRADIENT, _STEP = ReLU(), ReLUGradient(), Step()
