"""Comparisons, selection, and the larger or smaller of two."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.kinds import Elementwise
from .operands import as_number, as_operands, as_tensor, is_number, is_unknown


class Comparison(Elementwise, abstract=True):
    """Base of the comparisons: operands of one shape, a bool result, no gradient."""

    differentiable = False


class Equal(Comparison):
    """y = (a == b)."""

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a == b


class NotEqual(Comparison):
    """y = (a != b)."""

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a != b


class Less(Comparison):
    """y = (a < b)."""

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a < b


class LessEqual(Comparison):
    """y = (a <= b)."""

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return a <= b


def equal(a: Any, b: Any) -> Any:
    """Where a equals b, as a bool tensor; b is a tensor of a's shape or a number.

    Example:
        >>> import needle as ndl
        >>> ndl.equal(ndl.Tensor([1.0, 2.0]), 2).numpy()
        array([False,  True])
    """
    return Equal()(*as_operands(a, b, "equal"))


def not_equal(a: Any, b: Any) -> Any:
    """Where a differs from b, as a bool tensor; b is a tensor of a's shape or a number.

    Example:
        >>> import needle as ndl
        >>> ndl.not_equal(ndl.Tensor([1.0, 2.0]), 2).numpy()
        array([ True, False])
    """
    return NotEqual()(*as_operands(a, b, "not_equal"))


def less(a: Any, b: Any) -> Any:
    """Where a < b, as a bool tensor; b is a tensor of a's shape or a number.

    Example:
        >>> import needle as ndl
        >>> ndl.less(ndl.Tensor([1.0, 2.0]), 2).numpy()
        array([ True, False])
    """
    return Less()(*as_operands(a, b, "less"))


def less_equal(a: Any, b: Any) -> Any:
    """Where a <= b, as a bool tensor; b is a tensor of a's shape or a number.

    Example:
        >>> import needle as ndl
        >>> ndl.less_equal(ndl.Tensor([1.0, 3.0]), 2).numpy()
        array([ True, False])
    """
    return LessEqual()(*as_operands(a, b, "less_equal"))


def greater(a: Any, b: Any) -> Any:
    """Where a > b, as a bool tensor; b is a tensor of a's shape or a number.

    Example:
        >>> import needle as ndl
        >>> ndl.greater(ndl.Tensor([1.0, 3.0]), 2).numpy()
        array([False,  True])
    """
    a, b = as_operands(a, b, "greater")
    return Less()(b, a)


def greater_equal(a: Any, b: Any) -> Any:
    """Where a >= b, as a bool tensor; b is a tensor of a's shape or a number.

    Example:
        >>> import needle as ndl
        >>> ndl.greater_equal(ndl.Tensor([1.0, 2.0]), 2).numpy()
        array([False,  True])
    """
    a, b = as_operands(a, b, "greater_equal")
    return LessEqual()(b, a)


class Where(Elementwise):
    """y = a where the condition holds, else b."""

    def expression(self, e: Any, condition: Any, a: Any, b: Any) -> Any:
        return e.where(condition != 0, a, b)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        condition, a, b = node.inputs
        zero = out_grad.zeros_like()
        return (
            None,
            out_grad.where(condition, zero) if a.requires_grad else None,
            zero.where(condition, out_grad) if b.requires_grad else None,
        )


def where(condition: Any, a: Any, b: Any) -> Any:
    """Choose element by element: y = a where the condition holds, else b.

    Args:
        condition: Tensor; what is not zero counts as true.
        a, b: Tensors of the condition's shape, or numbers.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([-1.0, 2.0])
        >>> ndl.where(x.greater(0), x, 0).numpy()
        array([0., 2.])
    """
    chosen, condition = condition, as_tensor(condition)
    if is_number(a) and is_number(b):
        a = condition.full_like(as_number(a, "where"), dtype=np.asarray(a).dtype)
    a, b = as_operands(a, b, "where")
    if isinstance(chosen, bool) and a.shape:
        raise ShapeError(
            f"where: the condition is {chosen} alone, for tensors of shape {a.shape}. Of a "
            "comparison write x.equal(y) or x.not_equal(y): == asks whether they are one tensor"
        )
    if a.weak and b.weak:  # they take no dtype from what only chooses
        condition = not_equal(condition, 0)
    return Where()(condition, a, b)


class Extremum(Elementwise, abstract=True):
    """Base of `maximum` and `minimum`: where both are equal, each gets half of the gradient."""

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, b = node.inputs
        share = out_grad / (a.equal(b).astype(out_grad.dtype) + 1)
        # Chosen, not multiplied by 0 or 1: an infinite gradient would be NaN for the other operand.
        return tuple(
            [share.where(mine.equal(node), 0) if mine.requires_grad else None for mine in (a, b)]
        )


class Maximum(Extremum):
    """y = max(a, b)."""

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return e.maximum(a, b)


class Minimum(Extremum):
    """y = min(a, b)."""

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return e.minimum(a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two, element by element; NaN where either is. Ties share the gradient.

    Args:
        a, b: Tensors of one shape, or one of them a number.

    Example:
        >>> import needle as ndl
        >>> ndl.maximum(ndl.Tensor([1.0, 5.0]), 2).numpy()
        array([2., 5.])
    """
    return Maximum()(*as_operands(a, b, "maximum"))


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two, element by element; NaN where either is. Ties share the gradient.

    Args:
        a, b: Tensors of one shape, or one of them a number.

    Example:
        >>> import needle as ndl
        >>> ndl.minimum(ndl.Tensor([1.0, 5.0]), 2).numpy()
        array([1., 2.])
    """
    return Minimum()(*as_operands(a, b, "minimum"))


class Clip(Elementwise):
    """y = min(max(a, low), high)."""

    examples = ((-0.5, 0.5), (None, 0.5), (0.25, None))

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        self.low = None if low is None else as_number(low, "clip")
        self.high = None if high is None else as_number(high, "clip")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ArgumentError(f"clip: low={self.low} is above high={self.high}. Swap them")

    def expression(self, e: Any, a: Any) -> Any:
        if self.low is not None:
            a = e.maximum(a, self.low)
        return a if self.high is None else e.minimum(a, self.high)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a = node.inputs[0]
        return out_grad.where(a.equal(node), 0)


def clip(a: Any, low: float | None = None, high: float | None = None) -> Any:
    """Limit values to [low, high]; None leaves a side open.

    The derivative is 1 inside, limits included, and 0 outside.

    Raises:
        ArgumentError: low is above high.

    Example:
        >>> import needle as ndl
        >>> ndl.clip(ndl.Tensor([-2.0, 0.5, 2.0]), -1, 1).numpy()
        array([-1. ,  0.5,  1. ])
    """
    if not (is_unknown(low) or is_unknown(high)):
        return Clip(low, high)(a)
    limited = a if low is None else maximum(a, low)
    limited = limited if high is None else minimum(limited, high)
    return where(equal(a, limited), a, limited.detach())


class Cast(Elementwise):
    """y = a in another dtype."""

    label = "astype"
    examples = (("float32",), ("float64",), ("int32",), ("bool",))

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)

    def expression(self, e: Any, a: Any) -> Any:
        return e.cast(a, self.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        exact = np.can_cast(node.inputs[0].dtype, self.dtype)
        return out_grad if exact or self.dtype.kind == "f" else None


class StopGradient(Elementwise):
    """y = a, without a gradient."""

    differentiable = False

    def expression(self, e: Any, a: Any) -> Any:
        return a
