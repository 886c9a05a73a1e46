"""Standardisation: what batch norm and layer norm have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..graph.kinds import Composite
from ..graph.op import Sample, TensorOp, TensorTupleOp
from ..shapes import Axes, Spec, frozen_axes, normalize_axes, reduced_shape
from .operands import as_bounded
from .sums import total

_SAMPLES: list[tuple[Axes, tuple[int, ...]]] = [
    (0, (4, 3)), ((0, 2), (3, 2, 2)), (-1, (2, 5)), (0, (3, 0)), (None, (6,)),
]  # fmt: skip


class Statistics(Composite, abstract=True):
    """Base of the operators that need mean and variance over axes.

    Args:
        axes: None (all), an int or a tuple.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = frozen_axes(axes, self.name)

    def moments(self, x: Any) -> tuple[Any, Any, Any]:
        """Mean, centred values and variance, for arrays; reduced axes are kept."""
        if x.dtype.kind != "f" or not x.size or not x.ndim:
            self.checked(x)
        mean = self.average(x)
        centred = x - mean
        return mean, centred, self.average(centred * centred)

    def average(self, x: Any) -> Any:
        """Mean over the axes, for arrays; reduced axes are kept. Of float16 as `mean` takes it."""
        if x.dtype.char == "e":
            return self.average(x.astype("f")).astype(x.dtype)
        total = self.total(x)
        return total / (x.size // total.size) if x.size else total

    def total(self, x: Any) -> Any:
        """Sum over the axes, for arrays; reduced axes are kept."""
        return total(x, self.axes, keepdims=True)

    def centred(self, x: Any) -> tuple[Any, Any]:
        """Centred values and variance, for tensors; reduced axes are kept."""
        centred = x - self.mean(x)
        return centred, (centred * centred).mean(self.axes, keepdims=True)

    def mean(self, x: Any) -> Any:
        """Mean over the axes, repeated to the shape of x."""
        return x.mean(self.axes, keepdims=True).broadcast_to(x.shape)

    def checked(self, x: Any) -> tuple[int, ...]:
        """The axes, after a look at shape and dtype."""
        if x.dtype.kind != "f":
            raise DTypeError(
                f"{self.name}: not defined for dtype {x.dtype}. Convert with astype first"
            )
        axes = normalize_axes(self.axes, len(x.shape), self.name)
        if any(x.shape[axis] == 0 for axis in axes):
            raise ShapeError(
                f"{self.name}: shape {x.shape} has nothing to average over axes {axes}. "
                "Use axes of size >= 1"
            )
        return axes


class Moments(Statistics, TensorTupleOp):
    """(mean, var) over axes, the variance biased; they pass no gradient."""

    differentiable = False

    def compute(self, x: Any) -> Any:
        mean, _, var = self.moments(x)
        return mean.squeeze(self.axes), var.squeeze(self.axes)

    def decompose(self, x: Any) -> Any:
        shape = self.infer(x)[0].shape
        mean = x.mean(self.axes, keepdims=True)
        return mean.reshape(shape), self.centred(x)[1].reshape(shape)

    def infer(self, x: Any) -> Any:
        spec = Spec(reduced_shape(x.shape, self.checked(x), False), x.dtype)
        return spec, spec

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for axes, shape in _SAMPLES:
            yield Sample(cls(axes), (shape,))


class Standardization(Statistics, abstract=True):
    """Base of `Standardize` and its gradient.

    Args:
        axes: None (all), an int or a tuple.
        eps: Added to the variance.
    """

    def __init__(self, axes: Axes, eps: float) -> None:
        super().__init__(axes)
        self.eps = float(as_bounded(eps, self.name, "eps"))


class Standardize(Standardization, TensorOp):
    """y = (x - mean) / √(var + eps), mean and biased variance taken over axes."""

    def compute(self, x: Any) -> Any:
        _, centred, var = self.moments(x)
        return centred * (1 / np.sqrt(var + self.eps))

    def decompose(self, x: Any) -> Any:
        centred, var = self.centred(x)
        return centred * (1 / (var + self.eps) ** 0.5).broadcast_to(x.shape)

    def infer(self, x: Any) -> Any:
        self.checked(x)
        return Spec(x.shape, x.dtype)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return StandardizeGradient(self.axes, self.eps)(out_grad, node.inputs[0])

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for axes, shape in _SAMPLES:
            yield Sample(cls(axes, 1e-3), (shape,))


class StandardizeGradient(Standardization, TensorOp):
    """dx = (g - mean(g) - y · mean(g · y)) / √(var + eps) (Ioffe & Szegedy 2015, section 3).

    y is the standardised x.
    """

    def compute(self, g: Any, x: Any) -> Any:
        _, centred, var = self.moments(x)
        inverse = 1 / np.sqrt(var + self.eps)
        y = centred * inverse
        return (g - self.average(g) - y * self.average(g * y)) * inverse

    def decompose(self, g: Any, x: Any) -> Any:
        centred, var = self.centred(x)
        inverse = (1 / (var + self.eps) ** 0.5).broadcast_to(x.shape)
        y = centred * inverse
        return (g - self.mean(g) - y * self.mean(g * y)) * inverse

    def infer(self, g: Any, x: Any) -> Any:
        self.checked(x)
        return Spec(x.shape, np.result_type(g.dtype, x.dtype))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for axes, shape in _SAMPLES:
            yield Sample(cls(axes, 1e-3), (shape, shape))


def standardize(x: Any, axes: Axes, eps: float = 1e-5) -> Any:
    """Zero mean and unit variance over axes: y = (x - mean) / √(var + eps).

    Args:
        x: Float tensor.
        axes: None (all), an int or a tuple: what mean and biased variance are taken over.
        eps: Added to the variance, inside the root.

    Raises:
        ShapeError: an axis is out of range, or there is nothing to average.
        DTypeError: x holds integers.

    Example:
        >>> import needle as ndl
        >>> ndl.standardize(ndl.Tensor([0.0, 2.0]), axes=0, eps=0.0).numpy()
        array([-1.,  1.])
    """
    return Standardize(axes, eps)(x)


def moments(x: Any, axes: Axes) -> Any:
    """Mean and biased variance over axes, as a `TensorTuple`; they pass no gradient.

    Args:
        x: Float tensor.
        axes: None (all), an int or a tuple.

    Raises:
        ShapeError: an axis is out of range, or there is nothing to average.
        DTypeError: x holds integers.

    Example:
        >>> import needle as ndl
        >>> [float(t) for t in ndl.moments(ndl.Tensor([1.0, 3.0]), axes=0)]
        [2.0, 1.0]
    """
    return Moments(axes)(x)
