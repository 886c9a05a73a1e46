"""Random changes of images: one at a time, or a batch at once with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import ShapeError
from ..ops.operands import as_probability
from ..random import ambient_stream
from ..shapes import as_count
from ..streams import Draw, IntegersDraw, Stream, UniformDraw

Array = npt.NDArray[Any]

_loader_stream: ContextVar[Stream | None] = ContextVar("needle_loader_stream", default=None)


@contextmanager
def drawing_from(stream: Stream) -> Generator[None]:
    """Inside, Needle's transforms draw from `stream`; outside, from the ambient stream."""
    token = _loader_stream.set(stream)
    try:
        yield
    finally:
        _loader_stream.reset(token)


class Transform:
    """Base of transforms: callables from image to image. Any other callable does as well.

    Example:
        >>> import needle as ndl, numpy as np
        >>> class Invert(ndl.data.Transform):
        ...     def __call__(self, x):
        ...         return 1 - x
        >>> Invert()(np.zeros((1, 1, 1)))
        array([[[1.]]])
    """

    def __call__(self, x: Any) -> Any:
        """The changed image, (H, W, C)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(x)")


class RandomTransform(Transform):
    """A transform that makes one draw an image, apart from what it does with it."""

    def __call__(self, x: npt.ArrayLike) -> Array:
        images = np.asarray(x)[None]
        return self.apply(images, *_draw([self], 1))[0]

    def draw(self) -> Draw:
        """What it draws for an image."""
        raise NotImplementedError(f"{type(self).__name__} must define draw()")

    def apply(self, images: Array, drawn: Array) -> Array:
        """New images from images (n, H, W, C) and what was drawn for them, (n, …)."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(images, drawn)")


class RandomFlipHorizontal(RandomTransform):
    """Mirrors an image left to right, along axis 1, with probability p.

    Draws one `np.random.rand()` an image (or the stream's counterpart) and flips below p.

    Args:
        p: probability, 0 to 1.

    Raises:
        ArgumentError: p outside that range.
        ShapeError: an image that is not (H, W, C).

    Example:
        >>> import needle as ndl, numpy as np
        >>> image = np.array([[[1], [2], [3]]])  # one row, three columns, one channel
        >>> ndl.data.RandomFlipHorizontal(p=1)(image)[0, :, 0].tolist()
        [3, 2, 1]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability(p, "RandomFlipHorizontal")

    def draw(self) -> UniformDraw:
        """One number, compared with p."""
        return UniformDraw()

    def apply(self, images: Array, drawn: Array) -> Array:
        """`images` (n, H, W, C), mirrored where `drawn` (n,) lies below p."""
        _check_images("RandomFlipHorizontal", images)
        flip = drawn < self.p
        flipped = images.copy()
        flipped[flip] = images[flip, :, ::-1]
        return flipped


class RandomCrop(RandomTransform):
    """Shifts an image by up to `padding` pixels each way, zeros coming in, size unchanged.

    Draws one `np.random.randint(-padding, padding + 1, size=2)` an image (or the stream's
    counterpart): out[i, j] = image[i + first, j + second], zero outside.

    Args:
        padding: pixels, 0 or more.

    Raises:
        ArgumentError: a padding that is no such integer.
        ShapeError: an image that is not (H, W, C).

    Example:
        >>> import needle as ndl, numpy as np
        >>> np.random.seed(0)  # shifts -1, 0
        >>> ndl.data.RandomCrop(padding=1)(np.ones((3, 3, 1)))[:, :, 0]
        array([[0., 0., 0.],
               [1., 1., 1.],
               [1., 1., 1.]])
    """

    def __init__(self, padding: int = 3) -> None:
        self.padding = as_count(padding, "RandomCrop", "padding", 0)

    def draw(self) -> IntegersDraw:
        """Two shifts, down and right."""
        return IntegersDraw(-self.padding, self.padding + 1, 2)

    def apply(self, images: Array, drawn: Array) -> Array:
        """`images` (n, H, W, C), each shifted by its row of `drawn` (n, 2)."""
        _check_images("RandomCrop", images)
        n, height, width, channels = images.shape
        pad, row = self.padding, width * channels  # a row's pixels and channels as one axis
        padded = np.zeros((n, height + 2 * pad, row + 2 * pad * channels), images.dtype)
        inside = padded[:, pad : pad + height, pad * channels : pad * channels + row]
        inside[...] = images.reshape(n, height, row)
        windows = sliding_window_view(padded, (height, row), axis=(1, 2))
        top, left = (drawn + pad).T
        return windows[np.arange(n), top, left * channels].reshape(images.shape)


OWN_TRANSFORMS = (RandomFlipHorizontal, RandomCrop)


def all_own(transforms: Sequence[Callable[[Any], Any]]) -> bool:
    """Whether Needle knows all that these transforms do, and which numbers they draw."""
    return all(type(transform) in OWN_TRANSFORMS for transform in transforms)


def transform_images(transforms: Sequence[Callable[[Any], Any]], images: Array) -> Array | None:
    """All transforms in turn on images (n, H, W, C) at once, or None where they are not our own.

    The numbers are drawn image by image, as one image after the other would draw them.
    """
    own = [transform for transform in transforms if isinstance(transform, RandomTransform)]
    if not all_own(transforms):
        return None
    for transform, drawn in zip(own, _draw(own, len(images)), strict=True):
        images = transform.apply(images, drawn)
    return images


def _draw(transforms: Sequence[RandomTransform], count: int) -> list[Array]:
    stream = _loader_stream.get() or ambient_stream()
    return stream.rounds(count, [transform.draw() for transform in transforms])


def _check_images(name: str, images: Array) -> None:
    if images.ndim != 4:
        raise ShapeError(
            f"{name}: an image of shape {images.shape[1:]}. Give height × width × channels; "
            "image[:, :, None] adds a channel axis"
        )
