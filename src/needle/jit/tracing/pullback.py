"""Gradients of users' operators: called in Python, as the operators themselves are.

A rule may read numbers, `node.inputs[0].numpy() > 0`, and what `compute` left behind, `self.mask`.
A trace has neither, and would take what it finds for a constant. So the rule is no part of the
graph; what it gives is.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from ...context import ambient, ambient_set
from ...graph.evaluate import EAGER
from ...graph.gradient import pulled_back
from ...graph.node import Node, Value, new_handle
from ...graph.op import Op, as_tuple, is_of_user, is_opaque


class Pullback(Op):
    """The gradient of one input of a user's operator, from those of its result, and its operands.

    Args:
        op: The user's operator.
        place: Which input.
        needed: Which inputs require a gradient.
        spec: Shape and dtype of the gradient.
    """

    def __init__(self, op: Op, place: int, needed: Sequence[bool], spec: Any) -> None:
        self.op = op
        self.place = place
        self.needed = tuple(needed)
        self.spec = spec

    def compute(self, *arrays: Any) -> Any:
        return run_rule(self.op, self.needed, *arrays)[self.place].realize_cached_data()

    def infer(self, *specs: Any) -> Any:
        return self.spec

    def gradient(self, out_grad: Any, node: Any) -> Any:
        """Of the incoming gradient and the operands; the result itself is made of the operands."""

        def gradient(*values: Any) -> Any:
            return _rule(self.op, *values)[self.place]

        return pulled_back(gradient, node.inputs, out_grad)

    def __repr__(self) -> str:
        return f"Pullback({self.op!r}, place={self.place})"


class Recalled(Op):
    """A user's operator whose result is known, the first operand: it is not run again.

    Args:
        op: The user's operator, which may draw, or count its calls.
    """

    def __init__(self, op: Op) -> None:
        self.op = op

    def compute(self, *arrays: Any) -> Any:
        return arrays[0]

    def infer(self, *specs: Any) -> Any:
        return specs[0]

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return None, *_rule(self.op, out_grad, node, *node.inputs[1:])

    def __repr__(self) -> str:
        return f"Recalled({self.op!r})"


def is_users(op: Op) -> bool:
    """Whether what an operator computes was written by a user, or is the gradient of such a one."""
    return isinstance(op, Pullback | Recalled) or is_of_user(op, "compute")


def is_called(op: Op) -> bool:
    """Whether a user's `compute` is run, which may do more than give a result."""
    return is_users(op) and not isinstance(op, Pullback | Recalled)


def users_own(op: Op) -> Op:
    """What the user wrote, be it behind its gradient or behind a result that is known."""
    return users_own(op.op) if isinstance(op, Pullback | Recalled) else op


def as_left(op: Op) -> Op:
    """A user's operator as the call left it whose gradient is asked for: others came since.

    A program has one for all its calls; in eager mode `Masked()(x)` makes one for each.
    """
    return ambient.twins.get(id(op), op)


@contextmanager
def standing_in(operators: Sequence[Op], twins: Sequence[Op]) -> Generator[None]:
    """Let copies stand for users' operators in a `with` block; what is assigned to them stays."""
    before = [dict(vars(twin)) for twin in twins]
    try:
        with ambient_set(twins=dict(zip(map(id, operators), twins, strict=True))):
            yield
    finally:
        for op, twin, held in zip(operators, twins, before, strict=True):
            now = vars(twin).items()
            vars(op).update({name: value for name, value in now if held.get(name) is not value})


def is_fixed(item: Any) -> bool:
    """Whether it is an operator whose attributes no program relies on.

    Those of the library's never change; of those that are called in Python, forwards and backwards,
    their own code has the news.
    """
    return isinstance(item, Op) and (item.ours or (is_users(item) and is_opaque(item)))


def run_rule(op: Op, needed: Sequence[bool], *arrays: Any) -> tuple[Any, ...]:
    """What an operator's rule gives for arrays: the incoming gradient, the result, the operands."""
    out_grad, result, *operands = map(_value, arrays)
    for value, requires_grad in zip(operands, needed, strict=True):
        value.requires_grad = requires_grad
    with ambient_set(evaluator=EAGER, gradients=False):
        return _rule(op, out_grad, result, *operands)


def _rule(op: Op, out_grad: Any, result: Any, *operands: Any) -> tuple[Any, ...]:
    inputs, op = tuple([value.node for value in operands]), as_left(op)
    node = Node(op, inputs, result.node.storage, True)
    return as_tuple(op.gradient(out_grad, new_handle(node, type(result))))


def _value(array: Any) -> Any:
    cls = Value.tuple_class if isinstance(array, tuple) else Value.tensor_class
    return new_handle(Node(None, (), array, False), cls)
