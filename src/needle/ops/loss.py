"""The losses of classifiers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.kinds import Composite, Elementwise
from ..graph.op import Sample, TensorOp
from ..shapes import Spec
from .exponential import lowered_by_maximum, shifted_by_maximum, summed
from .indexing import as_indices
from .operands import as_float, as_operands, as_tensor, float_dtype

_SAMPLES = [((4, 3), np.array([0, 2, 2, 1])), ((2, 4), np.array([3.0, 0.0])), ((1, 1), np.zeros(1))]


class CrossEntropy(Composite, TensorOp):
    """Mean over the rows of ln Σ exp(z) - z[y]."""

    def compute(self, z: Any, y: Any) -> Any:
        shifted, labels, rows = self.prepared(z, y)
        with np.errstate(divide="ignore"):
            total = np.log(summed(np.exp(shifted), 1)[:, 0])
        losses = total - shifted[rows, labels]  # of float16 in float32
        return (np.add.reduce(losses) / rows.size).astype(shifted.dtype)

    def prepared(self, z: Any, y: Any) -> tuple[Any, Any, Any]:
        """Logits less their maximum, labels as integers, and the numbers of the rows."""
        if z.ndim != 2 or y.shape != z.shape[:1] or not z.size:
            self.checked(z, y)
        labels = as_indices(y, z.shape[1], self.name)
        return shifted_by_maximum(z, 1)[0], labels, np.arange(labels.size)

    def decompose(self, z: Any, y: Any) -> Any:
        self.checked(z, y)
        shifted, _ = lowered_by_maximum(z, 1)
        total = shifted.exp().sum(1, keepdims=True).log()
        return (total.reshape(y.shape) - shifted.pick(y)).mean()

    def checked(self, z: Any, y: Any) -> np.dtype[Any]:
        """The dtype of the loss, after a look at the shapes."""
        if len(z.shape) != 2 or y.shape != z.shape[:1] or 0 in z.shape:
            raise ShapeError(
                f"{self.name}: logits of shape {z.shape} and y of shape {y.shape}. "
                "Pass (batch, classes) and (batch,), both sizes >= 1"
            )
        return float_dtype(z.dtype)

    def infer(self, z: Any, y: Any) -> Any:
        return Spec((), self.checked(z, y))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return _GRADIENT(out_grad, *node.inputs), None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, labels in _SAMPLES:
            yield Sample(cls(), (shape, labels))


class CrossEntropyGradient(CrossEntropy):
    """dz = (softmax(z) - onehot(y)) · g / n."""

    def compute(self, g: Any, z: Any, y: Any) -> Any:
        shifted, labels, rows = self.prepared(z, y)
        share = np.exp(shifted)
        share /= summed(share, 1)
        share[rows, labels] -= 1
        return share * (g / rows.size)

    def decompose(self, g: Any, z: Any, y: Any) -> Any:
        self.checked(z, y)
        rows, classes = z.shape
        share = lowered_by_maximum(z, 1)[0].exp()
        share = share / share.sum(1, keepdims=True).broadcast_to(z.shape)
        miss = share - y.one_hot(classes, share.dtype)
        return miss * (g / rows).broadcast_to(z.shape)

    def infer(self, g: Any, z: Any, y: Any) -> Any:
        return Spec(z.shape, np.result_type(float_dtype(g.dtype), self.checked(z, y)))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return Composite.gradient(self, out_grad, node)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, labels in _SAMPLES:
            yield Sample(cls(), ((), shape, labels))


def cross_entropy(logits: Any, y: Any) -> Any:
    """Cross-entropy of the softmax of logits z, the mean over a batch of ln Σ exp(z) - z[y].

    Args:
        logits: Shape (batch, classes).
        y: Shape (batch,), class indices as whole numbers of any dtype.

    Returns:
        Shape ().

    Raises:
        ShapeError: the shapes do not fit, or a size is 0.
        IndexRangeError: a class index is outside 0 … classes - 1.
        DTypeError: a class index is no whole number.

    Example:
        >>> import needle as ndl
        >>> loss = ndl.cross_entropy(ndl.zeros(4, 10), ndl.Tensor([1, 2, 3, 4]))
        >>> round(float(loss), 4)
        2.3026
    """
    return CrossEntropy()(logits, y)


class BCEWithLogits(Elementwise):
    """l = ln(1 + exp(z)) - z·y.

    Written as max(z, 0) - z·y + ln(1 + w) with w = exp(-|z|): where y is 1 and z is large the first
    two cancel, and the digits are those of the logarithm. What 1 + w rounds away is added to it.
    """

    label = "bce_with_logits"
    float_result = True

    def expression(self, e: Any, z: Any, y: Any) -> Any:
        w = e.exp(-e.abs(z))
        u = 1 + w
        return e.maximum(z, 0) - z * y + (e.log(u) + (w - (u - 1)) / u)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        z, y = node.inputs
        return (
            out_grad * (z.sigmoid() - y) if z.requires_grad else None,
            -(out_grad * z) if y.requires_grad else None,
        )


def bce_with_logits(logits: Any, y: Any) -> Any:
    """Cross-entropy of s = sigmoid(z) element by element: -y ln s - (1 - y) ln(1 - s).

    Args:
        logits: The logits z, a tensor of any shape.
        y: Targets in [0, 1], of the same shape; a number is that of each element.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> ndl.bce_with_logits(ndl.Tensor([0.0, 100.0]), ndl.Tensor([1.0, 1.0])).numpy().round(4)
        array([0.6931, 0.    ])
    """
    z, y = as_operands(as_float(as_tensor(logits)), y, "bce_with_logits")
    return BCEWithLogits()(z, y.astype(np.result_type(z.dtype, y.dtype)))


_GRADIENT = CrossEntropyGradient()
