"""`x[index]`: Python's subscripts, parsed into recorded operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, IndexRangeError, ShapeError
from ..graph.node import Value
from ..shapes import Shape, broadcast_shapes
from .indexing import as_indices
from .operands import as_tensor
from .slicing import Range

_FULL = slice(None)


def subscript(a: Any, index: Any) -> Any:
    """`a[index]` as in NumPy, recorded as `Slice`, `Reshape`, and `Take` for index arrays.

    Args:
        a: Tensor.
        index: Ints, slices, `...`, None, and index arrays (tensors, NumPy arrays, lists, tuples or
            ranges of integers) or masks (the same of bools), one or several in a tuple. A slice
            between two index arrays, or between one and an int, is not supported.

    Raises:
        IndexRangeError: an int or index is outside its axis, or there are too many.
        ShapeError: a mask is not of the shape of the axes it indexes, or index arrays do not
            broadcast.
        ArgumentError: a kind of index, or a mixture, that is not supported.

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        >>> x[:, ::-1].numpy(), x[0, [2, 0]].numpy()
        (array([[3., 2., 1.],
               [6., 5., 4.]]), array([3., 1.]))
    """
    items = _expanded(a, index if isinstance(index, tuple) else (index,))
    places = [place for place, item in enumerate(items) if isinstance(item, Value)]
    if not places:
        return _basic(a, items)
    rest = [_FULL if isinstance(item, Value) else item for item in items]
    base = a if all(isinstance(i, slice) and i == _FULL for i in rest) else _basic(a, rest)
    axis = sum(item is None or isinstance(item, slice) for item in rest[: places[0]])
    return _gathered(base, [items[place] for place in places], axis)


def _expanded(a: Any, items: tuple[Any, ...]) -> list[Any]:
    """The index with one item an axis, and the Nones: `...` written out, masks as index arrays."""
    parts = [as_tensor(i) if isinstance(i, list | tuple | range | np.ndarray) else i for i in items]
    used = sum(_axes(part) for part in parts)
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if used > a.ndim or len(dots) > 1:
        raise IndexRangeError(
            f"subscript: {len(parts)} indices ({used} of axes) for shape {a.shape}. "
            f"Use at most {a.ndim} indices and one '...'"
        )
    _check_adjacent(parts)
    place = dots[0] if dots else len(parts)
    parts[place : place + len(dots)] = [_FULL] * (a.ndim - used)
    result: list[Any] = []
    axis = 0
    for part in parts:
        result += _positions(a.shape, axis, part) if _is_mask(part) else [part]
        axis += _axes(part)
    return result


def _is_mask(item: Any) -> bool:
    return isinstance(item, Value) and as_tensor(item).dtype == np.bool_


def _axes(item: Any) -> int:
    """How many axes an item of the index stands for."""
    if item is None or item is Ellipsis:
        return 0
    return as_tensor(item).ndim if _is_mask(item) else 1


def _positions(shape: Shape, axis: int, mask: Any) -> list[Any]:
    """Where a mask is true: an index array for each of its axes."""
    if not mask.ndim or mask.shape != shape[axis : axis + mask.ndim]:
        raise ShapeError(
            f"subscript: mask of shape {mask.shape} at axis {axis} of shape {shape}. "
            "A mask has one or more axes, of the sizes that it indexes"
        )
    return [as_tensor(positions) for positions in np.nonzero(mask.numpy())]


def _check_adjacent(parts: list[Any]) -> None:
    """Refuse what makes NumPy move axes to the front: something between ints and index arrays.

    An '...' that stands for no axis counts too.
    """
    chosen = [place for place, part in enumerate(parts) if hasattr(part, "__index__")]
    if not any(isinstance(part, Value) for part in parts):
        return
    if chosen[-1] - chosen[0] >= len(chosen):
        raise ArgumentError(
            "subscript: ints and index arrays are separated by a slice, '...' or None, where NumPy "
            "moves axes to the front. Index in two steps: x[slices][arrays]"
        )


def _range(item: Any, size: int, axis: int) -> Range:
    """Start, count and step of a slice or int along an axis."""
    if isinstance(item, slice):
        try:
            start, stop, step = item.indices(size)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                f"subscript: {item} is no slice ({error}). Use integers, and a step that is not 0"
            ) from None
        return start, len(range(start, stop, step)), step
    if isinstance(item, bool | np.bool_) or not hasattr(item, "__index__"):
        raise ArgumentError(
            f"subscript: {item!r} is no index. Use ints, slices, None, '...', integer arrays, or "
            "masks, as x[x.equal(0)]"
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


def _gathered(a: Any, arrays: list[Any], axis: int) -> Any:
    """Index arrays on neighbouring axes, from `axis` on: those axes flattened, and one `Take`."""
    if len(arrays) == 1:
        return a.take(arrays[0], axis)
    if broadcast_shapes(*[array.shape for array in arrays]) is None:
        raise ShapeError(
            f"subscript: index arrays of shapes {' and '.join(str(i.shape) for i in arrays)} "
            "do not broadcast. Give them one shape"
        )
    sizes = a.shape[axis : axis + len(arrays)]
    flat: Any = 0
    for array, size in zip(arrays, sizes, strict=True):
        index = as_indices(array.numpy(), size, "subscript", negative=True)
        flat = flat * size + index % max(size, 1)
    shape = (*a.shape[:axis], math.prod(sizes), *a.shape[axis + len(arrays) :])
    return a.reshape(shape).take(flat, axis)
