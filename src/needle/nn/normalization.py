"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from .. import init
from ..device import Device
from ..errors import ShapeError
from ..ops.affine import scale_shift
from ..ops.batch_norm import batch_norm
from ..ops.normalization import standardize
from ..ops.operands import as_bounded, as_tensor
from ..shapes import as_float_dtype, as_int
from ..tensor import Tensor
from .module import Module, Parameter


class BatchNorm1d(Module):
    """y = w · (x - μ) / √(σ² + eps) + b, over the batch (Ioffe & Szegedy 2015, algorithm 1).

    Args:
        dim: Number of features.
        eps: Added to the variance, inside the root.
        momentum: Share of the batch in the running statistics,
            running ← (1 - momentum)·running + momentum·batch.
        device: `ndl.cpu()` or None.
        dtype: Of parameters and statistics.

    Shape:
        Input and output (batch, dim). `weight`, `bias`, `running_mean`, `running_var`: (dim,).

    In training μ and the biased σ² are the batch's, and enter the running values; in evaluation the
    running values are used.

    Raises:
        ArgumentError: dim is no integer, eps not 0 or more, or momentum not from 0 to 1.
        DTypeError: dtype is none of floats.
        ShapeError: the input is not (batch, dim).

    Example:
        >>> import needle as ndl
        >>> x = ndl.Tensor([[0.0, 2.0], [2.0, 4.0]], dtype="float32")
        >>> ndl.nn.BatchNorm1d(2)(x).numpy().round(3)
        array([[-1., -1.],
               [ 1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        device: Device | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.dim = dim = as_int(dim, "BatchNorm1d", "dim")
        dtype = as_float_dtype(dtype, "BatchNorm1d")
        self.eps = as_bounded(eps, "BatchNorm1d", "eps")
        self.momentum = as_bounded(momentum, "BatchNorm1d", "momentum", 1)
        self.weight = Parameter(init.ones(dim, dtype=dtype), device=device)
        self.bias = Parameter(init.zeros(dim, dtype=dtype), device=device)
        self.running_mean = init.zeros(dim, device=device, dtype=dtype)
        self.running_var = init.ones(dim, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = _checked(x, self.dim)
        if self.training:
            mean, var = self.running_mean, self.running_var
            y, new_mean, new_var = batch_norm(
                x, self.weight, self.bias, mean, var, self.momentum, self.eps
            )
            mean.data, var.data = new_mean.astype(mean.dtype), new_var.astype(var.dtype)
            return y
        centred = x + (-self.running_mean).broadcast_to(x.shape)
        normal = centred * (1 / (self.running_var + self.eps) ** 0.5).broadcast_to(x.shape)
        return scale_shift(normal, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, momentum={self.momentum}"


class LayerNorm1d(Module):
    """y = w · (x - μ) / √(σ² + eps) + b, over each sample's features (Ba, Kiros & Hinton 2016).

    Args:
        dim: Number of features.
        eps: Added to the variance, inside the root.
        device: `ndl.cpu()` or None.
        dtype: Of the parameters.

    Shape:
        Input and output (batch, dim). `weight` and `bias`: (dim,).

    Raises:
        ArgumentError: dim is no integer, or eps not 0 or more.
        DTypeError: dtype is none of floats.
        ShapeError: the input is not (batch, dim).

    Example:
        >>> import needle as ndl
        >>> ndl.nn.LayerNorm1d(2)(ndl.Tensor([[0.0, 2.0]], dtype="float32")).numpy().round(3)
        array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self, dim: int, eps: float = 1e-5, device: Device | None = None, dtype: Any = "float32"
    ) -> None:
        super().__init__()
        self.dim = dim = as_int(dim, "LayerNorm1d", "dim")
        dtype = as_float_dtype(dtype, "LayerNorm1d")
        self.eps = as_bounded(eps, "LayerNorm1d", "eps")
        self.weight = Parameter(init.ones(dim, dtype=dtype), device=device)
        self.bias = Parameter(init.zeros(dim, dtype=dtype), device=device)

    def forward(self, x: Tensor) -> Tensor:
        x = _checked(x, self.dim)
        normal = standardize(x, 1, self.eps)
        return scale_shift(normal, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}"


def _checked(x: Tensor, dim: int) -> Tensor:
    x = as_tensor(x)
    if x.ndim != 2 or x.shape[1] != dim:
        raise ShapeError(f"input of shape {x.shape} for dim={dim}. Pass shape (batch, {dim})")
    return x
