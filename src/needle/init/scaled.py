"""Random weights whose scale follows from the layer's width."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ArgumentError
from ..ops.operands import as_number
from ..shapes import as_shape
from ..tensor import Tensor
from .basic import rand, randn


def xavier_uniform(fan_in: int, fan_out: int, gain: float = 1.0, **kwargs: Any) -> Tensor:
    """U(-a, a) with a = gain · √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, equation 16).

    Args:
        fan_in, fan_out: Inputs and outputs of the layer; the result's shape.
        gain: Factor for the nonlinearity.
        kwargs: `device`, `dtype`, `requires_grad`.

    Example:
        >>> import needle as ndl
        >>> ndl.init.xavier_uniform(3, 5).shape
        (3, 5)
    """
    a = as_number(gain, "xavier_uniform") * math.sqrt(6 / _fan("xavier_uniform", fan_in, fan_out))
    return rand(fan_in, fan_out, low=-a, high=a, **kwargs)


def xavier_normal(fan_in: int, fan_out: int, gain: float = 1.0, **kwargs: Any) -> Tensor:
    """N(0, std²) with std = gain · √(2 / (fan_in + fan_out)) (Glorot & Bengio 2010).

    Args:
        fan_in, fan_out: Inputs and outputs of the layer; the result's shape.
        gain: Factor for the nonlinearity.
        kwargs: `device`, `dtype`, `requires_grad`.

    Example:
        >>> import needle as ndl
        >>> ndl.init.xavier_normal(3, 5).shape
        (3, 5)
    """
    std = as_number(gain, "xavier_normal") * math.sqrt(2 / _fan("xavier_normal", fan_in, fan_out))
    return randn(fan_in, fan_out, mean=0.0, std=std, **kwargs)


def kaiming_uniform(
    fan_in: int, fan_out: int, shape: Any = None, nonlinearity: str = "relu", **kwargs: Any
) -> Tensor:
    """U(-a, a) with a = √2 · √(3 / fan_in) (He et al. 2015, equation 10, for ReLU).

    Args:
        fan_in, fan_out: Inputs and outputs of the layer.
        shape: Shape of the result, (fan_in, fan_out) unless given.
        nonlinearity: "relu", the only one supported.
        kwargs: `device`, `dtype`, `requires_grad`.

    Raises:
        ArgumentError: another nonlinearity.

    Example:
        >>> import needle as ndl
        >>> ndl.init.kaiming_uniform(3, 5).shape
        (3, 5)
    """
    a = _relu_gain(nonlinearity, "kaiming_uniform") * math.sqrt(3 / _fan("kaiming_uniform", fan_in))
    return rand(*_shape(fan_in, fan_out, shape), low=-a, high=a, **kwargs)


def kaiming_normal(
    fan_in: int, fan_out: int, shape: Any = None, nonlinearity: str = "relu", **kwargs: Any
) -> Tensor:
    """N(0, std²) with std = √2 / √fan_in (He et al. 2015, equation 10, for ReLU).

    Args:
        fan_in, fan_out: Inputs and outputs of the layer.
        shape: Shape of the result, (fan_in, fan_out) unless given.
        nonlinearity: "relu", the only one supported.
        kwargs: `device`, `dtype`, `requires_grad`.

    Raises:
        ArgumentError: another nonlinearity.

    Example:
        >>> import needle as ndl
        >>> ndl.init.kaiming_normal(3, 5).shape
        (3, 5)
    """
    std = _relu_gain(nonlinearity, "kaiming_normal") / math.sqrt(_fan("kaiming_normal", fan_in))
    return randn(*_shape(fan_in, fan_out, shape), mean=0.0, std=std, **kwargs)


def _shape(fan_in: int, fan_out: int, shape: Any) -> tuple[int, ...]:
    return (fan_in, fan_out) if shape is None else as_shape(shape, "init")


def _fan(operation: str, *fans: int) -> float:
    fan = sum(as_number(fan, operation) for fan in fans)
    if fan <= 0:
        raise ArgumentError(
            f"{operation}: fan {fan} is not positive. Pass the number of inputs and outputs"
        )
    return fan


def _relu_gain(nonlinearity: str, operation: str) -> float:
    if nonlinearity != "relu":
        raise ArgumentError(
            f'{operation}: nonlinearity={nonlinearity!r} is not supported. Use "relu"'
        )
    return math.sqrt(2)
