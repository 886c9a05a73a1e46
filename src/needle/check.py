"""`check_gradients`: derived gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import ArgumentError, GradientError
from .graph.gradient import value_and_grad
from .shapes import as_count, holds_several
from .tensor import Tensor


def check_gradients(
    f: Callable[..., Any],
    *args: Any,
    order: int = 1,
    eps: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    seed: int = 0,
) -> None:
    """Compare the gradients of `f` with central differences in float64.

    The difference is (s(x + eps) - s(x - eps)) / (2 eps), s the sum of f's results with random
    weights.

    Args:
        f: Takes the tensors and returns a tensor, or a tuple of tensors.
        args: Tensors or arrays. Floating-point ones are differentiated, in float64; others are
            passed on. At least one is floating-point.
        order: 2 also checks the gradient of the gradient, and so on.
        eps: Step of the differences.
        rtol, atol: A gradient g may differ from the difference d by atol + rtol · max|d|.
        seed: For the weights.

    Raises:
        GradientError: names argument, position, expected and received value; or f returned no
            tensor.
        ArgumentError: no argument is floating-point, so that nothing would be checked; or f is no
            function.

    Example:
        >>> import needle as ndl
        >>> ndl.check_gradients(lambda x: ndl.tanh(x), [0.5, -1.0], order=2)
    """
    if not callable(f):
        raise ArgumentError(f"check_gradients: a {type(f).__name__} is no function. Pass one")
    order = as_count(order, "check_gradients", "order", 1)
    tensors = [_in_float64(argument) for argument in args]
    checked = tuple([k for k, tensor in enumerate(tensors) if tensor.dtype.kind == "f"])
    if not checked:
        dtypes = ", ".join(str(tensor.dtype) for tensor in tensors)
        raise ArgumentError(
            f"check_gradients: no argument is floating-point, got {dtypes or 'none'}. "
            "Write numbers as 1.0, or convert with astype"
        )
    weighted = _weighted(f, np.random.RandomState(seed))
    both = value_and_grad(weighted, argnums=checked)
    gradients = both(*tensors)[1]
    for k, gradient in zip(checked, gradients, strict=True):
        expected = _differences(weighted, tensors, k, eps)
        _compare(k, expected, gradient.numpy(), rtol, atol)
    if order > 1:
        # Differences of differences lose digits: the second order is allowed ten times as much.
        check_gradients(
            lambda *inputs: both(*inputs)[1], *tensors, order=order - 1, eps=eps, rtol=rtol * 10,
            atol=atol * 10, seed=seed + 1,
        )  # fmt: skip


def _in_float64(argument: Any) -> Tensor:
    array = argument.numpy() if isinstance(argument, Tensor) else np.asarray(argument)
    return Tensor(array, dtype="float64" if array.dtype.kind == "f" else None)


def _weighted(f: Callable[..., Any], random: np.random.RandomState) -> Callable[..., Tensor]:
    """f as one number: the sum of its results with fixed random weights."""
    weights: list[np.ndarray[Any, Any]] = []

    def number(*inputs: Tensor) -> Tensor:
        result = f(*inputs)
        several = not isinstance(result, Tensor) and holds_several(result)
        parts = [part for part in (result if several else [result]) if isinstance(part, Tensor)]
        if not parts:
            raise GradientError(
                f"check_gradients: the function returned {type(result).__name__} without a tensor "
                "in it. Return a tensor, or a tuple of them"
            )
        parts = [part for part in parts if part.dtype.kind == "f"]
        weights.extend(
            np.asarray(random.uniform(0.5, 1.5, part.shape)) for part in parts[len(weights) :]
        )
        total = Tensor(0.0, dtype="float64", requires_grad=False)
        for part, weight in zip(parts, weights, strict=True):
            total = total + (part * Tensor(weight, requires_grad=False)).sum()
        return total

    return number


def _differences(
    f: Callable[..., Tensor], tensors: list[Tensor], k: int, eps: float
) -> np.ndarray[Any, Any]:
    """Central differences of f by every element of argument k."""
    point = tensors[k].numpy()
    result = np.zeros(point.shape)

    def at(position: tuple[int, ...], change: float) -> float:
        moved = point.copy()
        moved[position] += change
        return float(f(*tensors[:k], Tensor(moved), *tensors[k + 1 :]))

    for position in np.ndindex(point.shape):
        result[position] = (at(position, eps) - at(position, -eps)) / (2 * eps)
    return result


def _compare(
    k: int, expected: np.ndarray[Any, Any], received: np.ndarray[Any, Any], rtol: float, atol: float
) -> None:
    if not expected.size:
        return
    allowed = atol + rtol * float(np.max(np.abs(expected)))
    wrong = ~(np.abs(expected - received) <= allowed)
    if wrong.any():
        position = tuple([int(i) for i in np.argwhere(wrong)[0]])
        raise GradientError(
            f"check_gradients: argument {k} at {position}: finite differences give "
            f"{expected[position]:.9g}, the gradient is {received[position]:.9g} "
            f"(allowed difference {allowed:.2g}). Correct the operator's gradient rule"
        )
