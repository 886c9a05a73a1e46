"""Tensors made from static arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.kinds import Source
from ..graph.op import Sample
from ..shapes import Spec, as_dtype, checked_shape
from .operands import as_number, holds, is_unknown


class Full(Source):
    """y = c everywhere."""

    def __init__(self, shape: Any, value: Any, dtype: Any = "float32") -> None:
        self.shape = checked_shape(shape, "full")
        self.value = as_number(value, "full")
        self.dtype = as_dtype(dtype, "full")
        if self.dtype.kind in "iu" and not holds(self.dtype, self.value):
            raise DTypeError(
                f"full: {self.dtype} cannot hold {value!r}. Use another value or dtype"
            )

    def compute(self) -> Any:
        return np.full(self.shape, self.value, self.dtype)

    def infer(self) -> Any:
        return Spec(self.shape, self.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((), 1.5), ())
        yield Sample(cls((2, 0), 1, "int64"), ())
        yield Sample(cls((2, 3), True, "bool"), ())


def full(shape: Any, value: float, dtype: Any = "float32") -> Any:
    """A tensor that holds one number everywhere.

    Args:
        shape: Its shape.
        value: The number.
        dtype: Of the elements.

    Raises:
        ShapeError: a size is negative, or there are more elements than an array can have.
        DTypeError: an integer dtype cannot hold the value.

    Example:
        >>> import needle as ndl
        >>> ndl.full((2,), 3).numpy()
        array([3., 3.], dtype=float32)
    """
    if is_unknown(value):
        return (Full(shape, 1, dtype)() * value).astype(dtype)
    return Full(shape, value, dtype)()


class Arange(Source):
    """y[i] = start + i · step."""

    def __init__(self, start: float, stop: float, step: float = 1, dtype: Any = None) -> None:
        self.start = as_number(start, "arange")
        self.stop = as_number(stop, "arange")
        self.step = as_number(step, "arange")
        if not self.step:
            raise ArgumentError("arange: step 0 leads nowhere. Use another step")
        if not all(map(math.isfinite, (self.start, self.stop, self.step))):
            raise ArgumentError(
                f"arange: from {start} to {stop} in steps of {step} there is no end. "
                "Use finite numbers"
            )
        self.dtype = None if dtype is None else as_dtype(dtype, "arange")

    def compute(self) -> Any:
        bounds: Any = (self.start, self.stop, self.step)
        try:
            return np.arange(*bounds, dtype=self.dtype)
        except ValueError as error:
            raise ShapeError(
                f"arange: from {self.start} to {self.stop} in steps of {self.step} are more "
                "numbers than an array can have. Take larger steps"
            ) from error

    def infer(self) -> Any:
        array = self.compute()
        return Spec(array.shape, array.dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 5), ())
        yield Sample(cls(1.0, 0.0, -0.25, "float32"), ())
        yield Sample(cls(3, 3), ())


def arange(start: float, stop: float | None = None, step: float = 1, dtype: Any = None) -> Any:
    """Evenly spaced numbers from `start` (0 if only one is given) up to but not including `stop`.

    Args:
        start, stop: The interval; a single argument is `stop`.
        step: Distance of two neighbours; a negative one counts down.
        dtype: Of the elements; None takes int64, or float64 where a float is given.

    Raises:
        ArgumentError: the step is 0, or a number is not finite.
        ShapeError: there are more numbers than an array can have.

    Example:
        >>> import needle as ndl
        >>> ndl.arange(3).numpy()
        array([0, 1, 2])
    """
    return Arange(0, start, step, dtype)() if stop is None else Arange(start, stop, step, dtype)()
