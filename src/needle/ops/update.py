"""Update rules of the optimisers, one elementwise operator each; hyperparameters are scalars."""

from __future__ import annotations

from typing import Any

from ..graph.kinds import Elementwise
from ..graph.op import TensorTupleOp


class UpdateRule(Elementwise, TensorTupleOp, abstract=True):
    """Base of the rules: (new parameter, new state…) of parameter, gradient, state and scalars.

    The scalars are run-time operands, not static arguments: they may change at any step.
    """

    differentiable = False


class RunningUpdate(UpdateRule):
    """r' = (1 - share)·r + share·b: a running statistic, moved towards that of a batch."""

    label = "running_update"
    scalars = 2

    def expression(self, e: Any, r: Any, b: Any, rest: Any, share: Any) -> Any:
        return (r * rest + b * share,)


class SGDUpdate(UpdateRule):
    """g' = g + λθ; θ' = θ - η g'."""

    label = "sgd_update"
    scalars = 2

    def expression(self, e: Any, p: Any, g: Any, lr: Any, weight_decay: Any) -> Any:
        return (p - (g + p * weight_decay) * lr,)


class MomentumUpdate(UpdateRule):
    """g' = g + λθ; u' = βu + (1 - β)g'; θ' = θ - η u'."""

    label = "momentum_update"
    scalars = 4

    def expression(
        self, e: Any, p: Any, g: Any, u: Any, lr: Any, weight_decay: Any, momentum: Any, rest: Any
    ) -> Any:
        u = u * momentum + (g + p * weight_decay) * rest
        return p - u * lr, u


class AdamUpdate(UpdateRule):
    """m' = β₁m + (1 - β₁)g; v' = β₂v + (1 - β₂)g²; θ' = θ - η (m'/c₁) / (√(v'/c₂) + ε); g = ∇ + λθ.

    c₁ = 1 - β₁ᵗ and c₂ = 1 - β₂ᵗ correct the bias (Kingma & Ba 2015, algorithm 1); their inverses
    are `scale1` and `scale2`. `decay` is AdamW's decoupled η·λ (Loshchilov & Hutter 2019, algorithm
    2), 0 for Adam.
    """

    label = "adam_update"
    domain = (0.0, 2.0)  # v is a mean of squares
    scalars = 10

    def expression(
        self, e: Any, p: Any, g: Any, m: Any, v: Any,
        lr: Any, decay: Any, weight_decay: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
        scale1: Any, scale2: Any, eps: Any,
    ) -> Any:  # fmt: skip
        g = g + p * weight_decay
        m = m * beta1 + g * rest1
        v = v * beta2 + g * g * rest2
        step = (m * scale1) / (e.sqrt(v * scale2) + eps)
        return p - p * decay - step * lr, m, v
