"""Loading an optimiser's state: all that does not fit is told at once, before anything changes.

::

    before: a `state_dict()`          after: what the rule remembers of each parameter

    {"lr": 0.1, "m.0": array, ...}    {params[0]: {"m": tensor}, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..state import Telling, taken_from
from ..tensor import Tensor


def tensors_of(
    state: Mapping[str, Any],
    params: Sequence[Tensor],
    elementwise: Sequence[str],
    problems: list[str],
) -> dict[Tensor, dict[str, Tensor]]:
    """The tensors in a saved state, by parameter and name.

    Args:
        state: As `state_dict()` gives it, but for numbers.
        params: The optimiser's, in order.
        elementwise: Names of tensors that have their parameter's shape.
        problems: What does not fit is put there.
    """
    loaded: dict[Tensor, dict[str, Tensor]] = {}
    by_position = {str(position): param for position, param in enumerate(params)}
    for key in state:
        name, _, position = str(key).rpartition(".")
        param = by_position.get(position) if name else None
        if param is None:
            problems.append(f"{key} is unexpected")
            continue
        tensor = taken_from(state, key, None, problems)
        if tensor is None:
            continue
        loaded.setdefault(param, {})[name] = tensor
        if name in elementwise and tensor.shape != param.shape:
            problems.append(f"{key} has shape {tensor.shape}, its parameter {param.shape}")
    for position, param in by_position.items():
        if param in loaded:
            names = [f"{name}.{position}" for name in elementwise]
            problems.extend(f"{name} is missing" for name in names if name not in state)
    return loaded


def take_over(
    state: dict[Tensor, dict[str, Tensor]], param: Tensor, loaded: dict[str, Tensor] | None
) -> None:
    """Give one parameter's state its loaded values, in the tensors that are there already.

    A compiled step knows them; it would have to be compiled again for others.
    """
    if loaded is None:
        state.pop(param, None)
        return
    kept = state.setdefault(param, Telling())
    for name in [name for name in kept if name not in loaded]:
        del kept[name]
    for name, tensor in loaded.items():
        mine = kept.get(name)
        if mine is not None and (mine.shape, mine.dtype) == (tensor.shape, tensor.dtype):
            mine.data = tensor
        else:
            kept[name] = tensor


def fits(value: Any, present: Any) -> bool:
    """Whether a value is a number, or a tuple of them, as the present one is."""
    try:
        array = np.asarray(value)
    except ValueError:  # nested lists of different lengths
        return False
    return array.shape == np.shape(present) and array.dtype.kind in "biuf"
