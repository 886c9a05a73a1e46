"""The course's names for the graph: `needle.autograd`.

`TENSOR_COUNTER` is the number of values alive now, counted when it is read. Assigning
`LAZY_MODE = True` makes operators of this thread record only, and compute when a value is read.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .context import ambient
from .graph.evaluate import EAGER, LAZY
from .graph.gradient import compute_gradient_of_variables, grad, value_and_grad
from .graph.node import Value, count_live_nodes
from .graph.op import Op, TensorOp, TensorTupleOp
from .graph.order import find_topo_sort
from .tensor import Tensor
from .tensor_tuple import TensorTuple


class _Autograd(ModuleType):
    """A module whose `TENSOR_COUNTER` and `LAZY_MODE` forward to where the truth is kept."""

    @property
    def TENSOR_COUNTER(self) -> int:  # noqa: N802 - the course's name
        return count_live_nodes()

    @property
    def LAZY_MODE(self) -> bool:  # noqa: N802
        return ambient.evaluator is LAZY

    @LAZY_MODE.setter
    def LAZY_MODE(self, value: bool) -> None:  # noqa: N802
        ambient.evaluator = LAZY if value else EAGER


sys.modules[__name__].__class__ = _Autograd

__all__ = [
    "Op", "Tensor", "TensorOp", "TensorTuple", "TensorTupleOp", "Value",
    "compute_gradient_of_variables", "find_topo_sort", "grad", "value_and_grad",
]  # fmt: skip
