"""What networks are put together of: `Linear`, containers, and layers without parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from .. import init, ops
from ..device import Device
from ..errors import ArgumentError, ShapeError
from ..ops.operands import as_probability, as_tensor
from ..shapes import as_count, as_float_dtype
from ..tensor import Tensor
from .module import Module, Parameter


class Identity(Module):
    """y = x.

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Identity()(ndl.Tensor([1.0])).numpy()
        array([1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return x


class Flatten(Module):
    """All axes but the first as one: (N, …) → (N, D).

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Flatten()(ndl.init.zeros(2, 3, 4)).shape
        (2, 12)
    """

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if x.ndim == 0:
            raise ShapeError("input of shape () has no batch axis. Pass at least one axis")
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))


class Linear(Module):
    """y = x W + b.

    Args:
        in_features, out_features: Sizes of the last axis of input and output.
        bias: Whether b is added.
        device: `ndl.cpu()` or None.
        dtype: Of the parameters.

    Shape:
        Input (…, in_features), output (…, out_features), any number of batch axes. `weight` is
        (in_features, out_features), Kaiming uniform with fan_in = in_features; `bias` is
        (1, out_features), Kaiming uniform with fan_in = out_features, drawn after it.

    Raises:
        ArgumentError: a size is no positive integer.
        DTypeError: dtype is none of floats.
        ShapeError: the input's last axis is not in_features.

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Linear(3, 2)(ndl.init.ones(5, 3)).shape
        (5, 2)
    """

    bias: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | None = None,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        self.in_features = as_count(in_features, "Linear", "in_features", 1)
        self.out_features = as_count(out_features, "Linear", "out_features", 1)
        dtype = as_float_dtype(dtype, "Linear")
        weight = init.kaiming_uniform(in_features, out_features, device=device, dtype=dtype)
        self.weight = Parameter(weight)
        self.bias = None
        if bias:
            column = init.kaiming_uniform(out_features, 1, device=device, dtype=dtype)
            self.bias = Parameter(column.reshape((1, out_features)))

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        inputs, outputs = self.weight.shape
        if x.ndim == 0 or x.shape[-1] != inputs:
            raise ShapeError(
                f"input of shape {x.shape} for in_features={inputs}. Pass shape (batch, {inputs})"
            )
        rows = x.reshape((1, inputs)) if x.ndim == 1 else x
        y = rows @ self.weight if self.bias is None else ops.affine(rows, self.weight, self.bias)
        return y.reshape((outputs,)) if x.ndim == 1 else y

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + (
            "" if self.bias is not None else ", bias=False"
        )


class Sequential(Module):
    """The modules one after the other: y = m_k(… m_1(x)). They are kept in the tuple `modules`.

    `model[i]` is one of them, and `model[:-1]` a Sequential of several.

    Args:
        modules: Modules or functions, in the order in which they run.

    Raises:
        ArgumentError: one of them cannot be called, or is a class of modules.

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Sequential(ndl.nn.Linear(3, 2), ndl.nn.ReLU())(ndl.init.ones(5, 3)).shape
        (5, 2)
    """

    modules: Any

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        for position, module in enumerate(modules):
            _check_callable(module, f"Sequential: argument {position}")
        self.modules = modules

    def forward(self, x: Any) -> Any:
        for module in self.modules:
            x = module(x)
        return x

    def __len__(self) -> int:
        return len(self.modules)

    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return self.modules[index]
        part = Sequential(*self.modules[index])
        part.training = self.training
        return part

    def __iter__(self) -> Iterator[Any]:
        return iter(self.modules)


def _check_callable(module: Any, what: str) -> None:
    if isinstance(module, type) and issubclass(module, Module):
        name = module.__name__
        raise ArgumentError(f"{what} is the class {name}. Make a module of it: {name}(…)")
    if not callable(module):
        star = " (of a list, with a star: *layers)" if isinstance(module, list | tuple) else ""
        raise ArgumentError(f"{what} is a {type(module).__name__}. Pass modules{star}")


class Residual(Module):
    """y = fn(x) + x (He et al. 2016, equation 1).

    Args:
        fn: Module or function that keeps its input's shape.

    Raises:
        ArgumentError: fn cannot be called, or is a class of modules.

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Residual(ndl.nn.Identity())(ndl.Tensor([1.0])).numpy()
        array([2.])
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        _check_callable(fn, "Residual: fn")
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x) + x


class Dropout(Module):
    """Zeroes elements with probability p and divides the rest by 1 - p; y = x in evaluation.

    Args:
        p: Probability of zero, 0 <= p <= 1.

    The mask is `init.randb(*x.shape, p=1 - p)`, one draw a call (Srivastava et al. 2014).

    Raises:
        ArgumentError: p is outside [0, 1].

    Example:
        >>> import needle as ndl
        >>> ndl.nn.Dropout(0.5).eval()(ndl.Tensor([1.0])).numpy()
        array([1.])
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = as_probability(p, "Dropout")

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x)
        if not self.training:
            return x
        mask = init.randb(*x.shape, p=1 - self.p, dtype=x.dtype)
        return x * mask / (1 - self.p) if self.p < 1 else x * mask

    def extra_repr(self) -> str:
        return f"p={self.p}"
