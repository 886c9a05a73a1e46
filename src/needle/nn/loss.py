"""Loss functions: each is the mean over its batch."""

from __future__ import annotations

from ..ops import bce_with_logits, cross_entropy
from ..ops.operands import as_tensor
from ..tensor import Tensor
from .module import Module


class SoftmaxLoss(Module):
    """Mean of ln Σ exp(z) - z[y] over the batch: cross-entropy of the softmax of logits z.

    Shape:
        logits (batch, classes); y (batch,), class indices as whole numbers of any dtype. The result
        is ().

    Raises:
        ShapeError: the shapes do not fit, or the batch is empty.
        IndexRangeError: a class index is outside 0 … classes - 1.

    Example:
        >>> import needle as ndl
        >>> loss = ndl.nn.SoftmaxLoss()(ndl.init.zeros(4, 10), ndl.Tensor([1, 2, 3, 4]))
        >>> round(float(loss), 4)
        2.3026
    """

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits, y)


class MSELoss(Module):
    """Mean of (x - y)² over all elements.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> float(ndl.nn.MSELoss()(ndl.Tensor([1.0, 3.0]), ndl.Tensor([1.0, 1.0])))
        2.0
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        difference = as_tensor(x) - y
        return (difference * difference).mean()


class BCEWithLogitsLoss(Module):
    """Mean of ln(1 + exp(z)) - z·y over all elements.

    The cross-entropy -y ln s - (1 - y) ln(1 - s) with s = sigmoid(z), with all its digits where the
    model is sure.

    Shape:
        logits z and targets y in [0, 1] have one shape.

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import needle as ndl
        >>> round(float(ndl.nn.BCEWithLogitsLoss()(ndl.Tensor([0.0]), ndl.Tensor([1.0]))), 4)
        0.6931
    """

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return bce_with_logits(logits, y).mean()
