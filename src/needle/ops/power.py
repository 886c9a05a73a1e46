"""Powers: of two tensors, whose shapes may broadcast, and of a tensor to a number."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentError
from ..graph.kinds import Elementwise
from ..shapes import broadcast_shapes
from .arithmetic import ScalarOperator
from .operands import as_operands, is_number, is_unknown


class EWisePow(Elementwise):
    """y = a ** b."""

    label = "power"
    domain = (0.5, 2.0)

    def expression(self, e: Any, a: Any, b: Any) -> Any:
        return e.pow(a, b)

    def compute(self, a: Any, b: Any) -> Any:
        if a.dtype.kind != "f" and b.dtype.kind == "i" and (b < 0).any():
            raise ArgumentError(
                f"power: integers ({a.dtype}) to negative integer powers are no integers. "
                'Write a.astype("float64") ** b'
            )
        return super().compute(a, b)

    def gradient(self, out_grad: Any, node: Any) -> Any:
        a, b = node.inputs
        one = a.ones_like()
        base_grad, exponent_grad = None, None
        if a.requires_grad:
            # a ** 0 is constant, also at a = 0, where 0 * 0 ** -1 would be NaN. Elsewhere a stays
            # what it is: b * a ** (b - 1) is differentiated by b.
            some = a.where(a.abs().greater(0), one)
            base = some.where(b.equal(0), a)
            base_grad = out_grad * b * base ** (b - 1.0)
        if b.requires_grad:
            # Where a is 0 the power is constant in b (0 ** b = 0), and log(0) must not be formed;
            # of b < 0, where the power is infinite, the derivative is -inf, as in PyTorch.
            # In the result's dtype: the logarithm of a float32 has no digits of a float64.
            base = one.where(b.greater_equal(0), a).where(a.equal(0), a)
            exponent_grad = out_grad * node * base.astype(node.dtype).log()
        return base_grad, exponent_grad


def power(a: Any, b: Any) -> Any:
    """a to the power b, with NumPy's broadcasting, which is recorded: y = a ** b.

    Args:
        a, b: Tensors whose shapes broadcast; one of them may be a number.

    Raises:
        ShapeError: the shapes do not broadcast.
        ArgumentError: both are integers, and an exponent is negative.

    Example:
        >>> import needle as ndl
        >>> ndl.power(ndl.Tensor([2.0, 3.0]), ndl.Tensor([3.0, 2.0])).numpy()
        array([8., 9.])
    """
    if is_number(b, a):
        return PowerScalar(b)(a)
    a, b = as_operands(a, b, "power")
    shape = broadcast_shapes(a.shape, b.shape)
    if shape is not None and a.shape != b.shape and not (a.weak or b.weak):
        a, b = (t if t.shape == shape else t.broadcast_to(shape) for t in (a, b))
    return _POW(a, b)


class PowerScalar(ScalarOperator):
    """y = a ** c."""

    domain = (0.5, 2.0)
    examples = ((2,), (-1.0,), (0.5,), (0,), (3,), (2.5,))

    def expression(self, e: Any, a: Any) -> Any:
        if self.scalar < 0 and a.dtype.kind != "f":
            return a ** float(self.scalar)
        return a**self.scalar

    def gradient(self, out_grad: Any, node: Any) -> Any:
        if self.scalar == 0:
            return out_grad.zeros_like()
        return out_grad * (node.inputs[0] ** (self.scalar - 1) * self.scalar)


def power_scalar(a: Any, scalar: Any) -> Any:
    """a to a fixed power: y = a ** c.

    Args:
        a: Tensor of any shape.
        scalar: Any real number; a negative one makes integers and bools float64.

    Example:
        >>> import needle as ndl
        >>> ndl.power_scalar(ndl.Tensor([4.0, 9.0]), 0.5).numpy()
        array([2., 3.])
    """
    return power(a, scalar) if is_unknown(scalar) else PowerScalar(scalar)(a)


_POW = EWisePow()
