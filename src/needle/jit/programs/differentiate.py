"""Differentiation of a compiled call from outside: one node, with a compiled reverse program.

::

    before: a call                 after: the graph of y, and the gradient of x

    y = f(x), f = jit(...)         %1 = CompiledCall %0,  %2 = Output(0) %1
    y.backward()                   a jitted function replays the nodes of f on x, and differentiates
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from functools import partial
from typing import Any

from ...context import ambient
from ...errors import GradientError
from ...graph.gradient import pulled_back
from ...graph.node import Node, new_handle
from ...graph.op import Op
from ...ops.tuples import MakeTensorTuple, TupleGetItem
from ...tensor import Tensor
from ...tensor_tuple import TensorTuple
from ..objects.trees import mapped
from ..tracing.interpret import is_random, live_nodes
from ..tracing.pullback import Recalled, as_left, is_called, is_users, standing_in, users_own
from ..tracing.trace import Trace, outs_in


class Reached(TensorTuple):
    """The gradient of the outputs of a compiled call.

    Attributes:
        places: The outputs that reverse mode came from. Inputs that only the others depend on get
            no gradient, which is not a gradient of zeros to an optimiser.
    """

    __slots__ = ("places",)
    places: frozenset[int]

    @staticmethod
    def of(value: TensorTuple, places: frozenset[int]) -> Reached:
        """A tuple of gradients that came from these outputs."""
        handle: Reached = new_handle(value.node, Reached)
        handle.places = places
        return handle

    def __add__(self, other: Any) -> TensorTuple:
        total = super().__add__(other)
        return Reached.of(total, self.places | other.places) if type(other) is Reached else total


class CompiledCall(Op):
    """The outputs of one compiled call, as a tuple, from the inputs that need a gradient."""

    def __init__(self, call: Differentiable, arrays: Sequence[Any], draws: Sequence[Any]) -> None:
        self.call = call
        self.arrays = arrays
        self.draws = draws
        self.twins = [copy(as_left(op)) for op in call.operators]

    @property
    def key(self) -> None:
        return None

    def gradient(self, out_grad: Any, node: Any) -> Any:
        constants = [Tensor.wrap(array) for array in self.arrays]
        draws = [mapped(given, Tensor.wrap) for given in self.draws]
        is_known = type(out_grad) is Reached  # unless someone took elements of the tuple himself
        places = tuple(sorted(out_grad.places) if is_known else range(len(out_grad)))
        out_grads = [out_grad[place] for place in places]
        with standing_in(self.call.operators, self.twins) if self.twins else nullcontext():
            return tuple(self.call.reverse(list(node.inputs), constants, draws, out_grads, places))


class Output(TupleGetItem):
    """One output of a compiled call."""

    def gradient(self, out_grad: Any, node: Any) -> Any:
        return Reached.of(super().gradient(out_grad, node), frozenset([self.index]))


class StatefulCall(Op):
    """An output of a compiled call that assigned state: a leaf that refuses reverse mode.

    A trace has its own look at where the function as written would go on (`effects.py`).
    """

    label = "jit"

    def gradient(self, out_grad: Any, node: Any) -> Any:
        if not ambient.evaluator.computes:
            return ()
        raise GradientError(
            "backward: it reaches the result of a jitted call that assigned state, and cannot go "
            "on from outside. Call backward inside the jitted function, or detach() the result"
        )


class Differentiable:
    """Records calls of a program as nodes.

    Args:
        trace: What a call does; it assigns no state.
        inputs: The inputs of the program.
        outs: The results that need a gradient.

    Attributes:
        draws: Random numbers that the results depend on, and what users' operators gave, which may
            draw or count themselves; a call has to give these too.
        operators: Those users' operators, whose gradients may read what `compute` left in them.
    """

    compile: Callable[..., Any]
    """`jit`, put in place by the module that defines it: reverse programs are compiled too."""

    def __init__(self, trace: Trace, inputs: Sequence[Node], outs: list[Node]) -> None:
        self.outs = outs
        self.inputs = inputs
        self.nodes = live_nodes(trace.nodes, outs)
        self.draws = [node for node in self.nodes if is_random(node) or _is_kept(node)]
        users = [users_own(node.op) for node in self.nodes if node.op and is_users(node.op)]
        self.operators = list({id(op): op for op in users if hasattr(op, "__dict__")}.values())
        self.variables = [k for k, node in enumerate(self.inputs) if node.requires_grad]
        self.reverse = type(self).compile(self._reverse, warmup=0)
        self._outputs = [Output(place) for place in range(len(outs))]

    @classmethod
    def of(cls, trace: Trace, inputs: Sequence[Node]) -> Differentiable | None:
        """What is needed to differentiate calls of a program; None where nothing can be."""
        results = [out for out in outs_in(trace.result) if out.requires_grad and not out.is_leaf]
        outs = dict.fromkeys([out.node for out in results])
        return None if trace.writes_state or not outs else cls(trace, inputs, list(outs))

    def record(
        self, inputs: Sequence[Node], constants: Sequence[Any], values: Mapping[Node, Any]
    ) -> dict[Node, Tensor]:
        """One call as a node of the graph.

        Args:
            inputs: Its inputs that need a gradient.
            constants: The values of the others.
            values: Those of the nodes in `outs` and `draws`.

        Returns:
            The tensor of each node in `outs`.
        """
        draws = [values[node] for node in self.draws]
        storage = tuple([values[node] for node in self.outs])
        call = Node(CompiledCall(self, constants, draws), tuple(inputs), storage, True)
        return {
            node: new_handle(Node(output, (call,), array, True), Tensor)
            for node, output, array in zip(self.outs, self._outputs, storage, strict=True)
        }

    def _reverse(
        self, variables: Any, constants: Any, draws: Any, out_grads: Any, places: tuple[int, ...]
    ) -> list[Any]:
        """Gradients of the variables: the call replayed on them, and differentiated.

        On views of them: of a tensor that was passed twice, each place has a share of its own.

        Args:
            places: Of the outputs whose gradients are given; variables below none get None.
        """
        replayed = partial(self._replayed, [self.outs[place] for place in places], constants, draws)
        return list(pulled_back(replayed, variables, MakeTensorTuple()(*out_grads)))

    def _replayed(self, outs: list[Node], constants: Any, draws: Any, *variables: Any) -> Any:
        given: dict[Node, Any] = {
            node: MakeTensorTuple()(*values) if node.is_tuple() else values
            for node, values in zip(self.draws, draws, strict=True)
        }
        known = {node: value for node, value in given.items() if is_random(node)}
        rest = iter(constants)
        for k, node in enumerate(self.inputs):
            known[node] = variables[self.variables.index(k)] if k in self.variables else next(rest)
        for node in live_nodes(self.nodes, outs):
            if node not in known:
                op: Any = node.op
                operands = [known.get(child) or Tensor.wrap(child.storage) for child in node.inputs]
                value = Recalled(op)(given[node], *operands) if node in given else op(*operands)
                # What was made under no_grad, or of frozen parameters, ends the graph here too.
                known[node] = value.detach() if value.requires_grad > node.requires_grad else value
        return MakeTensorTuple()(*[known[node] for node in outs])


def _is_kept(node: Node) -> bool:
    """Whether it is what a user's operator gave, which may give something else next time."""
    return node.op is not None and is_called(node.op)
