"""The update rules: SGD, Adam, AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from ..ops.update import (
    AdamDecayUpdate,
    AdamEps,
    AdamRate,
    AdamUpdate,
    AdamWUpdate,
    MomentumUpdate,
    SGDUpdate,
)
from ..tensor import Tensor
from .optimizer import Optimizer, Row
from .remembered import Remembers

_SGD, _MOMENTUM = SGDUpdate(), MomentumUpdate()
_ADAM, _ADAM_DECAY, _ADAMW = AdamUpdate(), AdamDecayUpdate(), AdamWUpdate()
_RATE, _EPS = AdamRate(), AdamEps()


def _operands(rows: list[Row], *names: str) -> list[tuple[Tensor, ...]]:
    """Of each row the parameter, its gradient, and its state of these names: zeros at first."""
    return [
        (param, grad, *[state[name] if name in state else param.zeros_like() for name in names])
        for param, grad, state in rows
    ]


class SGD(Optimizer):
    """g ← ∇ + λθ; u ← βu + (1 - β)g, u starting at 0; θ ← θ - η·u.

    Args:
        params: The parameters.
        lr: η.
        momentum: β. Without momentum u is g.
        weight_decay: λ.

    Raises:
        ArgumentError: a negative value, β of 1 or more, or no number.

    Example:
        >>> import needle as ndl
        >>> w = ndl.nn.Parameter([1.0])
        >>> (w * w).backward()
        >>> ndl.optim.SGD([w], lr=0.25).step()
        >>> w.numpy()
        array([0.5])
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ("lr", "momentum", "weight_decay")
    bounds: ClassVar[dict[str, float]] = {"lr": math.inf, "momentum": 1, "weight_decay": math.inf}
    elementwise_state: ClassVar[tuple[str, ...]] = ("u",)
    u = Remembers("The momentum of each parameter.")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay

    def updates(self, rows: list[Row]) -> Iterator[Tensor]:
        if self.momentum == 0:
            plain = [(param, grad) for param, grad, _ in rows]
            for (new,) in _SGD.each(plain, (self.lr, self.weight_decay)):
                yield new
            return
        scalars = (self.lr, self.weight_decay, self.momentum, 1 - self.momentum)
        updated = _MOMENTUM.each(_operands(rows, "u"), scalars)
        for (_, _, state), (new, u) in zip(rows, updated, strict=True):
            state["u"] = u
            yield new


class Adam(Optimizer):
    """m ← β₁m + (1 - β₁)g; v ← β₂v + (1 - β₂)g²; θ ← θ - η·m̂ / (√v̂ + eps), with g = ∇ + λθ.

    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) (Kingma & Ba 2015, algorithm 1).

    Args:
        params: The parameters.
        lr: η.
        beta1, beta2: Decay of the two moments.
        eps: Added outside the root.
        weight_decay: λ.

    Raises:
        ArgumentError: a negative value, β₁ or β₂ of 1 or more, or no number.

    Example:
        >>> import needle as ndl
        >>> w = ndl.nn.Parameter([1.0])
        >>> (w * w).backward()
        >>> ndl.optim.Adam([w], lr=0.5).step()
        >>> w.numpy().round(6)
        array([0.5])
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2", "eps", "weight_decay")
    bounds: ClassVar[dict[str, float]] = {
        **dict.fromkeys(("lr", "eps", "weight_decay", "t"), math.inf),
        **dict.fromkeys(("beta1", "beta2"), 1),
    }
    elementwise_state: ClassVar[tuple[str, ...]] = ("m", "v")
    m = Remembers("First moment of each parameter.")
    v = Remembers("Second moment of each parameter.")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params)
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.weight_decay = weight_decay
        self.steps = Tensor(0.0, dtype="float64", requires_grad=False)

    @property
    def t(self) -> int:
        """Number of steps made."""
        return int(self.steps)

    @t.setter
    def t(self, value: int) -> None:
        self.steps.data = Tensor(value, dtype="float64", requires_grad=False)

    def updates(self, rows: list[Row]) -> Iterator[Tensor]:
        self.steps.data = self.steps + 1
        rate = _RATE(self.steps, self.lr, self.beta1, self.beta2)
        eps = _EPS(self.steps, self.eps, self.beta2)
        rule, decay = self._rule()
        betas = (self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2)
        updated = rule.each(_operands(rows, "m", "v"), (*decay, rate, eps, *betas))
        for (_, _, state), (new, m, v) in zip(rows, updated, strict=True):
            state["m"], state["v"] = m, v
            yield new

    def _rule(self) -> tuple[AdamUpdate, tuple[Any, ...]]:
        """The operator that updates a parameter, and its decay."""
        if self.weight_decay == 0:
            return _ADAM, ()
        return _ADAM_DECAY, (self.weight_decay,)

    @property
    def _numbers(self) -> tuple[str, ...]:
        return ("t", *super()._numbers)


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ - η·λ·θ - η·m̂ / (√v̂ + eps).

    Loshchilov & Hutter 2019, algorithm 2. The gradient itself is not changed by λ.

    Args:
        params: The parameters.
        lr: η.
        beta1, beta2: Decay of the two moments.
        eps: Added outside the root.
        weight_decay: λ.

    Example:
        >>> import needle as ndl
        >>> w = ndl.nn.Parameter([1.0])
        >>> (w * w).backward()
        >>> ndl.optim.AdamW([w], lr=0.5, weight_decay=0.0).step()
        >>> w.numpy().round(6)
        array([0.5])
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, beta1, beta2, eps, weight_decay)

    def _rule(self) -> tuple[AdamUpdate, tuple[Any, ...]]:
        return _ADAMW, (1 - self.lr * self.weight_decay,)
