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
        source = array.detach()
        source = source if wanted is None else source.astype(wanted)
        if source.node.storage is None:
            return source.node
        array = source.node.storage
    elif isinstance(array, Value.tuple_class):
        raise ArgumentError("Tensor: a TensorTuple is not one array. Pass one of its elements")
    try:
        copy = np.array(array, order="C")
    except ValueError as error:
        raise ShapeError(
            f"Tensor: the nested lists make no array ({error}). Give rows equal lengths"
        ) from None
    if copy.dtype.kind not in "biuf":
        raise DTypeError(
            f"Tensor: data of dtype {copy.dtype} are not real numbers. "
            "Use floats, integers or bools"
        )
    data = copy.astype(wanted or native(copy.dtype), copy=False)
    if data.dtype.kind in "iu" and not isinstance(array, np.ndarray):
        _check_held(copy, data)
    return ambient.evaluator.leaf(data)


def _check_held(given: Any, data: Any) -> None:
    """Refuse Python's integers that a dtype wraps around, as NumPy does; arrays are cast."""
    if given.dtype.kind in "iu" and not np.array_equal(given, data):
        raise DTypeError(
            f"Tensor: {data.dtype} cannot hold {given[given != data].flat[0]}. "
            "Use another value or dtype"
        )
