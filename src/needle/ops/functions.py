"""Functions of one tensor, element by element."""

from __future__ import annotations

import math
from typing import Any

from ..graph.kinds import Elementwise


class Log(Elementwise):
    """y = ln(a)."""

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


class Sign(Elementwise):
    """y = 1 where a > 0, -1 where a < 0, else 0, in a's dtype."""

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
