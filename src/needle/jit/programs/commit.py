"""What a call leaves behind, once everything has been computed: state, gradients, a result.

::

    before: values of nodes      after: the world as if the function had run

    %7  new data of a tensor     the tensor has it
    %9  for an attribute         the attribute holds a tensor with it
    %4  a gradient               the parameter's `.grad`
    %5  in what is returned      a new tensor in the same list, tuple or dict

State that machine code wrote where it lies is not among them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from weakref import ref

import numpy as np

from ...context import VALUE, changes
from ...graph.node import Node, new_handle
from ...ops.tuples import MakeTensorTuple
from ...tensor import Tensor
from ..objects.slots import Slot
from ..objects.trees import leaves_in, mapped
from ..tracing.trace import (
    Argument,
    Branch,
    Grad,
    Held,
    Out,
    OutTuple,
    Source,
    Trace,
    outs_in,
)
from .differentiate import Differentiable, StatefulCall
from .inputs import Inputs


class _Made:
    """What one call makes: each tensor, list and dict once, for all places where it is to stand.

    Args:
        leaves: Of the call's arguments.
        values: Those of its nodes.
        recorded: The tensors of results of a call that can be differentiated: it is in a graph.

    Attributes:
        tensors: By what stands for them in the trace.
    """

    def __init__(
        self, leaves: Sequence[Any], values: dict[Node, Any], recorded: dict[Node, Tensor]
    ) -> None:
        self._leaves = leaves
        self._values = values
        self._recorded = recorded
        self._branches: dict[int, Any] = {}  # by the identity of those in the trace
        self.tensors: dict[Out, Any] = {}

    def tree(self, tree: Any) -> Any:
        """A tree of the trace, with the tensors of this call."""
        return mapped(tree, self._of_leaf, self._branches)

    def tensor(self, out: Out) -> Any:
        """The tensor, or number, that something stands for."""
        tensor = self.tensors.get(out)
        if tensor is None:
            tensor = self.tensors[out] = self._new(out)
        return tensor

    def _of_leaf(self, item: Any) -> Any:
        if isinstance(item, Out):
            return self.tensor(item)
        if isinstance(item, OutTuple):
            return MakeTensorTuple()(*map(self.tensor, item.parts))
        if isinstance(item, Argument | Held | Slot | Grad):
            return item.tensor(self._leaves)
        if isinstance(item, Branch):
            return item.found()
        return item.copy() if isinstance(item, np.ndarray) else item  # the caller's own

    def _new(self, out: Out) -> Any:
        array = self._values[out.node]
        if out.cls is float:
            return float(array)
        if out.is_leaf:
            tensor: Any = out.cls.wrap(array, out.requires_grad)
        elif self._recorded:
            tensor = self._recorded[out.node]
        else:  # of a call that assigned state
            tensor = new_handle(Node(StatefulCall(), (), array, True), Tensor)
        if out.grad is not None:
            tensor._grad = self.tensor(Out(out.grad, is_leaf=True))
        if out.attributes:
            vars(tensor).update(out.attributes)
        return tensor


class Commit:
    """Writes what a call leaves behind.

    Args:
        trace: What a call does.
        inputs: Its inputs.
        results: The nodes whose values a call gives, in order.
        in_place: Where state has been written already.
        differentiable: What is needed to differentiate the call from outside, if it can be.

    Attributes:
        moves_state: Whether a call gives state other memory, or slots other things.
    """

    def __init__(
        self,
        trace: Trace,
        inputs: Inputs,
        results: list[Node],
        in_place: Collection[Source],
        differentiable: Differentiable | None,
    ) -> None:
        self._trace = trace
        self._inputs = inputs
        self._guards = trace.guards
        self._differentiable = differentiable
        self._results = results
        self._rebound = [item for item in trace.rebound if item[0] not in in_place]
        self._slots = [item for item in trace.slots if item[0] not in in_place]
        self._guards.look_into([slot for slot, _ in self._slots])
        trees = [tree for _, tree in self._slots]
        self._changes_guards = trace.reshapes or any(map(_holds_constants, trees))
        if self._guards.tensors.changed:  # which may come to be at two places
            outs = outs_in(trees)
            self._changes_guards |= len(set(outs)) < len(outs)
            self._changes_guards |= any(
                isinstance(leaf, Slot | Grad) for _, leaf in leaves_in(trees)
            )
        self._grads = [(target, node) for target, node in trace.grads if node is not None]
        self._grads_reset = [target for target, node in trace.grads if node is None]
        self._reset_at = -1  # what `changes.grads` was when those were last seen to
        self.moves_state = bool(self._rebound or self._slots or self._changes_guards)
        self._plain = self._plain_result()

    def _plain_result(self) -> type[Any] | None:
        """The class of the tensor, for a call that only hands out one, of values alone."""
        result = self._trace.result
        writes = self.moves_state or self._grads
        # Each call may have another argument, the `.grad` of which was set before.
        writes = writes or any(isinstance(target, Argument) for target in self._grads_reset)
        is_plain = isinstance(result, Out) and result.is_plain()
        return result.cls if is_plain and not writes else None

    def distrust(self) -> None:
        """There may be other gradients to reset."""
        self._reset_at = -1

    def write(self, leaves: Sequence[Any], results: list[Any], steady: bool) -> Any:
        """Write state, set gradients, and make what the function returns.

        Args:
            leaves: Of the call's arguments.
            results: The values.
            steady: Whether nothing happened since the last call, but for gradients that were set.
        """
        is_reset = not self._grads_reset or self._reset_at == changes.grads
        if steady and is_reset and self._plain is not None:
            return new_handle(Node(None, (), results[0], False), self._plain)
        values = dict(zip(self._results, results, strict=True))
        for target, node in self._rebound:
            tensor = target.tensor(leaves)
            if tensor is not None:
                changes.note(tensor, VALUE, but=self._guards.news)
                _give(tensor, values[node])
                changes.note(tensor, VALUE, but=self._guards.news)
        record = self._differentiable
        recorded = {} if record is None else record.record(*self._inputs.parted(leaves), values)
        made = _Made(leaves, values, recorded)
        trees = [made.tree(tree) for _, tree in self._slots]
        result = self._trace.result
        result = made.tensor(result) if type(result) is Out else made.tree(result)
        # All that is found through slots, before they are given other tensors.
        self._set_gradients(leaves, values, made)
        for (slot, _), new in zip(self._slots, trees, strict=True):
            slot.note(but=self._guards.news)
            slot.assign(new)  # new tensors: somebody may hold those that it had
            slot.note(but=self._guards.news)
        if self._rebound or self._slots:
            self._guards.accept()
        if self._changes_guards:  # this program, too, may rely on what is there now
            self._guards.news.distrust()
        return result

    def _set_gradients(self, leaves: Sequence[Any], values: dict[Node, Any], made: _Made) -> None:
        """Set and reset `.grad`. One that is also handed out or kept is one and the same tensor."""
        tensors = {out.node: tensor for out, tensor in made.tensors.items()} if self._grads else {}
        try:
            for target, node in self._grads:
                tensor = target.tensor(leaves)
                if tensor is not None:
                    new = tensors.get(node)
                    tensor._grad = _leaf(values[node]) if new is None else new
        finally:  # after Ctrl-C, too: there may be some that others have to reset
            if self._grads:
                changes.grads += 1
        self._reset_at = changes.grads  # now: other threads may set some after these are reset
        try:
            for target in self._grads_reset:
                tensor = target.tensor(leaves)
                if tensor is not None:
                    tensor._grad = None
        except BaseException:
            self.distrust()
            raise


def _leaf(array: Any) -> Tensor:
    """A tensor over an array, made without asking for an evaluator."""
    return new_handle(Node(None, (), array, False), Tensor)


def _give(tensor: Tensor, array: Any) -> None:
    """New data for a tensor: as an assignment to `.data`, but unseen by guards."""
    node = Node(None, (), array, tensor.node.requires_grad)
    node.handle = ref(tensor)
    tensor.node = node


def _holds_constants(tree: Any) -> bool:
    """Whether a slot is given more than new tensors and other slots': an empty list is, too."""
    are_tensors = [isinstance(leaf, Out | Slot | Grad) for _, leaf in leaves_in(tree)]
    return not are_tensors or not all(are_tensors)
