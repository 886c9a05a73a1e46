"""The update rules: SGD, Adam, AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ..ops.update import AdamUpdate, MomentumUpdate, SGDUpdate
from ..tensor import Tensor
from .optimizer import Optimizer

_SGD, _MOMENTUM, _ADAM = SGDUpdate(), MomentumUpdate(), AdamUpdate()


class SGD(Optimizer):
    """g ← ∇ + λθ; u ← βu + (1 - β)g, u starting at 0; θ ← θ - η·u.

    Args:
        params: The parameters.
        lr: η.
        momentum: β. Without momentum u is g.
        weight_decay: λ.

    Example:
        >>> import needle as ndl
        >>> w = ndl.nn.Parameter([1.0])
        >>> (w * w).backward()
        >>> ndl.optim.SGD([w], lr=0.25).step()
        >>> w.numpy()
        array([0.5])
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ("lr", "momentum", "weight_decay")
    elementwise_state: ClassVar[tuple[str, ...]] = ("u",)

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

    @property
    def u(self) -> dict[Tensor, Tensor]:
        """The momentum of each parameter."""
        return {param: state["u"] for param, state in self.state.items() if "u" in state}

    def update(self, param: Tensor, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        if self.momentum == 0:
            return _SGD(param, grad, self.lr, self.weight_decay)[0]
        u = state["u"] if "u" in state else param.zeros_like()
        new, state["u"] = _MOMENTUM(
            param, grad, u, self.lr, self.weight_decay, self.momentum, 1 - self.momentum
        )
        return new


class Adam(Optimizer):
    """m ← β₁m + (1 - β₁)g; v ← β₂v + (1 - β₂)g²; θ ← θ - η·m̂ / (√v̂ + eps), with g = ∇ + λθ.

    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) (Kingma & Ba 2015, algorithm 1).

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
        >>> ndl.optim.Adam([w], lr=0.5).step()
        >>> w.numpy().round(6)
        array([0.5])
    """

    hyperparameters: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2", "eps", "weight_decay")
    elementwise_state: ClassVar[tuple[str, ...]] = ("m", "v")

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
        self._scales: tuple[Any, Any] = (1.0, 1.0)

    @property
    def t(self) -> int:
        """Number of steps made."""
        return int(self.steps)

    @t.setter
    def t(self, value: int) -> None:
        self.steps.data = Tensor(value, dtype="float64", requires_grad=False)

    @property
    def m(self) -> dict[Tensor, Tensor]:
        """First moment of each parameter."""
        return {param: state["m"] for param, state in self.state.items()}

    @property
    def v(self) -> dict[Tensor, Tensor]:
        """Second moment of each parameter."""
        return {param: state["v"] for param, state in self.state.items()}

    def step(self) -> None:
        super().step()
        self._scales = (1.0, 1.0)

    def begin_step(self) -> None:
        self.steps.data = self.steps + 1
        self._scales = (1 / (1 - self.beta1**self.steps), 1 / (1 - self.beta2**self.steps))

    def _decays(self) -> tuple[Any, Any]:
        """Decoupled decay a step, and decay added to the gradient."""
        return 0.0, self.weight_decay

    def update(self, param: Tensor, grad: Tensor, state: dict[str, Tensor]) -> Tensor:
        m = state["m"] if "m" in state else param.zeros_like()
        v = state["v"] if "v" in state else param.zeros_like()
        decoupled, added = self._decays()
        new, state["m"], state["v"] = _ADAM(
            param, grad, m, v, self.lr, decoupled, added,
            self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2, *self._scales, self.eps,
        )  # fmt: skip
        return new

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

    def _decays(self) -> tuple[Any, Any]:
        return self.lr * self.weight_decay, 0.0
