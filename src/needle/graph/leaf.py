"""Leaves over the data that users make tensors from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..context import ambient
from ..errors import ArgumentError, DTypeError, ShapeError
from ..shapes import as_dtype, native
from .node import Node, Value


def leaf_over_copy(array: Any, dtype: Any) -> Node:
    """A new leaf over a dense copy of an array, list, number or tensor.

    Args:
        array: The data.
        dtype: Of the leaf; None keeps what NumPy makes of the data.
    """
    wanted = None if dtype is None else as_dtype(dtype, "Tensor")
    if isinstance(array, Value.tensor_class):
        source = (array if wanted is None else array.astype(wanted)).detach()
        if source.node.storage is None:
            return source.node
        array = source.node.storage
    elif isinstance(array, Value.tuple_class):
        raise ArgumentError("Tensor: a TensorTuple is not one array. Pass one of its elements")
    copy = real_numbers(array, "Tensor", copy=True)
    data = copy.astype(wanted or copy.dtype, copy=False)
    if data.dtype.kind in "iu" and not isinstance(array, np.ndarray):
        _check_held(copy, data)
    return ambient.evaluator.leaf(data)


def real_numbers(data: Any, operation: str, *, copy: bool = False) -> Any:
    """An array of data, in the machine's byte order; a copy is dense and in C order.

    Args:
        data: An array, number or nested lists.
        operation: Who asks, for the message.
        copy: Whether it has memory of its own, also where it need not.

    Raises:
        DTypeError: it holds no real numbers, or some of them are masked.
        ShapeError: it is nested lists of different lengths.
    """
    refuse_masked(data, operation)
    try:
        array = np.array(data, order="C") if copy else np.asarray(data)
    except ValueError as error:
        raise ShapeError(
            f"{operation}: the nested lists make no array ({error}). Give rows equal lengths"
        ) from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(
            f"{operation}: {type(data).__name__} of dtype {array.dtype} holds no real numbers. "
            "Use floats, integers or bools"
        )
    return array.astype(native(array.dtype), copy=False)


def refuse_masked(data: Any, operation: str) -> None:
    """Name masked elements: their values, which say nothing, would be computed with."""
    if type(data) is np.ndarray or not isinstance(data, np.ma.MaskedArray):
        return
    masked = np.ma.count_masked(data)
    if masked:
        raise DTypeError(
            f"{operation}: {masked} of {data.size} elements are masked, and a tensor has no mask. "
            "Fill them: array.filled(value)"
        )


def _check_held(given: Any, data: Any) -> None:
    """Refuse Python's integers that a dtype wraps around, as NumPy does; arrays are cast."""
    if given.dtype.kind in "iu" and not np.array_equal(given, data):
        raise DTypeError(
            f"Tensor: {data.dtype} cannot hold {given[given != data].flat[0]}. "
            "Use another value or dtype"
        )
