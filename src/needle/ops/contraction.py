"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.kinds import Composite, Contraction
from ..graph.op import Sample
from ..shapes import Spec, broadcast_shapes
from .movement import summed_to
from .operands import as_tensor


class MatMul(Contraction):
    """y[…, i, j] = Σₖ a[…, i, k] · b[…, k, j], leading axes batched as in NumPy."""

    label = "matmul"

    def compute(self, a: Any, b: Any) -> Any:
        if a.ndim < 2 or b.ndim < 2:
            self.infer(a, b)
        return a @ b

    def infer(self, a: Any, b: Any) -> Any:
        if len(a.shape) < 2 or len(b.shape) < 2:
            raise ShapeError(
                f"matmul: shapes {a.shape} and {b.shape} are not both matrices. "
                "Use ndl.matmul, which takes vectors too"
            )
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"matmul: inner sizes differ: {a.shape} @ {b.shape} has {a.shape[-1]} and "
                f"{b.shape[-2]}. The last axis of a must equal the last but one of b: "
                "transpose or reshape one"
            )
        if batch is None:
            raise ShapeError(
                f"matmul: batch axes {a.shape[:-2]} and {b.shape[:-2]} do not broadcast. "
                "Make them equal or 1"
            )
        return Spec((*batch, a.shape[-2], b.shape[-1]), np.result_type(a.dtype, b.dtype))

    def multiply_adds(self, a: Any, b: Any) -> int:
        return math.prod(self.infer(a, b).shape) * a.shape[-1]

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, b = node.inputs
        return (
            summed_to(B_TRANSPOSED(out_grad, b), a.shape) if a.requires_grad else None,
            summed_to(A_TRANSPOSED(a, out_grad), b.shape) if b.requires_grad else None,
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        pairs = [
            ((3, 4), (4, 2)), ((1, 1), (1, 1)), ((0, 4), (4, 2)), ((3, 0), (0, 2)),
            ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)),
            ((2, 1, 3, 4), (5, 4, 2)),
        ]  # fmt: skip
        for pair in pairs:
            yield Sample(cls(), pair)


class TransposedMatMul(Composite, Contraction):
    """y = aᵀ b or a bᵀ, leading axes batched: what gradients of matrix products are.

    Args:
        first: Whether the last two axes of a are swapped; else those of b are.
    """

    label = "transposed_matmul"

    def __init__(self, first: bool) -> None:
        self.first = first

    def compute(self, a: Any, b: Any) -> Any:
        if a.ndim < 2 or b.ndim < 2:
            self.infer(a, b)
        return a.swapaxes(-1, -2) @ b if self.first else a @ b.swapaxes(-1, -2)

    def decompose(self, a: Any, b: Any) -> Any:
        return a.transpose() @ b if self.first else a @ b.transpose()

    def infer(self, a: Any, b: Any) -> Any:
        return _MATMUL.infer(*self._factors(a, b))

    def multiply_adds(self, a: Any, b: Any) -> int:
        return _MATMUL.multiply_adds(*self._factors(a, b))

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, b = node.inputs
        a_grad = b_grad = None
        if a.requires_grad:
            a_grad = summed_to(B_TRANSPOSED(b, out_grad) if self.first else out_grad @ b, a.shape)
        if b.requires_grad:
            b_grad = summed_to(a @ out_grad if self.first else A_TRANSPOSED(out_grad, a), b.shape)
        return a_grad, b_grad

    def _factors(self, a: Any, b: Any) -> tuple[Any, Any]:
        """What is known of the two factors as they are multiplied."""
        return (_swapped(a), b) if self.first else (a, _swapped(b))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for sample in MatMul.samples():
            a, b = (Spec(tuple(shape), np.dtype(np.float64)) for shape in sample.inputs)
            yield Sample(cls(True), (_swapped(a).shape, b.shape))
            yield Sample(cls(False), (a.shape, _swapped(b).shape))


def _swapped(spec: Any) -> Spec:
    """What is known of a tensor after its last two axes are swapped."""
    return Spec((*spec.shape[:-2], *spec.shape[:-3:-1]), spec.dtype)


def matmul(a: Any, b: Any) -> Any:
    """Matrix product, batched over leading axes as in NumPy; vectors work as in NumPy too.

    Args:
        a: Shape (…, m, k), or (k,).
        b: Shape (…, k, n), or (k,).

    Returns:
        Shape (…, m, n). Where one operand has fewer batch axes, its gradient is summed over the
        others.

    Raises:
        ShapeError: the inner sizes differ, or the batch axes do not broadcast.

    Example:
        >>> import needle as ndl
        >>> ndl.matmul(ndl.Tensor([[1.0, 2.0]]), ndl.Tensor([[3.0], [4.0]])).numpy()
        array([[11.]])
    """
    a, b = as_tensor(a), as_tensor(b)
    if len(a.shape) >= 2 and len(b.shape) >= 2:
        return _MATMUL(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape}: a number has no rows. Use * for scaling"
        )
    row = a.reshape((1, a.shape[0])) if a.ndim == 1 else a
    column = b.reshape((b.shape[0], 1)) if b.ndim == 1 else b
    product = _MATMUL(row, column)
    shape = product.shape[:-2]
    shape += product.shape[-2:-1] if a.ndim > 1 else ()
    shape += product.shape[-1:] if b.ndim > 1 else ()
    return product.reshape(shape)


_MATMUL = MatMul()
A_TRANSPOSED, B_TRANSPOSED = TransposedMatMul(True), TransposedMatMul(False)
