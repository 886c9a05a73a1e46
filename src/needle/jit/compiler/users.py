"""Users' operators as the compiler is to see them.

What it knows of one of the library's says nothing of a class that is derived from it::

    class Twice(ndl.Tanh):               Called: no code, whatever has code for `Tanh`
        def compute(self, a): ...
    class Leaky(ndl.ReLU):               Expressed: the code of its expression, and no more
        def expression(self, e, a): ...
    class Steep(ndl.Tanh):               as it is: a `Tanh`
        def gradient(self, out_grad, node): ...
"""

from __future__ import annotations

from typing import Any

from ...graph.kinds import Pointwise
from ...graph.op import Op, is_of_user, is_opaque


class Called(Op):
    """An operator that is called in Python."""

    def __init__(self, op: Op) -> None:
        self.op = op
        self.compute = op.evaluate

    @property
    def name(self) -> str:
        return self.op.name

    def __repr__(self) -> str:
        return repr(self.op)


class Expressed(Pointwise):
    """An operator that is its expression."""

    def __init__(self, op: Pointwise) -> None:
        self.op = op
        self.expression = op.expression
        for name in ("float_result", "scalars"):  # which classes state, usually
            setattr(self, name, getattr(op, name))

    @property
    def name(self) -> str:
        return self.op.name

    def __repr__(self) -> str:
        return repr(self.op)


def seen(op: Any) -> Any:
    """An operator of a traced graph as one that says by its class what there is code for."""
    if is_opaque(op):
        return Called(op)
    is_expressed = isinstance(op, Pointwise) and not op.ours and is_of_user(op, "expression")
    return Expressed(op) if is_expressed else op
