"""`Optimizer`: walks the parameters; a subclass says how one parameter is updated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from ..context import no_grad
from ..errors import ArgumentError, StateError
from ..nn.module import Module
from ..state import Stateful
from ..tensor import Tensor


class Optimizer(Stateful):
    """Base of the optimisers: define `update(param, grad, state)`, which returns the parameter's new value.

    Args:
        params: The parameters, such as `model.parameters()`.

    `hyperparameters` names the attributes that are numbers of the rule: they may be changed between steps.

    Example:
        >>> import needle as ndl
        >>> class SignSGD(ndl.optim.Optimizer):
        ...     def __init__(self, params, lr=0.01):
        ...         super().__init__(params)
        ...         self.lr = lr
        ...     def update(self, param, grad, state):
        ...         return param - grad.sign() * self.lr
        >>> w = ndl.nn.Parameter([1.0])
        >>> (w * w).backward()
        >>> SignSGD([w], lr=0.5).step()
        >>> w.numpy()
        array([0.5])
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ("lr",)

    def __init__(self, params: Iterable[Tensor]) -> None:
        if isinstance(params, Tensor | Module):
            raise ArgumentError(
                f"{type(self).__name__}: params is a {type(params).__name__}. Pass a list: model.parameters()"
            )
        self.params = list(params)
        if not all(isinstance(param, Tensor) for param in self.params):
            raise ArgumentError(f"{type(self).__name__}: params holds things that are not tensors")
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def update(self, param: Tensor, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The new value of one parameter.

        Args:
            param: Its value now.
            grad: Its gradient, of the same shape; not to be modified.
            state: What the rule remembers of this parameter, as tensors by name; empty at first.
        """
        raise NotImplementedError(f"{type(self).__name__}: define update(self, param, grad, state)")

    def begin_step(self) -> None:
        """Called once at the start of each `step`, for what the parameters have in common."""

    def step(self) -> None:
        """Update every parameter that has a gradient; the others are skipped."""
        with no_grad():
            self.begin_step()
            for param in self.params:
                if param.grad is not None:
                    state = self.state.get(param)
                    if state is None:
                        state = self.state[param] = {}
                    param.data = self.update(param, param.grad, state)

    def reset_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        for param in self.params:
            param.grad = None

    def zero_grad(self) -> None:
        """The same as `reset_grad`, under PyTorch's name."""
        self.reset_grad()

    def clip_grad_norm(self, max_norm: float = 0.25) -> Tensor:
        """Scale all gradients by max_norm / norm where their joint 2-norm exceeds max_norm.

        Returns:
            The norm before clipping, shape ().

        Raises:
            ArgumentError: max_norm is not positive.

        Example:
            >>> import needle as ndl
            >>> w = ndl.nn.Parameter([3.0, 4.0])
            >>> (w * w / 2).backward()
            >>> norm = ndl.optim.SGD([w]).clip_grad_norm(1.0)
            >>> float(norm), w.grad.numpy()
            (5.0, array([0.6, 0.8]))
        """
        if not max_norm > 0:
            raise ArgumentError(
                f"clip_grad_norm: max_norm={max_norm} is not positive. Pass a norm > 0"
            )
        clipped = [param for param in self.params if param.grad is not None]
        with no_grad():
            total = Tensor(0.0, dtype="float64", requires_grad=False)
            for param in clipped:
                total = total + (param.grad * param.grad).sum().astype("float64")
            norm = total.sqrt()
            scale = max_norm / norm.maximum(max_norm)
            for param in clipped:
                param.grad = param.grad * scale.astype(param.grad.dtype).broadcast_to(
                    param.grad.shape
                )
        return norm

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of what the optimiser remembers: `lr`, …, and `m.0`, … for the state of parameter 0."""
        result = {
            name: np.asarray(getattr(self, name), np.float64) for name in self.hyperparameters
        }
        for position, param in enumerate(self.params):
            for name, tensor in self.state.get(param, {}).items():
                result[f"{name}.{position}"] = np.array(tensor.numpy(), order="C")
        return result

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict()` of an optimiser over the same parameters.

        Raises:
            StateError: a name or shape does not fit; nothing is loaded then.
        """
        loaded: dict[Tensor, dict[str, Tensor]] = {}
        numbers: dict[str, float] = {}
        for key, value in state.items():
            name, _, position = key.rpartition(".")
            if not name and position in self.hyperparameters:
                numbers[position] = np.asarray(value).item()
                continue
            if not (name and position.isdigit() and int(position) < len(self.params)):
                raise StateError(
                    f"load_state_dict: {key!r} belongs to no parameter of this {type(self).__name__} with "
                    f"{len(self.params)} parameters. Build it over the same model"
                )
            param = self.params[int(position)]
            tensor = Tensor(value, requires_grad=False)
            if tensor.shape != param.shape:
                raise StateError(
                    f"load_state_dict: {key} has shape {tensor.shape}, its parameter {param.shape}. "
                    "Build the optimiser over the same model"
                )
            loaded.setdefault(param, {})[name] = tensor
        self.state = loaded
        for name, number in numbers.items():
            setattr(self, name, number)
