"""What Python's operators do with a tensor and a number, an array or another tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError
from ..graph.node import Value
from .arithmetic import add, add_scalar, negate, negative
from .operands import as_number, as_tensor, constant_like, is_number

_NO_DIFFERENCE = (
    "subtract: both operands are bools, which have no difference. "
    'Write a.not_equal(b), or a.astype("int64") - b'
)


def binary(of_tensors: Any, with_scalar: Any, a: Any, other: Any) -> Any:
    """A binary operator on a tensor and another operand; arrays are constants.

    Args:
        of_tensors: The function for two tensors.
        with_scalar: The function for a tensor and a number.
        a: The tensor on the left.
        other: The operand on the right.

    Returns:
        The result, or that of `no_operand`.
    """
    if isinstance(other, Value.tensor_class):
        return of_tensors(a, other)
    if isinstance(other, int | float | np.generic):
        return with_scalar(a, other)
    if isinstance(other, np.ndarray):
        return with_scalar(a, other) if other.size == 1 else of_tensors(a, as_tensor(other))
    return no_operand(of_tensors, other)


def no_operand(of_tensors: Any, other: Any) -> Any:
    """What an operator returns where the other operand is none: NotImplemented, as Python has it.

    Raises:
        DTypeError: Python would go on to repeat a sequence, as often as a tensor of one integer
            says; another library's array may compute without the graph.
    """
    kind = type(other)
    if isinstance(other, list | tuple | str | bytes) or hasattr(kind, "__dlpack__"):
        where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise DTypeError(
            f"{of_tensors.__name__}: a {where}{kind.__name__} is no operand of a tensor. "
            "Write ndl.Tensor(…, requires_grad=False) around it"
        )
    return NotImplemented


def reflected(of_tensors: Any, a: Any, other: Any) -> Any:
    """`other` on the left of an operator that does not commute, and the tensor `a` on the right."""
    if is_number(other):
        return of_tensors(constant_like(a, other, of_tensors.__name__), a)
    if isinstance(other, np.ndarray):
        return of_tensors(as_tensor(other), a)
    return no_operand(of_tensors, other)


def subtract(a: Any, b: Any) -> Any:
    """a - b is recorded as a + (-b)."""
    return add(a, negate(_signed(b, a.dtype)))


def subtract_from(a: Any, other: Any) -> Any:
    """`other` - a is recorded as (-a) + other."""
    if is_number(other):
        a = _signed(a, as_number(other, "subtract"))
    elif isinstance(other, np.ndarray):
        a = _signed(a, other.dtype)
    return binary(add, add_scalar, negate(a), other)


def _signed(b: Any, other: Any) -> Any:
    """`b` to be negated: integers and bools in the result's dtype.

    In their own dtype -3 as uint8 is 253, -(-128) as int8 is -128, and bools have no negative.
    """
    if b.dtype.kind == "f":
        return b
    dtype = np.result_type(b.dtype, other)
    if dtype.kind == "b":
        raise DTypeError(_NO_DIFFERENCE)
    return b.astype(dtype)


def subtract_scalar(a: Any, scalar: Any) -> Any:
    """a - c is recorded as a + (-c)."""
    number = as_number(scalar, "subtract")
    if isinstance(number, bool) and a.dtype.kind == "b":
        raise DTypeError(_NO_DIFFERENCE)
    return add_scalar(a, negative(number, a.dtype))
