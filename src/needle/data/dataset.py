"""Data sets: items by index, many at once where the data set says that it can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, IndexRangeError, ShapeError
from ..graph.leaf import real_numbers
from ..shapes import holds_several
from ..tensor import Tensor
from .transforms import transform_images

Array = npt.NDArray[Any]


class Dataset:
    """Base of data sets; a subclass defines `__getitem__` and `__len__`.

    An item is an array, a number, or a tuple of them. `__getitem__` must take an int. Two class
    attributes say what else it can do; each holds for the `__getitem__` it is declared beside or
    below, not for one that a subclass puts over it:

    - `batched = True`: it also takes an index array (and a slice) and returns the items stacked.
      A `DataLoader` then asks for a batch at once instead of item by item.
    - `pure = True`: an item depends on nothing but its index and `transforms`. A `DataLoader` may
      then fetch it in a background thread.

    Any other object with `__getitem__` and `__len__` works in a `DataLoader` as well.

    Args:
        transforms: callables applied in turn by `apply_transforms`.

    Raises:
        ArgumentError: transforms is no list of callables, or one of them itself.

    Example:
        >>> import needle as ndl
        >>> class Squares(ndl.data.Dataset):
        ...     def __getitem__(self, i):
        ...         return float(i), i * i
        ...     def __len__(self):
        ...         return 5
        >>> x, y = next(iter(ndl.data.DataLoader(Squares(), batch_size=3)))
        >>> x.numpy().tolist(), y.numpy().tolist()
        ([0.0, 1.0, 2.0], [0, 1, 4])
    """

    batched: ClassVar[bool] = False
    pure: ClassVar[bool] = False
    transforms: Sequence[Callable[[Any], Any]] | None = None

    def __init__(self, transforms: Iterable[Callable[[Any], Any]] | None = None) -> None:
        kind = type(self).__name__
        if callable(transforms) or not (transforms is None or holds_several(transforms)):
            raise ArgumentError(
                f"{kind}: transforms is a {type(transforms).__name__}. Pass a list: [transform]"
            )
        if transforms is not None and not isinstance(transforms, list | tuple):
            transforms = list(transforms)  # an iterator would give them for the first image only
        for transform in transforms or ():
            if not callable(transform):
                raise ArgumentError(
                    f"{kind}: transforms holds a {type(transform).__name__}. "
                    "Pass callables, from image to image"
                )
        self.transforms = transforms

    def __getitem__(self, index: Any) -> Any:
        """The item at an int; where `batched`, the stacked items at a slice or index array."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __len__(self) -> int:
        """The number of items."""
        raise NotImplementedError(f"{type(self).__name__} must define __len__()")

    def apply_transforms(self, x: Any) -> Any:
        """One image (H, W, C) after all transforms in turn."""
        for transform in self.transforms or ():
            x = transform(x)
        return x

    def apply_transforms_to_each(self, images: Array, samples: Sequence[int] | Array) -> Array:
        """Images (n, H, W, C) after all transforms, as `apply_transforms` one by one.

        The same pictures and the same random numbers, faster where all transforms are Needle's.

        Args:
            images: (n, H, W, C); may be changed.
            samples: their n indices, for messages.
        """
        if not self.transforms:
            return images
        if type(self).apply_transforms is Dataset.apply_transforms:
            transformed = transform_images(self.transforms, images)
            if transformed is not None:
                return transformed
        results: list[Any] = []
        for sample, image in zip(samples, images, strict=True):
            try:
                results.append(self.apply_transforms(image))
            except Exception as error:
                error.add_note(f"while transforming sample {sample}")
                raise
        return stack(results) if results else images


class NDArrayDataset(Dataset):
    """Arrays of equal length; item i is the tuple of their rows i.

    Args:
        arrays: one or more arrays (n, …), of any numeric dtype, which batches keep.

    Raises:
        ArgumentError: no array.
        ShapeError: arrays of different lengths, or of no axes, or lists that make no array.
        DTypeError: an array of objects or strings.

    Example:
        >>> import needle as ndl, numpy as np
        >>> pairs = ndl.data.NDArrayDataset(np.eye(3), np.arange(3))
        >>> len(pairs), pairs[1]
        (3, (array([0., 1., 0.]), np.int64(1)))
    """

    batched = True
    pure = True

    def __init__(self, *arrays: npt.ArrayLike) -> None:
        super().__init__()
        if not arrays:
            raise ArgumentError("NDArrayDataset: no array. Give one or more, of equal length")
        self.arrays = tuple([as_array(array, "NDArrayDataset") for array in arrays])
        shapes = [array.shape for array in self.arrays]
        if () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(
                f"NDArrayDataset: arrays of shapes {', '.join(map(str, shapes))}. "
                "Give arrays with the same size along axis 0"
            )

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        try:
            return tuple([array[index] for array in self.arrays])
        except IndexError as error:
            raise IndexRangeError(f"NDArrayDataset: {error}. It has {len(self)} items") from error

    def __len__(self) -> int:
        return len(self.arrays[0])


def declares(dataset: object, attribute: str) -> bool:
    """Whether `attribute` was declared for the `__getitem__` that the data set has."""
    for owner in type(dataset).__mro__:
        if attribute in vars(owner):
            return bool(vars(owner)[attribute])
        if "__getitem__" in vars(owner):
            return False
    return False


def collate(items: Sequence[Any]) -> tuple[Array, ...]:
    """Items as stacked arrays, one a field: (n, …).

    Raises:
        ShapeError: items with different shapes or different numbers of fields.
        DTypeError: something that is neither a number nor an array of numbers.
    """
    if not isinstance(items[0], (tuple, list)):
        return (stack(items),)
    counts = {len(item) if isinstance(item, (tuple, list)) else None for item in items}
    if len(counts) > 1:
        raise ShapeError(
            f"DataLoader: some items have {len(items[0])} fields, others not. "
            "Every item must be a tuple of the same length"
        )
    return tuple([stack(field) for field in zip(*items, strict=True)])


def stack(values: Sequence[Any]) -> Array:
    """Numbers, arrays or tensors as one new array (n, …)."""
    arrays = [as_array(value, "DataLoader") for value in values]
    if len(shapes := {array.shape for array in arrays}) > 1:
        raise ShapeError(
            f"DataLoader: items of shapes {', '.join(map(str, sorted(shapes)))} in one batch. "
            "Crop or pad them to one shape in the data set, or use batch_size=1"
        )
    return np.stack(arrays)


def as_array(value: Any, operation: str) -> Array:
    """A number, array or tensor as a NumPy array, not copied where it is one.

    Args:
        value: what to convert.
        operation: who asks, for the message.

    Returns:
        An array in the machine's byte order.

    Raises:
        DTypeError: it holds no real numbers.
        ShapeError: it is nested lists of different lengths.
    """
    return real_numbers(value.numpy() if isinstance(value, Tensor) else value, operation)
