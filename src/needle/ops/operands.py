"""What may stand beside a tensor: numbers, arrays and lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..graph.evaluate import refuse_lists_of_tensors
from ..graph.leaf import refuse_masked
from ..graph.node import Value

Number = int | float | bool


def as_tensor(value: Any, operation: str = "Tensor") -> Any:
    """`value` where it is a tensor; arrays, lists and numbers become constants.

    Args:
        value: What to convert.
        operation: Who asks, for the message.

    Raises:
        NeedleError: it is none of these; a TensorTuple is not, nor a list of tensors.
    """
    tensor = Value.tensor_class
    if isinstance(value, tensor):
        return value
    refuse_lists_of_tensors(value, operation)
    return tensor(value, requires_grad=False)


def as_number(scalar: Any, operation: str) -> Number:
    """A static number: Python or NumPy number, or an array with one element.

    Raises:
        ArgumentError: it is not one real number.
        DTypeError: it is an integer that not even a float can stand for, or masked.
    """
    if isinstance(scalar, float):  # of NumPy or a subclass it would count as float64
        return float(scalar)
    if isinstance(scalar, int):
        try:
            float(scalar)
        except OverflowError:
            bits = scalar.bit_length()  # Python does not write down more than 4,300 digits
            raise DTypeError(
                f"{operation}: an integer of {bits} bits is beyond every dtype. "
                "Pass a float, as math.inf"
            ) from None
        return scalar if isinstance(scalar, bool) else int(scalar)
    refuse_masked(scalar, operation)
    try:
        value = np.asarray(scalar)
    except ValueError:  # nested lists of different lengths
        value = np.empty(0)
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise ArgumentError(
            f"{operation}: {scalar!r} is not one real number. Pass a number, or a Tensor"
        )
    number = value.item()
    return number if isinstance(number, int) else float(number)  # a longdouble stays one


def as_probability(p: Any, operation: str) -> Number:
    """A static number from 0 to 1.

    Raises:
        ArgumentError: it is outside, or not one real number.
    """
    number = as_number(p, operation)
    if not 0 <= number <= 1:
        raise ArgumentError(f"{operation}: p={p} is no probability. Use 0 <= p <= 1")
    return number


def as_bounded(scalar: Any, operation: str, name: str, high: float = math.inf) -> Number:
    """A static, finite number of 0 or more.

    Args:
        scalar: Python or NumPy number.
        operation: Who asks, for the message.
        name: Of the argument.
        high: The largest that it may be.

    Raises:
        ArgumentError: it is outside, or not one real number.
    """
    number = as_number(scalar, operation)
    if not (0 <= number <= high and math.isfinite(number)):
        limit = "" if high == math.inf else f" and at most {high:g}"
        raise ArgumentError(
            f"{operation}: {name}={scalar!r}. Pass a finite number, 0 or more{limit}"
        )
    return number


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which functions of real numbers are computed: integers and bools in float64."""
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def as_float(a: Any) -> Any:
    """An array or tensor of floats: integers and bools as float64."""
    return a if a.dtype.kind == "f" else a.astype(np.float64)


def is_number(value: Any, beside: Any = None) -> bool:
    """Whether `value` is a number or an array of one element, but not a tensor.

    Args:
        value: What to ask about.
        beside: The other operand. If that is a number, too, the one with more axes is the tensor.
    """
    if isinstance(value, Value):
        return False
    if isinstance(value, int | float | np.generic):
        return True
    if not isinstance(value, np.ndarray) or value.size != 1:
        return False
    return not is_number(beside) or np.ndim(beside) >= value.ndim


def is_unknown(value: Any) -> bool:
    """Whether a number is a run-time scalar of a trace: it is known when the program runs."""
    return isinstance(value, Value) and value.weak


def constant_like(a: Any, number: Any, operation: str) -> Any:
    """A constant of `a`'s shape, and of its dtype where that can hold the number.

    Raises:
        ArgumentError: it is not one real number.
        DTypeError: it is an integer that no dtype can hold.
    """
    value = as_number(number, operation)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = _large(value, a.dtype, operation)
    dtype = np.result_type(a.dtype, value)
    if dtype.kind in "iu" and not holds(dtype, value):
        dtype = np.asarray(value).dtype
    return a.full_like(value, dtype=dtype)


def holds(dtype: np.dtype[Any], number: Number) -> bool:
    """Whether an integer dtype has a value for the whole part of a number."""
    bounds = np.iinfo(dtype)
    return math.isfinite(number) and bounds.min <= math.trunc(number) <= bounds.max


def as_operands(a: Any, b: Any, operation: str) -> tuple[Any, Any]:
    """Two operands as tensors; a number beside a tensor becomes a constant of its shape."""
    if is_number(b, a):
        a = as_tensor(a, operation)
        return a, constant_like(a, b, operation)
    b = as_tensor(b, operation)
    return (constant_like(b, a, operation) if is_number(a) else as_tensor(a, operation)), b


def _large(value: int, dtype: np.dtype[Any], operation: str) -> float:
    """An integer that no integer dtype holds, beside floats."""
    if dtype.kind == "f":
        return float(value)
    raise DTypeError(
        f"{operation}: an integer of {value.bit_length()} bits is too large beside {dtype}. "
        "Pass a float, as 1e30"
    )
