"""Affine maps: what a fully connected layer computes, and the scale and shift of normalisation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.kinds import Composite, Contraction
from ..graph.op import Sample, TensorOp
from ..shapes import Spec
from .contraction import A_TRANSPOSED, B_TRANSPOSED
from .sums import total

_FEATURES = ((3,), (4, 3), (2, 2, 3), (0, 3), (3, 0))
"""Shapes of samples."""


class Affine(Composite, Contraction):
    """y[…, j] = Σₖ x[…, k] · W[k, j] + b[j]."""

    def compute(self, x: Any, w: Any, b: Any) -> Any:
        if x.ndim < 2 or w.ndim != 2 or b.shape not in (w.shape[1:], (1, *w.shape[1:])):
            self.infer(x, w, b)
        y = x @ w
        return np.add(y, b, out=y) if y.dtype == b.dtype else y + b

    def decompose(self, x: Any, w: Any, b: Any) -> Any:
        y = x @ w
        return y + b.broadcast_to(y.shape)

    def infer(self, x: Any, w: Any, b: Any) -> Any:
        if len(x.shape) < 2 or len(w.shape) != 2 or x.shape[-1] != w.shape[0]:
            raise ShapeError(
                f"affine: x of shape {x.shape} and weight of shape {w.shape}. "
                "Pass (…, inputs) and (inputs, outputs)"
            )
        if b.shape not in (w.shape[1:], (1, *w.shape[1:])):
            raise ShapeError(
                f"affine: bias of shape {b.shape} for {w.shape[1]} outputs. "
                f"Pass ({w.shape[1]},) or (1, {w.shape[1]})"
            )
        dtype = np.result_type(np.result_type(x.dtype, w.dtype), b.dtype)
        return Spec((*x.shape[:-1], w.shape[1]), dtype)

    def multiply_adds(self, x: Any, w: Any, b: Any) -> int:
        return math.prod(x.shape) * w.shape[1]

    def gradient(self, out_grad: Any, node: Any) -> Any:
        x, w, b = node.inputs
        x_grad = B_TRANSPOSED(out_grad, w) if x.requires_grad else None
        rows, columns = _as_rows(x), _as_rows(out_grad)
        w_grad = A_TRANSPOSED(rows, columns) if w.requires_grad else None
        return x_grad, w_grad, columns.sum(0, len(b.shape) == 2) if b.requires_grad else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for leading in ((4,), (2, 3), (0,)):
            yield Sample(cls(), ((*leading, 3), (3, 2), (1, 2)))
        yield Sample(cls(), ((4, 3), (3, 2), (2,)))
        yield Sample(cls(), ((2, 0), (0, 2), (2,)))


def affine(x: Any, weight: Any, bias: Any) -> Any:
    """Matrix product and bias in one operator: y = x W + b.

    Args:
        x: Shape (…, inputs), at least two axes.
        weight: Shape (inputs, outputs).
        bias: Shape (outputs,) or (1, outputs).

    Raises:
        ShapeError: the shapes do not fit.

    Example:
        >>> import needle as ndl
        >>> ndl.affine(ndl.ones(1, 2), ndl.ones(2, 3), ndl.ones(3)).numpy()
        array([[3., 3., 3.]], dtype=float32)
    """
    return _AFFINE(x, weight, bias)


class ScaleShift(Composite, TensorOp):
    """y[…, j] = x[…, j] · w[j] + b[j]."""

    def compute(self, x: Any, w: Any, b: Any) -> Any:
        if not x.ndim or w.shape != x.shape[-1:] or b.shape != w.shape:
            self.infer(x, w, b)
        return x * w + b

    def decompose(self, x: Any, w: Any, b: Any) -> Any:
        return x * w.broadcast_to(x.shape) + b.broadcast_to(x.shape)

    def infer(self, x: Any, w: Any, b: Any) -> Any:
        if not x.shape or w.shape != x.shape[-1:] or b.shape != w.shape:
            raise ShapeError(
                f"scale_shift: weight of shape {w.shape} and bias of shape {b.shape} for x of "
                f"shape {x.shape}. Pass {x.shape[-1:]} for both, x with at least one axis"
            )
        return Spec(x.shape, np.result_type(np.result_type(x.dtype, w.dtype), b.dtype))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        x, w, b = node.inputs
        return (
            _SCALE(out_grad, w) if x.requires_grad else None,
            _FEATURE_DOT(out_grad, x) if w.requires_grad else None,
            out_grad.sum(tuple(range(x.ndim - 1))) if b.requires_grad else None,
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in _FEATURES:
            yield Sample(cls(), (shape, shape[-1:], shape[-1:]))


class Scale(Composite, TensorOp):
    """y[…, j] = x[…, j] · w[j]: the gradient of `ScaleShift` for x."""

    def compute(self, x: Any, w: Any) -> Any:
        if not x.ndim or w.shape != x.shape[-1:]:
            self.infer(x, w)
        return x * w

    def decompose(self, x: Any, w: Any) -> Any:
        return x * w.broadcast_to(x.shape)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        x, w = node.inputs
        return (
            _SCALE(out_grad, w) if x.requires_grad else None,
            _FEATURE_DOT(out_grad, x) if w.requires_grad else None,
        )

    def infer(self, x: Any, w: Any) -> Any:
        if not x.shape or w.shape != x.shape[-1:]:
            raise ShapeError(
                f"scale: weight of shape {w.shape} for x of shape {x.shape}. Pass {x.shape[-1:]}, "
                "x with at least one axis"
            )
        return Spec(x.shape, np.result_type(x.dtype, w.dtype))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in _FEATURES:
            yield Sample(cls(), (shape, shape[-1:]))


class FeatureDot(Composite, TensorOp):
    """y[j] = Σ x[…, j] · z[…, j], over all axes but the last: the gradient for w."""

    def compute(self, x: Any, z: Any) -> Any:
        if not x.ndim or x.shape != z.shape:
            self.infer(x, z)
        return total(x * z, tuple(range(x.ndim - 1)))

    def decompose(self, x: Any, z: Any) -> Any:
        return (x * z).sum(tuple(range(x.ndim - 1)))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        x, z = node.inputs
        return (
            _SCALE(z, out_grad) if x.requires_grad else None,
            _SCALE(x, out_grad) if z.requires_grad else None,
        )

    def infer(self, x: Any, z: Any) -> Any:
        if not x.shape or x.shape != z.shape:
            raise ShapeError(
                f"feature_dot: shapes {x.shape} and {z.shape}. Pass equal ones of at least one axis"
            )
        return Spec(x.shape[-1:], self.compute(*[np.ones(1, spec.dtype) for spec in (x, z)]).dtype)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape in _FEATURES:
            yield Sample(cls(), (shape, shape))


def scale_shift(x: Any, weight: Any, bias: Any) -> Any:
    """Scale and shift of each feature: y = x · w + b, repeated over all axes but the last.

    Args:
        x: Shape (…, features).
        weight, bias: Shape (features,).

    Raises:
        ShapeError: the shapes do not fit.

    Example:
        >>> import needle as ndl
        >>> ndl.scale_shift(ndl.ones(2, 1), ndl.Tensor([3.0]), ndl.Tensor([1.0])).tolist()
        [[4.0], [4.0]]
    """
    return _SCALE_SHIFT(x, weight, bias)


def _as_rows(t: Any) -> Any:
    """All axes but the last as one."""
    shape = t.shape
    return t if len(shape) == 2 else t.reshape((math.prod(shape[:-1]), shape[-1]))


_AFFINE, _SCALE_SHIFT = Affine(), ScaleShift()
_SCALE, _FEATURE_DOT = Scale(), FeatureDot()
