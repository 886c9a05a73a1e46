"""Constants and plain random tensors."""

from __future__ import annotations

from typing import Any

from ..device import Device, check_device
from ..ops.creation import full
from ..ops.indexing import OneHot
from ..ops.operands import as_tensor
from ..ops.random import Bernoulli, Normal, Uniform
from ..shapes import as_shape
from ..tensor import Tensor


def _sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """`zeros(2, 3)` and `zeros((2, 3))` mean the same."""
    return as_shape(shape[0] if len(shape) == 1 else shape, "init")


def _finished(result: Any, device: Device | None, requires_grad: bool) -> Tensor:
    check_device(device, "init")
    result.requires_grad = requires_grad
    return result


def rand(
    *shape: int,
    low: float = 0.0,
    high: float = 1.0,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Uniform numbers: `np.random.rand(*shape) * (high - low) + low`, then cast.

    Args:
        shape: Sizes of the axes.
        low, high: Limits of the interval [low, high).
        device: `ndl.cpu()` or None.
        dtype: Of the result; the draw itself is float64.
        requires_grad: Whether the result asks for a gradient.

    Example:
        >>> import needle as ndl
        >>> ndl.init.rand(2, 3, low=-1.0).shape
        (2, 3)
    """
    return _finished(Uniform(_sizes(shape), low, high, dtype)(), device, requires_grad)


def randn(
    *shape: int,
    mean: float = 0.0,
    std: float = 1.0,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers: `np.random.randn(*shape) * std + mean`, then cast.

    Args:
        shape: Sizes of the axes.
        mean, std: Mean and standard deviation.
        device: `ndl.cpu()` or None.
        dtype: Of the result; the draw itself is float64.
        requires_grad: Whether the result asks for a gradient.

    Example:
        >>> import needle as ndl
        >>> ndl.init.randn(2, 3).dtype
        dtype('float32')
    """
    return _finished(Normal(_sizes(shape), mean, std, dtype)(), device, requires_grad)


def randb(
    *shape: int,
    p: float = 0.5,
    device: Device | None = None,
    dtype: Any = "bool",
    requires_grad: bool = False,
) -> Tensor:
    """True with probability p: `np.random.rand(*shape) <= p`, then cast.

    Args:
        shape: Sizes of the axes.
        p: Probability of true.
        device: `ndl.cpu()` or None.
        dtype: Of the result.
        requires_grad: Whether the result asks for a gradient.

    Raises:
        ArgumentError: p is outside [0, 1].

    Example:
        >>> import needle as ndl
        >>> ndl.init.randb(2, p=1.0).numpy()
        array([ True,  True])
    """
    return _finished(Bernoulli(_sizes(shape), p, dtype)(), device, requires_grad)


def constant(
    *shape: int,
    c: float = 1.0,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """A tensor that holds `c` everywhere.

    Example:
        >>> import needle as ndl
        >>> ndl.init.constant(2, c=0.5).numpy()
        array([0.5, 0.5], dtype=float32)
    """
    return _finished(full(_sizes(shape), c, dtype), device, requires_grad)


def ones(
    *shape: int, device: Device | None = None, dtype: Any = "float32", requires_grad: bool = False
) -> Tensor:
    """A tensor of ones.

    Example:
        >>> import needle as ndl
        >>> ndl.init.ones(2).numpy()
        array([1., 1.], dtype=float32)
    """
    return constant(*shape, c=1, device=device, dtype=dtype, requires_grad=requires_grad)


def zeros(
    *shape: int, device: Device | None = None, dtype: Any = "float32", requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros.

    Example:
        >>> import needle as ndl
        >>> ndl.init.zeros(2).numpy()
        array([0., 0.], dtype=float32)
    """
    return constant(*shape, c=0, device=device, dtype=dtype, requires_grad=requires_grad)


def ones_like(array: Any, *, device: Device | None = None, requires_grad: bool = False) -> Tensor:
    """Ones of another tensor's shape and dtype.

    Example:
        >>> import needle as ndl
        >>> ndl.init.ones_like(ndl.Tensor([3, 4])).numpy()
        array([1, 1])
    """
    return _finished(as_tensor(array).ones_like(), device, requires_grad)


def zeros_like(array: Any, *, device: Device | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros of another tensor's shape and dtype.

    Example:
        >>> import needle as ndl
        >>> ndl.init.zeros_like(ndl.Tensor([3, 4])).numpy()
        array([0, 0])
    """
    return _finished(as_tensor(array).zeros_like(), device, requires_grad)


def one_hot(
    n: int,
    i: Any,
    device: Device | None = None,
    dtype: Any = "float32",
    requires_grad: bool = False,
) -> Tensor:
    """Rows of the identity matrix for class indices of any shape and dtype.

    Args:
        n: Number of classes.
        i: Tensor or array of whole numbers from 0 to n - 1.
        device: `ndl.cpu()` or None.
        dtype: Of the result.
        requires_grad: Whether the result asks for a gradient.

    Raises:
        IndexRangeError: an index is outside 0 … n - 1.

    Example:
        >>> import needle as ndl
        >>> ndl.init.one_hot(3, ndl.Tensor([2])).numpy()
        array([[0., 0., 1.]], dtype=float32)
    """
    return _finished(OneHot(n, dtype)(i), device, requires_grad)
