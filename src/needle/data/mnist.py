"""MNIST, and any other set of grey images and labels in IDX files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, IndexRangeError
from .dataset import Dataset
from .idx import read_idx

Array = npt.NDArray[Any]

_WHITE = np.float32(255)


class MNISTDataset(Dataset):
    """Images and labels from two IDX files; kept as bytes, converted when they are asked for.

    Item i is (image, label): image (H, W, 1) float32 = byte / 255, label uint8. A slice or index
    array gives ((n, H, W, 1), (n,)). Transforms see one image (H, W, 1) each.

    Args:
        image_filename: IDX file of bytes (n, H, W), gzipped or not; 28 × 28 in MNIST.
        label_filename: IDX file of bytes (n,).
        transforms: callables applied in turn to each image.

    Attributes:
        X: the images' bytes, uint8 (n, H, W, 1).
        y: the labels, uint8 (n,).

    Raises:
        DataError: a file that is missing or damaged, or two that do not belong together.

    Example:
        >>> import needle as ndl
        >>> test = ndl.data.MNISTDataset(
        ...     "data/t10k-images-idx3-ubyte.gz", "data/t10k-labels-idx1-ubyte.gz")
        >>> image, label = test[0]
        >>> len(test), image.shape, image.dtype, int(label)
        (10000, (28, 28, 1), dtype('float32'), 7)
    """

    batched = True
    pure = True

    def __init__(
        self,
        image_filename: str | os.PathLike[str],
        label_filename: str | os.PathLike[str],
        transforms: Iterable[Callable[[Any], Any]] | None = None,
    ) -> None:
        super().__init__(transforms)
        images = _read_bytes(image_filename, 3, "images (n, height, width)")
        self.y = _read_bytes(label_filename, 1, "labels (n,)")
        if len(images) != len(self.y):
            raise DataError(
                f"{image_filename} holds {len(images)} images, {label_filename} "
                f"{len(self.y)} labels. Give two files of one set"
            )
        if not images.size:
            raise DataError(f"{image_filename}: no image in {images.shape}. Give a set with some")
        self.X = images[..., None]

    def __getitem__(self, index: Any) -> tuple[Array, Array]:
        try:
            images, labels = _rows(self.X, index), self.y[index].copy()  # a slice's are a view
        except IndexError as error:
            raise IndexRangeError(f"MNISTDataset: {error}. It has {len(self)} images") from error
        images = np.divide(images, _WHITE)
        if not self.transforms:
            return images, labels
        if images.ndim == 3:
            return self.apply_transforms(images), labels
        return self.apply_transforms_to_each(images, np.arange(len(self))[index]), labels

    def __len__(self) -> int:
        return len(self.y)


def _rows(images: Array, index: Any) -> Array:
    """`images[index]`; for an index array by `take`, which copies whole images and is faster."""
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu":
        return images.take(index, axis=0)
    return images[index]


def _read_bytes(path: str | os.PathLike[str], axes: int, content: str) -> Array:
    array = read_idx(path)
    if array.ndim != axes or array.dtype != np.uint8:
        raise DataError(
            f"{path}: holds {array.dtype} of shape {array.shape}, not bytes of {content}. "
            "Give image and label files in their places"
        )
    return array
