"""Rules for shapes, axes and dtypes, shared by every operator."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from .errors import ArgumentError, DTypeError, ShapeError

_NOT_SEVERAL = (str, bytes, dict, set, frozenset)

Shape = tuple[int, ...]
Axes = int | Sequence[int] | None

MOST = 2**60 - 1
"""Elements that an array can have, of eight bytes each: NumPy counts bytes in 63 bits."""


class Spec(NamedTuple):
    """What is known of a tensor without computing it.

    Args:
        shape: Sizes of the axes.
        dtype: NumPy dtype of the elements.
    """

    shape: Shape
    dtype: np.dtype[Any]


def spec_of(array: np.ndarray[Any, Any]) -> Spec:
    """The `Spec` of a NumPy array."""
    return Spec(array.shape, array.dtype)


def as_int(value: object, operation: str, name: str) -> int:
    """`value` as a Python int; floats, bools and other kinds are refused, not rounded."""
    try:
        if isinstance(value, bool):  # in `x.sum(True)` hardly axis 1 is meant
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(
            f"{operation}: {name} must be an integer, got {value!r:.50}. "
            f"Write int({name}) if that is meant"
        ) from None


def as_count(value: object, operation: str, name: str, least: int) -> int:
    """`value` as a Python int that is not below `least`."""
    count = as_int(value, operation, name)
    if count < least:
        raise ArgumentError(f"{operation}: {name}={count}. Give {least} or more")
    return count


def as_flag(value: object, operation: str, name: str) -> bool:
    """`value` as a Python bool; numbers are refused: in `x.sum(0, 1)` two axes are meant."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(
            f"{operation}: {name} must be True or False, got {value!r:.50}. "
            f"Write bool({name}) if that is meant"
        )
    return bool(value)


def as_shape(shape: object, operation: str, name: str = "shape") -> Shape:
    """A shape given as an int, list, tuple or array, as a tuple of Python ints.

    Args:
        shape: The sizes, or other integers.
        operation: Who asks, for the message.
        name: What one of the integers is, for the message.
    """
    if type(shape) is tuple:
        try:
            return tuple(map(operator.index, shape))
        except TypeError:
            pass  # the message below names the offending size
    if holds_several(shape):
        return tuple([as_int(size, operation, name) for size in shape])
    return (as_int(shape, operation, name),)


def holds_several(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a static argument is several in an order; text and tensors without axes are not."""
    several = isinstance(value, Iterable) and not isinstance(value, _NOT_SEVERAL)
    return several and getattr(value, "ndim", 1) > 0


def spread(operation: str, arguments: tuple[Any, ...], named: Any) -> Any:
    """`f((2, 3))`, `f(2, 3)` and `f(shape=(2, 3))` mean the same."""
    if named is not None:
        if arguments:
            raise ArgumentError(
                f"{operation}: {arguments} and {named!r} say the same thing twice. Pass one of them"
            )
        return named
    return arguments[0] if len(arguments) == 1 else arguments


def checked_shape(shape: object, operation: str) -> Shape:
    """Like `as_shape`, for shapes that are created: no size is negative or beyond any memory."""
    result = as_shape(shape, operation)
    if result and min(result) < 0:
        raise ShapeError(f"{operation}: shape {result} has a negative size. Give sizes >= 0")
    if math.prod(result) > MOST:
        raise ShapeError(
            f"{operation}: shape {result} has more elements than an array can. Give smaller sizes"
        )
    return result


def normalize_axis(axis: object, ndim: int, operation: str) -> int:
    """One axis, negative counted from the end, as 0 <= axis < ndim."""
    index = as_int(axis, operation, "axis")
    if not -ndim <= index < ndim:
        raise ShapeError(
            f"{operation}: axis {index} is out of range for {ndim} axes. "
            + (f"Use an axis from {-ndim} to {ndim - 1}" if ndim else "Give the tensor an axis")
        )
    return index % ndim


def normalize_axes(axes: Axes, ndim: int, operation: str) -> Shape:
    """Axes as a sorted tuple of distinct numbers >= 0; None means all of them."""
    if axes is None:
        return tuple(range(ndim))
    listed = axes if holds_several(axes) else (axes,)
    result = [normalize_axis(axis, ndim, operation) for axis in listed]
    if len(set(result)) != len(result):
        raise ShapeError(
            f"{operation}: axes {tuple(listed)} name an axis twice. Name each axis once"
        )
    return tuple(sorted(result))


def frozen_axes(axes: Axes, operation: str) -> int | Shape | None:
    """A static `axes` argument, hashable; its range is checked when the shape is known."""
    if axes is None:
        return None
    if holds_several(axes):
        return tuple([as_int(axis, operation, "axis") for axis in axes])
    return as_int(axes, operation, "axis")


def reduced_shape(shape: Shape, axes: Shape, keepdims: bool) -> Shape:
    """Shape after reducing `axes` (normalised): removed, or kept with size 1."""
    if keepdims:
        return tuple([1 if axis in axes else size for axis, size in enumerate(shape)])
    return tuple([size for axis, size in enumerate(shape) if axis not in axes])


def broadcast_shapes(*shapes: Shape) -> Shape | None:
    """The common shape under NumPy's rule, or None where there is none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def reshaped(shape: Shape, target: Shape) -> Shape:
    """`target` with its -1 filled in; ShapeError where the sizes do not fit."""
    size = math.prod(shape)
    if target.count(-1) > 1 or any(n < -1 for n in target):
        raise ShapeError(
            f"reshape: shape {target} is not possible. Use sizes >= 0 and at most one -1"
        )
    if -1 in target:
        known = math.prod(n for n in target if n != -1)
        if known == 0 or size % known:
            raise ShapeError(
                f"reshape: {shape} has {size} elements, which {target} cannot hold. "
                f"The sizes beside -1 must divide {size}"
            )
        return tuple([size // known if n == -1 else n for n in target])
    if math.prod(target) != size:
        raise ShapeError(
            f"reshape: {shape} has {size} elements, {target} has {math.prod(target)}. "
            f"Use a shape with {size} elements, or -1 for one size"
        )
    return target


def as_dtype(dtype: object, operation: str) -> np.dtype[Any]:
    """`dtype` (string, `np.dtype` or NumPy class) as a NumPy dtype of real numbers or bools."""
    try:
        result = np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise DTypeError(
            f'{operation}: dtype {dtype!r} is not known. Use a NumPy dtype such as "float32"'
        ) from None
    if result.kind not in "biuf":
        raise DTypeError(
            f"{operation}: dtype {result} holds no real numbers. Use a float, integer or bool dtype"
        )
    return native(result)


def as_float_dtype(dtype: object, operation: str) -> np.dtype[Any]:
    """`dtype` as a NumPy dtype of floats, which what is trained has to have."""
    result = as_dtype(dtype, operation)
    if result.kind != "f":
        raise DTypeError(
            f"{operation}: parameters of {result} cannot be trained. "
            'Use a float dtype such as "float32"'
        )
    return result


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in the machine's byte order: NumPy's one object for it, which `is` can compare."""
    return np.dtype(dtype.type)
