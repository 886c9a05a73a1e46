"""`x[index]`: Python's subscripts, parsed into recorded operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, IndexRangeError, ShapeError
from ..graph.kinds import as_indices
from ..graph.node import Value
from .movement import Range


def subscript(a: Any, index: Any) -> Any:
    """`a[index]` as in NumPy, with a gradient: a `Slice`, a `Reshape`, and a `Take` for index arrays.

    Args:
        a: Tensor.
        index: Ints, slices, `...`, None, one index array or bool mask, or several index arrays on the leading
            axes; or a tuple of ints, slices, `...`, None and at most one index array.

    Raises:
        IndexRangeError: an int or index is outside its axis.
        ArgumentError: a kind of index, or a mixture, that is not supported.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        >>> x[:, ::-1].numpy(), x[0, [2, 0]].numpy()
        (array([[3., 2., 1.],
               [6., 5., 4.]]), array([3., 1.]))
    """
    items = _expanded(a, index if isinstance(index, tuple) else (index,))
    arrays = [item for item in items if _is_array(item)]
    if not arrays:
        return _basic(a, items)
    if _dtype(arrays[0]) == np.bool_:
        arrays = _positions(a, items, arrays[0])
    elif len(arrays) == 1:
        return _one_array(a, items, arrays[0])
    elif not all(_is_array(item) for item in items[: len(arrays)]) or not _all_full(
        items[len(arrays) :]
    ):
        raise ArgumentError(
            f"subscript: {index!r} mixes index arrays and slices. Index in two steps: x[slices][arrays]"
        )
    return _several_arrays(a, arrays)


def _all_full(items: list[Any]) -> bool:
    return all(isinstance(item, slice) and item == slice(None) for item in items)


def _is_array(item: Any) -> bool:
    return isinstance(item, list | np.ndarray | Value)


def _dtype(item: Any) -> Any:
    return item.dtype if hasattr(item, "dtype") else np.asarray(item).dtype


def _expanded(a: Any, items: tuple[Any, ...]) -> list[Any]:
    """The index with `...` written out and full slices at the end: one item an axis, and the Nones."""
    used = sum(
        (item.ndim if _is_array(item) and _dtype(item) == np.bool_ and hasattr(item, "ndim") else 1)
        for item in items
        if item is not None and item is not Ellipsis
    )
    dots = [place for place, item in enumerate(items) if item is Ellipsis]
    if used > a.ndim or len(dots) > 1:
        raise IndexRangeError(
            f"subscript: {len(items)} indices ({used} of axes) for shape {a.shape}. "
            f"Use at most {a.ndim} indices and one '...'"
        )
    fill = [slice(None)] * (a.ndim - used)
    if dots:
        return [*items[: dots[0]], *fill, *items[dots[0] + 1 :]]
    return [*items, *fill]


def _range(item: Any, size: int, axis: int) -> Range:
    """Start, count and step of a slice or int along an axis."""
    if isinstance(item, slice):
        start, stop, step = item.indices(size)
        return start, len(range(start, stop, step)), step
    if isinstance(item, bool | np.bool_) or not hasattr(item, "__index__"):
        raise ArgumentError(
            f"subscript: {item!r} is no index. Use ints, slices, None, '...' or integer arrays"
        )
    number = item.__index__()
    if not -size <= number < size:
        raise IndexRangeError(
            f"subscript: index {number} is out of range for axis {axis} of size {size}. "
            f"Use an index from {-size} to {size - 1}"
        )
    return number % size, 1, 1


def _basic(a: Any, items: list[Any]) -> Any:
    ranges: list[Range] = []
    shape: list[int] = []
    for item in items:
        if item is None:
            shape.append(1)
            continue
        bounds = _range(item, a.shape[len(ranges)], len(ranges))
        if isinstance(item, slice):
            shape.append(bounds[1])
        ranges.append(bounds)
    full = all(bounds == (0, size, 1) for bounds, size in zip(ranges, a.shape, strict=True))
    result = a if full and len(shape) != a.ndim else a.slice(tuple(ranges))
    return result if result.shape == tuple(shape) else result.reshape(tuple(shape))


def _one_array(a: Any, items: list[Any], array: Any) -> Any:
    """Slices and ints first, the array's axis kept whole, then a take along it."""
    place = next(k for k, item in enumerate(items) if item is array)
    numbers = [
        k for k, item in enumerate(items) if hasattr(item, "__index__") and item is not array
    ]
    if any(
        not hasattr(items[k], "__index__") and k != place
        for n in numbers
        for k in _between(n, place)
    ):
        raise ArgumentError(
            "subscript: an int and an index array are separated by a slice, where NumPy moves axes to the "
            "front. Index in two steps"
        )
    rest = [*items[:place], slice(None), *items[place + 1 :]]
    axis = sum(1 for item in items[:place] if item is None or isinstance(item, slice))
    return (a if _all_full(rest) else _basic(a, rest)).take(array, axis)


def _between(i: int, j: int) -> range:
    return range(min(i, j), max(i, j))


def _positions(a: Any, items: list[Any], mask: Any) -> list[Any]:
    """The positions where a bool mask on the leading axes is true, one array an axis."""
    values = mask.numpy() if isinstance(mask, Value) else np.asarray(mask)
    if items[0] is not mask or not _all_full(items[1:]) or values.shape != a.shape[: values.ndim]:
        raise ShapeError(
            f"subscript: mask of shape {values.shape} for shape {a.shape}. "
            "A mask comes first, matches the leading axes, and stands alone"
        )
    return list(np.nonzero(values))


def _several_arrays(a: Any, arrays: list[Any]) -> Any:
    """Index arrays on the leading axes: those axes flattened, and one take."""
    values = [item.numpy() if isinstance(item, Value) else np.asarray(item) for item in arrays]
    flat: Any = 0
    for axis, value in enumerate(values):
        size = a.shape[axis]
        flat = flat * size + as_indices(value, size, "subscript", negative=True) % max(size, 1)
    rows = int(np.prod(a.shape[: len(values)]))
    return a.reshape((rows, *a.shape[len(values) :])).take(flat)
