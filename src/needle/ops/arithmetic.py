"""Arithmetic of two tensors of one shape, and of a tensor and a number."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph.kinds import Elementwise
from ..graph.node import Value
from .operands import Number, as_number, as_operands, as_tensor, is_number, is_unknown


class EWiseAdd(Elementwise):
    """y = a + b."""

    label = "add"

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a + b

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad, out_grad


def add(a: Any, b: Any) -> Any:
    """Sum of two tensors of one shape: y = a + b.

    Args:
        a, b: Tensors of equal shape; dtypes promote as in NumPy. Or one of them a number.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> ndl.add(ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])).numpy()
        array([4., 6.])
    """
    if isinstance(a, Value) and isinstance(b, Value):  # known quickly: most calls are these
        return _ADD(a, b)
    return _commuting(_ADD, add_scalar, a, b)


def _commuting(of_tensors: Any, with_number: Any, a: Any, b: Any) -> Any:
    """An operator on two tensors, or in either order on a tensor and a number."""
    if is_number(b, a):
        return with_number(a, b)
    return with_number(b, a) if is_number(a) else of_tensors(a, b)


class ScalarOperator(Elementwise, abstract=True):
    """Base of the operators on a tensor and a static number.

    The number never changes a float tensor's dtype; a float makes an integer tensor float64.
    """

    examples = ((2.5,), (-1,), (3,))

    def __init__(self, scalar: Any) -> None:
        self.scalar = as_number(scalar, self.name)


class AddScalar(ScalarOperator):
    """y = a + c."""

    def expression(self, e: Any, a: Any) -> Any:
        return a + self.scalar

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad


def add_scalar(a: Any, scalar: Any) -> Any:
    """Sum of a tensor and a number: y = a + c.

    Args:
        a: Tensor of any shape.
        scalar: Number; a float makes an integer tensor float64, and leaves a float tensor's dtype.

    Example:
        >>> import needle as ndl
        >>> ndl.add_scalar(ndl.Tensor([1.0, 2.0]), 3).numpy()
        array([4., 5.])
    """
    if is_unknown(scalar):
        return add(a, scalar)
    number = as_number(scalar, "add_scalar")
    if number < 0:
        a = as_tensor(a)
        if a.dtype.kind == "u":
            number = negative(-number, a.dtype)
    return AddScalar(number)(a)


def negative(number: Number, dtype: np.dtype[Any]) -> Number:
    """What has to be added to subtract a number: 255 for 1 of uint8, where sums wrap around."""
    if dtype.kind in "iu" and isinstance(number, int):
        bounds = np.iinfo(dtype)
        low, high = int(bounds.min), int(bounds.max)
        if low <= number <= high:
            return (-number - low) % (high - low + 1) + low
    return -number


class EWiseMul(Elementwise):
    """y = a · b."""

    label = "multiply"

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a * b

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, b = node.inputs
        return (
            out_grad * b if a.requires_grad else None,
            out_grad * a if b.requires_grad else None,
        )


def multiply(a: Any, b: Any) -> Any:
    """Product of two tensors of one shape, element by element: y = a · b.

    Args:
        a, b: Tensors of equal shape; dtypes promote as in NumPy. Or one of them a number.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> ndl.multiply(ndl.Tensor([1.0, 2.0]), ndl.Tensor([3.0, 4.0])).numpy()
        array([3., 8.])
    """
    if isinstance(a, Value) and isinstance(b, Value):
        return _MUL(a, b)
    return _commuting(_MUL, mul_scalar, a, b)


class MulScalar(ScalarOperator):
    """y = a · c."""

    def expression(self, e: Any, a: Any) -> Any:
        return a * self.scalar

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad * self.scalar


def mul_scalar(a: Any, scalar: Any) -> Any:
    """Product of a tensor and a number: y = a · c.

    Args:
        a: Tensor of any shape.
        scalar: Number.

    Example:
        >>> import needle as ndl
        >>> ndl.mul_scalar(ndl.Tensor([1.0, 2.0]), 3).numpy()
        array([3., 6.])
    """
    return multiply(a, scalar) if is_unknown(scalar) else MulScalar(scalar)(a)


class EWiseDiv(Elementwise):
    """y = a / b."""

    label = "divide"
    domain = (0.5, 2.0)

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a / b

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, b = node.inputs
        share = out_grad / b
        return share if a.requires_grad else None, -(share * node) if b.requires_grad else None


def divide(a: Any, b: Any) -> Any:
    """Quotient of two tensors of one shape: y = a / b.

    Args:
        a, b: Tensors of equal shape; integers give float64. Or one of them a number.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> ndl.divide(ndl.Tensor([3.0]), ndl.Tensor([4.0])).numpy()
        array([0.75])
    """
    if isinstance(a, Value) and isinstance(b, Value):
        return _DIV(a, b)
    if is_number(b, a):
        return divide_scalar(a, b)
    if is_number(a):
        a, b = as_operands(a, b, "divide")
    return _DIV(a, b)


class DivScalar(ScalarOperator):
    """y = a / c."""

    label = "divide_scalar"

    def expression(self, e: Any, a: Any) -> Any:
        return a / self.scalar

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return out_grad / self.scalar


def divide_scalar(a: Any, scalar: Any) -> Any:
    """Quotient of a tensor and a number: y = a / c.

    Args:
        a: Tensor of any shape.
        scalar: Number.

    Example:
        >>> import needle as ndl
        >>> ndl.divide_scalar(ndl.Tensor([3.0]), 4).numpy()
        array([0.75])
    """
    return divide(a, scalar) if is_unknown(scalar) else DivScalar(scalar)(a)


class Negate(Elementwise):
    """y = -a."""

    def expression(self, e: Any, a: Any) -> Any:
        return -a

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return -out_grad


def negate(a: Any) -> Any:
    """The negative: y = -a.

    Example:
        >>> import needle as ndl
        >>> ndl.negate(ndl.Tensor([1.0, -2.0])).numpy()
        array([-1.,  2.])
    """
    return _NEGATE(a)


_ADD, _MUL, _DIV, _NEGATE = EWiseAdd(), EWiseMul(), EWiseDiv(), Negate()
