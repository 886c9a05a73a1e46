"""What tensors and users' operators were before a function changed them, so that it can be undone.

Evaluators are told before a tensor is changed, or an operator run to learn what it gives. A trace
and a dry run note what it had then::

    before: a line that runs         after: what is noted

    w.data = w - 0.1 * w.grad        node_before   w: its node    grad_before   w: its gradient
    h = x.detach()                                                (it is read)
    h.requires_grad = True           nothing: h came into being here
    self.mask = x > 0                of a user's operator: the mask that it had, if it had one
    rng.normal(size=3)               the same: where the generator stood
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from ...graph.node import Node, Value
from ...graph.op import Op
from ..objects.contents import refill
from ..objects.names import variables
from ..objects.things import COLLECTIONS
from .pullback import as_left, users_own
from .streams import accessors


class UndoLog:
    """The part of an evaluator that is told of changes.

    Attributes:
        made: Nodes that came into being since: nobody else knows their tensors.
        node_before: Tensors that were given new data, with the node they had.
        grad_before: Tensors whose `.grad` was touched, with what it was.
        flag_before: Tensors whose `requires_grad` was set, with what it was.
        grad_read: Those of them whose `.grad` was read before it was set.
        of_operators: Tensors that users' operators keep, with the node they had.
        grad_reset: Those of them that were given a `.grad` which they may not have any more.
    """

    def __init__(self) -> None:
        self.made: set[Node] = set()
        self.node_before: dict[Value, Node] = {}
        self.grad_before: dict[Any, Any] = {}
        self.flag_before: dict[Value, bool] = {}
        self.grad_read: set[Value] = set()
        self.grad_reset: set[Value] = set()
        self.of_operators: dict[Value, Node] = {}
        self._operators: dict[int, Op] = {}  # by identity: a class may have an equality of its own
        self._kept: list[Callable[[], Any]] = []  # what puts back what operators keep

    def exists(self, value: Value) -> bool:
        """Whether a tensor existed before."""
        return value.node not in self.made or value in self.node_before

    def touch_node(self, value: Value) -> None:
        """A tensor is about to be given new data: remember what it had."""
        if value.node not in self.made:
            self.node_before.setdefault(value, value.node)

    def touch_grad(self, value: Any, *, reading: bool) -> None:
        """A `.grad` is about to be read or set: remember what it was."""
        if not self.exists(value):
            return
        if value not in self.grad_before:
            self.grad_before[value] = value._grad
            if reading:
                self.grad_read.add(value)
        elif not reading and self.was_given_grad(value):
            self.grad_reset.add(value)

    def was_given_grad(self, value: Any) -> bool:
        """Whether a tensor whose `.grad` was touched was given one, though it may be reset."""
        grad = value._grad
        return value in self.grad_reset or (
            grad is not None and grad is not self.grad_before[value]
        )

    def touch_flag(self, value: Value, flag: bool) -> None:
        """A `requires_grad` is about to be set: remember what it was."""
        if self.exists(value):
            self.flag_before.setdefault(value, value.node.requires_grad)

    def touch_operator(self, op: Op) -> None:
        """An operator of the user's is about to be run: remember what it keeps."""
        op = as_left(users_own(op))
        if id(op) in self._operators or not hasattr(op, "__dict__"):
            return
        self._operators[id(op)] = op
        rules = type(op).compute, type(op).gradient
        named = chain.from_iterable(map(variables, rules))  # as the list of `calls.append(1)`
        for value in [vars(op), *vars(op).values(), *named]:
            if isinstance(value, (np.ndarray, list, dict, *COLLECTIONS)):
                self._kept.append(partial(refill, value, copy(value)))
            elif stream := accessors(value):
                state, set_state = stream
                self._kept.append(partial(set_state, state()))
        for value in vars(op).values():
            if isinstance(value, Value):
                self.of_operators.setdefault(value, value.node)
                self._kept.append(partial(setattr, value, "node", value.node))

    def undo(self) -> None:
        """Let every tensor and operator be as it was. Done twice, it does the same."""
        for put_back in reversed(self._kept):  # what several operators keep was noted several times
            put_back()
        for value, node in self.node_before.items():  # which an operator may keep, too
            value.node = node
        for value, grad in self.grad_before.items():
            value._grad = grad
        for value, flag in self.flag_before.items():
            value.node.flag(flag)

    def let_go(self) -> None:
        """Keep none of the tensors alive, once all was undone."""
        tensors = self.node_before, self.grad_before, self.flag_before, self.of_operators
        for noted in tensors:
            noted.clear()
        self.grad_read.clear()
        self.grad_reset.clear()
