"""Update rules of the optimisers, one elementwise operator each; hyperparameters are scalars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..context import ambient
from ..graph.evaluate import Eager, weak_scalars
from ..graph.kinds import Elementwise, ElementwiseTuple
from ..graph.node import Node, new_handle, settled

Row = tuple[Any, ...]
Arrays = list[np.ndarray[Any, Any]]

_FEW = 8192
"""Elements of a tensor up to which calling NumPy takes longer than computing."""


class UpdateRule(ElementwiseTuple, abstract=True):
    """Base of the rules: (new parameter, new state…) of parameter, gradient, state and scalars.

    The scalars are run-time operands, not static arguments: they may change at any step.
    """

    differentiable = False

    def each(self, rows: Sequence[Row], scalars: Row) -> list[Row]:
        """The rule on every row of tensors with the same scalars, for each row a tuple of tensors.

        Computed at once, small tensors are laid side by side and updated in one go: a network has
        many vectors of a few elements, and most of their time goes into calling NumPy.
        """
        if type(ambient.evaluator) is not Eager:
            return [tuple(self(*row, *scalars)) for row in rows]
        arrays = [[_storage(value) for value in row] for row in rows]
        groups: dict[Any, list[int]] = {}
        for place, operands in enumerate(arrays):
            first = operands[0]
            shape, dtype = first.shape, first.dtype
            together = first.size <= _FEW
            for array in operands:
                if array.shape != shape:
                    self(*rows[place], *scalars)  # says what is wrong
                together = together and array.dtype is dtype
            groups.setdefault(dtype.char if together else place, []).append(place)
        numbers = [float(number) for number in scalars]
        results: list[Row] = [()] * len(rows)
        for places in groups.values():
            updated = self._together([arrays[place] for place in places], numbers)
            for place, parts in zip(places, updated, strict=True):
                results[place] = parts
        return results

    def _together(self, rows: list[Arrays], numbers: list[float]) -> list[Row]:
        """The rule on rows of one dtype, side by side."""
        scalars = weak_scalars(numbers, rows[0])
        if len(rows) == 1:
            return [tuple(map(_tensor, self.evaluate(*rows[0], *scalars)))]
        columns = [np.concatenate(column, axis=None) for column in zip(*rows, strict=True)]
        parts = self.evaluate(*columns, *scalars)
        results: list[Row] = []
        end = 0
        for array in [row[0] for row in rows]:
            start, end = end, end + array.size
            shape = array.shape
            results.append(tuple([_tensor(part[start:end].reshape(shape)) for part in parts]))
        return results


def _storage(value: Any) -> Any:
    storage = value.node.storage
    return settled(value).node.storage if storage is None else storage


def _tensor(array: Any) -> Any:
    return new_handle(Node(None, (), array, False))


class SGDUpdate(UpdateRule):
    """g' = g + λθ; θ' = θ - η g'."""

    label = "sgd_update"
    scalars = 2

    def expression(self, e: Any, p: Any, g: Any, lr: Any, weight_decay: Any) -> Any:
        return (p - (g + p * weight_decay) * lr,)


class MomentumUpdate(UpdateRule):
    """g' = g + λθ; u' = βu + (1 - β)g'; θ' = θ - η u'."""

    scalars = 4

    def expression(
        self, e: Any, p: Any, g: Any, u: Any, lr: Any, weight_decay: Any, momentum: Any, rest: Any
    ) -> Any:
        u = u * momentum + (g + p * weight_decay) * rest
        return p - u * lr, u


class AdamUpdate(UpdateRule):
    """m' = β₁m + (1 - β₁)g; v' = β₂v + (1 - β₂)g²; θ' = θ - η' m' / (√v' + ε').

    η' and ε' come from `AdamRate` and `AdamEps` (Kingma & Ba 2015, the end of section 2).
    """

    domain = (0.0, 2.0)  # v is a mean of squares
    scalars = 6

    def expression(
        self, e: Any, p: Any, g: Any, m: Any, v: Any,
        rate: Any, eps: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
    ) -> Any:  # fmt: skip
        m = m * beta1 + g * rest1
        v = v * beta2 + g * g * rest2
        return p - m * rate / (e.sqrt(v) + eps), m, v


class AdamDecayUpdate(AdamUpdate):
    """`AdamUpdate` with λθ added to the gradient."""

    scalars = 7

    def expression(
        self, e: Any, p: Any, g: Any, m: Any, v: Any, weight_decay: Any,
        rate: Any, eps: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
    ) -> Any:  # fmt: skip
        g = g + p * weight_decay
        return super().expression(e, p, g, m, v, rate, eps, beta1, rest1, beta2, rest2)


class AdamWUpdate(AdamUpdate):
    """`AdamUpdate` of (1 - ηλ)θ; the gradient is left alone (Loshchilov & Hutter 2019)."""

    label = "adamw_update"
    scalars = 7

    def expression(
        self, e: Any, p: Any, g: Any, m: Any, v: Any, keep: Any,
        rate: Any, eps: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any,
    ) -> Any:  # fmt: skip
        p = p * keep
        return super().expression(e, p, g, m, v, rate, eps, beta1, rest1, beta2, rest2)


class AdamRate(Elementwise):
    """η' = η √(1 - β₂ᵗ) / (1 - β₁ᵗ), t steps made: corrects the bias of both moments."""

    differentiable = False
    domain = (0.5, 2.0)
    scalars = 3

    def expression(self, e: Any, t: Any, lr: Any, beta1: Any, beta2: Any) -> Any:
        return e.sqrt(1 - e.pow(beta2, t)) / (1 - e.pow(beta1, t)) * lr


class AdamEps(Elementwise):
    """ε' = ε √(1 - β₂ᵗ), t steps made: what `AdamRate` leaves to be said of ε."""

    differentiable = False
    domain = (0.5, 2.0)
    scalars = 2

    def expression(self, e: Any, t: Any, eps: Any, beta2: Any) -> Any:
        return e.sqrt(1 - e.pow(beta2, t)) * eps
