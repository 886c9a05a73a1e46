"""`Optimizer`: walks the parameters; a subclass says how one parameter is updated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from ..context import no_grad
from ..errors import ArgumentError, DTypeError, ShapeError, StateError
from ..ops.operands import as_number, is_unknown
from ..shapes import holds_several
from ..state import Stateful, Telling, TellingList, by_name
from ..tensor import Tensor
from .loading import fits, take_over, tensors_of

Row = tuple[Tensor, Tensor, dict[str, Tensor]]
"""A parameter, its gradient, and what is remembered of it."""


class Optimizer(Stateful):
    """Base of the optimisers: define `update(param, grad, state)`, the parameter's new value.

    Args:
        params: The parameters, such as `model.parameters()`; one that is given twice counts once.

    What is kept in `state` and the numbers named in `hyperparameters` make up `state_dict()`.

    Raises:
        ArgumentError: params is no list of tensors, or empty.

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
    """Attributes that are numbers of the rule; they may be changed between steps."""
    bounds: ClassVar[dict[str, float]] = {}
    """Which numbers are to be 0 or more, and below what."""
    elementwise_state: ClassVar[tuple[str, ...]] = ()
    """Names in `state` of tensors that have their parameter's shape, where the rule has any."""

    def __init__(self, params: Iterable[Tensor]) -> None:
        # Of a set, too, which has another order in the next process: saved state goes by it.
        if isinstance(params, Tensor | Stateful) or not holds_several(params):
            raise ArgumentError(
                f"{type(self).__name__}: params is a {type(params).__name__}. "
                "Pass a list: model.parameters()"
            )
        given = list(params)
        if not given:
            raise ArgumentError(
                f"{type(self).__name__}: params is empty, so no step would change anything. Pass "
                "model.parameters(), which finds layers in attributes, lists, tuples and dicts"
            )
        for param in given:
            if not isinstance(param, Tensor):
                raise ArgumentError(
                    f"{type(self).__name__}: params holds a {type(param).__name__}. "
                    "Pass tensors: model.parameters()"
                )
        self.params: list[Tensor] = TellingList(dict.fromkeys(given))
        self.state: dict[Tensor, dict[str, Tensor]] = Telling()

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._allows(name, value):
            bound = self.bounds[name]
            limit = "" if bound == math.inf else f" and below {bound:g}"
            raise ArgumentError(
                f"{type(self).__name__}: {name}={value!r}. Pass a finite number, 0 or more{limit}"
            )
        # Programs read hyperparameters at each call: a schedule need not make them look again.
        if name in self.hyperparameters and _is_rate(value) and _is_rate(vars(self).get(name)):
            vars(self)[name] = value
        else:
            super().__setattr__(name, value)

    def __repr__(self) -> str:
        numbers = [f"{name}={getattr(self, name, None)!r}" for name in self.hyperparameters]
        return f"{type(self).__name__}({', '.join(numbers)})"

    def _allows(self, name: str, value: Any) -> bool:
        """Whether a number may have a value; one in a tensor is taken as it is."""
        if name not in self.bounds or isinstance(value, Tensor):
            return True
        try:
            return not isinstance(value, str) and 0 <= float(value) < self.bounds[name]
        except (TypeError, ValueError, OverflowError):
            return False

    def update(self, param: Tensor, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        """The new value of one parameter.

        Args:
            param: Its value now.
            grad: Its gradient, of the same shape; not to be modified.
            state: What the rule remembers of this parameter, as tensors by name; empty at first.
        """
        raise NotImplementedError(f"{type(self).__name__}: define update(self, param, grad, state)")

    def updates(self, rows: list[Row]) -> Iterable[Tensor]:
        """The new values of all parameters of a step; the library's own rules override it.

        Args:
            rows: Parameter, gradient and state of each, as `update` takes them.

        Raises:
            ShapeError: `update` returned something of another shape.
        """
        for row in rows:
            new: Any = self.update(*row)
            shape, kind = row[0].shape, type(new).__name__
            if getattr(new, "shape", None) != shape:
                given = f"{kind} of shape {new.shape}" if hasattr(new, "shape") else kind
                raise ShapeError(
                    f"{type(self).__name__}: update returned a {given} for a parameter of shape "
                    f"{shape}. Return the parameter's new value"
                )
            yield new

    def step(self) -> None:
        """Update every parameter that has a gradient; the others are skipped."""
        with no_grad():
            rows: list[Row] = []
            for param in self.params:
                grad = param.grad
                if grad is not None:
                    known = self.state.get(param)
                    grad = self._fitting(grad, param)
                    rows.append((param, grad, Telling() if known is None else known))
            for (param, _, state), new in zip(rows, self.updates(rows), strict=True):
                param.data = new
                if state and param not in self.state:
                    self.state[param] = state

    def _fitting(self, grad: Tensor, param: Tensor) -> Tensor:
        """A parameter's gradient in its own dtype: programs may have put another one there.

        Raises:
            ShapeError: it has another shape; rules would name their operands alone.
            DTypeError: the parameter is of integers.
        """
        if grad.shape != param.shape:
            raise ShapeError(
                f"{type(self).__name__}: parameter {self.params.index(param)} of shape "
                f"{param.shape} has a gradient of shape {grad.shape}. Give it one of its own shape"
            )
        dtype = param.dtype
        if grad.dtype is dtype:
            return grad
        if dtype.kind != "f":
            raise DTypeError(
                f"{type(self).__name__}: a parameter of {dtype} cannot take steps of its gradient, "
                f'which is {grad.dtype}. Make it with dtype="float32"'
            )
        return grad.astype(dtype)

    def reset_grad(self) -> None:
        """Set `.grad` of every parameter to None."""
        for param in self.params:
            param.grad = None

    def zero_grad(self) -> None:
        """The same as `reset_grad`, under PyTorch's name."""
        self.reset_grad()

    def clip_grad_norm(self, max_norm: float = 0.25) -> Tensor:
        """Scale all gradients by max_norm / norm where their joint 2-norm exceeds max_norm.

        A float argument of a jitted function is not looked at: it is known when a program runs.

        Returns:
            The norm before clipping, shape ().

        Raises:
            ArgumentError: max_norm is not positive, or no number.

        Example:
            >>> import needle as ndl
            >>> w = ndl.nn.Parameter([3.0, 4.0])
            >>> (w * w / 2).backward()
            >>> norm = ndl.optim.SGD([w]).clip_grad_norm(1.0)
            >>> float(norm), w.grad.numpy()
            (5.0, array([0.6, 0.8]))
        """
        if not is_unknown(max_norm):
            max_norm = as_number(max_norm, "clip_grad_norm")
            if not max_norm > 0:
                raise ArgumentError(
                    f"clip_grad_norm: max_norm={max_norm} is not positive. Pass a norm > 0"
                )
        with no_grad():
            gradients = [(p, self._fitting(p.grad, p)) for p in self.params if p.grad is not None]
            total = Tensor(0.0, dtype="float64", requires_grad=False)
            for _, grad in gradients:
                # In float64, where squares of exploding float32 gradients do not overflow.
                wide = grad.astype("float64")
                total = total + (wide * wide).sum()
            norm = total.sqrt()
            scale = 1 / (norm / max_norm).maximum(1)
            for param, grad in gradients:
                param.grad = grad * scale.astype(grad.dtype).broadcast_to(grad.shape)
        return norm

    # -- state -----------------------------------------------------------------------------------

    @property
    def _numbers(self) -> tuple[str, ...]:
        """Attributes that are saved as numbers."""
        return self.hyperparameters

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of what is remembered: `lr`, …, and `m.0`, … for the state of parameter 0.

        Raises:
            StateError: an entry of `state` is no tensor, or a hyperparameter no attribute.
        """
        for name in self._numbers:
            if not hasattr(self, name):
                kind = type(self).__name__
                raise StateError(
                    f"state_dict: {name} is among the hyperparameters of {kind}, which has no such "
                    f"attribute. Set self.{name}, or name those that it has: hyperparameters = ()"
                )
        result = {name: np.array(getattr(self, name), np.float64) for name in self._numbers}
        for position, param in enumerate(self.params):
            for name, tensor in self.state.get(param, {}).items():
                if not isinstance(tensor, Tensor):
                    raise StateError(
                        f"state_dict: {name}.{position} is a {type(tensor).__name__}, which is not "
                        "stored. Keep tensors in state: ndl.Tensor(…, requires_grad=False)"
                    )
                result[f"{name}.{position}"] = np.array(tensor.numpy(), order="C")
        return result

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a `state_dict()` of an optimiser over the same parameters.

        Raises:
            StateError: `state` is no dict; or lists all names that are missing, unexpected, wrongly
                shaped or no numbers; nothing is loaded then.
        """
        state = by_name(state)
        problems = [f"{name} is missing" for name in self._numbers if name not in state]
        problems += [
            f"{name} is {state[name]!r:.50}, which cannot replace {getattr(self, name)!r}"
            for name in self._numbers
            if name in state
            and not (fits(state[name], getattr(self, name)) and self._allows(name, state[name]))
        ]
        others = {key: value for key, value in state.items() if key not in self._numbers}
        loaded = tensors_of(others, self.params, self.elementwise_state, problems)
        if problems:
            raise StateError(
                f"load_state_dict: {type(self).__name__} does not fit: {'; '.join(problems)}. "
                "Build the same optimiser over the same model"
            )
        for param in self.params:
            take_over(self.state, param, loaded.get(param))
        for name in self._numbers:
            setattr(self, name, np.asarray(state[name]).tolist())


def _is_rate(value: Any) -> bool:
    """Whether a value is a number that is not 0: where it is 0, programs may leave things out."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0
