"""What a function did while it was traced: from the tensors that it left behind to a `Trace`.

::

    before: the world after the function       after: what a program has to write

    a tensor is on a recorded node             rebound
    an attribute holds another tensor          slots
    a `.grad` is another one than before       grads
    the tensors in what was returned           result
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from typing import Any
from weakref import ref

import numpy as np

from ...errors import TraceError
from ...graph.node import Node, Value
from ...graph.order import topological_order
from ...tensor import Tensor
from ..guards.guards import Guards
from ..guards.pins import alike
from ..guards.tensors import TensorGuards
from ..objects.slots import Slot
from ..objects.trees import branches_in, leaves_in, mapped, tensors_in
from .changed import Change, changed_slots
from .hidden import hidden_in
from .interpret import is_random
from .reached import Reached
from .stand_ins import StandIns
from .trace import Argument, Branch, Grad, Held, Out, OutTuple, Source, Target, Trace
from .tracer import Scalar, Tracer


def taken_apart(result: Any) -> dict[int, list[Any]]:
    """The elements of each `TensorTuple` in what was returned, by its identity.

    Taking them is recorded, while that is possible.
    """
    tuples: list[Any] = [v for _, v in leaves_in(result) if isinstance(v, Value.tuple_class)]
    return {id(value): [value[k] for k in range(len(value))] for value in tuples}


class Effects:
    """Finds what a function did, before that is undone.

    Args:
        tracer: Recorded what it computed.
        reached: What it read, and what that was before.
        stand_ins: Its arguments.
    """

    def __init__(self, tracer: Tracer, reached: Reached, stand_ins: StandIns) -> None:
        self._tracer = tracer
        self._reached = reached
        self._stand_ins = stand_ins
        self._inputs: dict[Node, tuple[Node, Source]] = {}  # by the node that was captured
        self._by_grad: dict[Node, Grad] = {}
        self._by_slot: dict[int, Slot] = {}  # of tensors in slots that are written
        self._tuples: dict[int, list[Any]] = {}  # their elements
        self._branches: dict[int, Any] = {}  # what stands in trees for lists and dicts
        self._held: list[Any] = []
        self._grads: dict[int, Grad | None] = {}  # of gradients from before; None: others are set

    def trace(self, result: Any, tuples: dict[int, list[Any]]) -> Trace:
        """All that it did, given what it returned, and the tuples in that, `taken_apart`.

        Raises:
            TraceError: it did something that a program could not repeat.
            NewStateError: state came into being.
        """
        tracer = self._tracer
        self._check_flags()
        self._check_attributes()
        self._refuse_hidden(self._reached.added())
        changed = changed_slots(self._reached)
        slots = [(slot, new) for slot, _, new in changed]
        self._tuples = tuples
        self._note_branches()
        for slot, old, _ in changed:
            if not self._reached.was_read(slot):  # its tensor may be used, but was found elsewhere
                continue
            for path, tensor in tensors_in(old):
                self._by_slot[id(tensor)] = Slot(slot.container, slot.key, path)
            for path, branch in branches_in(old):
                self._branches[id(branch)] = Branch(Slot(slot.container, slot.key, path))
        self._refuse_carried_graphs(slots)
        guards = Guards()
        self._read_gradients(guards.tensors)
        for node in tracer.nodes:
            node.inputs = tuple(map(self._input, node.inputs))
        return Trace(
            arguments=self._stand_ins.nodes,
            scalars=[(slot, handle.node) for slot, handle in self._reached.scalars.items()],
            nodes=tracer.nodes,
            guards=guards,
            result=self._tree(result),
            rebound=[(self._target(value), self._node(value)) for value, _ in self._rebound()],
            grads=self._gradients(),
            slots=[(slot, self._tree(new)) for slot, new in slots],
            captured=[self._inputs[node] for node in tracer.captured if node in self._inputs],
            reshapes=self._reshapes(changed),
            asked=self._stand_ins.asked,
            draws_in_turn=tracer.draws_in_operators and any(map(is_random, tracer.nodes)),
            held=self._held,
        )

    def _note_branches(self) -> None:
        """Lists and dicts that existed before are not made anew where they are returned or kept."""
        for seen in self._reached.found.values():
            if isinstance(seen.owner, list | dict):
                self._branches[id(seen.owner)] = Branch(seen.owner)

    def _check_flags(self) -> None:
        """`requires_grad` is not for a function to leave changed: programs rely on it."""
        tensor: Any
        for tensor, flag in self._tracer.flag_before.items():
            if tensor.requires_grad != flag and self._stand_ins.is_real(tensor):
                raise TraceError(
                    f"requires_grad of a tensor of shape {tensor.shape} was set while a jitted "
                    "function was traced. Set it back in the function, set it outside, or set it "
                    "on tensor.detach()"
                )

    def _check_attributes(self) -> None:
        """Nobody would find what was given to an argument that is no state."""
        for leaf in self._stand_ins.leaves:
            if isinstance(leaf, Tensor) and id(leaf) not in self._reached.tensors:
                for name in self._stand_ins.changed(leaf):
                    raise TraceError(
                        f"the attribute {name} of an argument was set while a jitted function was "
                        "traced, and a program would not set it again. Return what is new instead"
                    )

    def _reshapes(self, changed: list[Change]) -> bool:
        """Whether tensors that are given new data, or stand in slots, are others to a program."""
        return not all(alike(old)(new) for _, old, new in changed) or any(
            value.node.specs() != node.specs() for value, node in self._rebound()
        )

    def _rebound(self) -> list[tuple[Value, Node]]:
        """Tensors that were given new data, with the nodes that they had."""
        return [
            (value, node)
            for value, node in self._tracer.node_before.items()
            if value.node is not node and self._stand_ins.is_real(value)
        ]

    # -- gradients ---------------------------------------------------------------------------------

    def _refuse_carried_graphs(self, slots: list[tuple[Slot, Any]]) -> None:
        """State with the graph that made it: at the next call reverse mode would go on into that.

        It matters where reverse mode comes to the state, and there to a tensor that is still held.
        """
        before = self._tracer.grad_before
        touched = [value for value in before if self._tracer.was_given_grad(value)]
        reached = [slot for value in touched if (slot := self._by_slot.get(id(value)))]
        reached = {Slot(slot.container, slot.key) for slot in reached}
        held = {
            node
            for node, (reference, _) in self._tracer.captured.items()
            if reference() in before and id(reference()) not in self._by_slot
        }
        for slot, new in slots:
            kept = [tensor.node for _, tensor in tensors_in(new)]
            graph = topological_order(kept, lambda node: node.requires_grad)
            if slot in reached and not held.isdisjoint(graph):
                raise TraceError(
                    f"{slot.label} keeps the graph that it was computed by, into which backward "
                    "would go on at the next call, as a program does not. Assign its detach()"
                )

    def _read_gradients(self, guards: TensorGuards) -> None:
        """Gradients that were read before they were set are inputs."""
        for value, before in self._tracer.grad_before.items():
            if value in self._tracer.grad_read and self._stand_ins.is_real(value):
                target = self._target(value)
                self._grads[id(before)] = Grad(target) if value._grad is before else None
                node = None if before is None else self._tracer.known(before)
                guards.grads.append((target, None if node is None else node.specs()))
                if node is not None:
                    self._by_grad[node] = Grad(target)
                if id(before) in self._reached.tensors:  # one input, found at two places
                    guards.aliases.append([Grad(target), Held(ref(before))])

    def _gradients(self) -> list[tuple[Target, Node | None]]:
        """The gradients that are set at the end."""
        found: list[tuple[Target, Node | None]] = []
        for value, before in self._tracer.grad_before.items():
            if not self._stand_ins.is_real(value):
                continue
            if self._tracer.was_given_grad(value):
                self._refuse_graph_of(value)
            after = value._grad
            if after is before and (after is not None or value in self._tracer.grad_read):
                continue
            found.append((self._target(value), None if after is None else self._node(after)))
        return found

    def _target(self, value: Any) -> Target:
        """Where a tensor that is given data, or whose `.grad` is used, is found at a later call."""
        target = self._stand_ins.target(value)
        return target if isinstance(target, Argument) else self._by_slot.get(id(value), target)

    def _refuse_graph_of(self, value: Any) -> None:
        """Reverse mode ends at an argument: what it was computed from would get no gradient."""
        own = self._stand_ins.own_node(value)
        if own is not None and own.op is not None:
            raise TraceError(
                f"backward inside a jitted function reaches an argument of shape {value.shape} "
                "that was computed from other tensors, which would get no gradient. Pass detach() "
                "of it, or compute it in the function"
            )

    # -- nodes -------------------------------------------------------------------------------------

    def _node(self, value: Any) -> Node:
        """The node of a value in the trace."""
        return self._input(self._tracer.known(value))

    def _input(self, node: Node) -> Node:
        """What stands in the trace for a node: an input if it existed before, else itself."""
        if node not in self._tracer.captured:
            return node
        if node not in self._inputs:
            source = self._source(node)
            if source is None:
                return node
            self._inputs[node] = Node(None, (), None, node.requires_grad, node.specs()), source
        return self._inputs[node][0]

    def _source(self, node: Node) -> Source | None:
        """Where the value of a node that existed before is found at a later call."""
        if node in self._by_grad:
            return self._by_grad[node]
        reference, _ = self._tracer.captured[node]
        handle = reference()
        if handle is None:  # nobody can change it any more: a constant
            return None
        return self._by_slot.get(id(handle)) or self._holding(handle)

    def _holding(self, value: Any) -> Held:
        self._held.append(value)
        return Held(ref(value))

    def _tree(self, tree: Any) -> Any:
        """What was returned or kept, with its tensors as `Out`, or where they come from."""
        self._refuse_hidden(tree)

        def leaf(value: Any) -> Any:
            if id(value) in self._tuples:
                return OutTuple(tuple(map(self._leaf, self._tuples[id(value)])))
            if isinstance(value, Iterator | Coroutine):
                kind = value.__class__.__name__  # of what rests that of the iterator
                raise TraceError(
                    f"a jitted function returned a {kind}, which can be read only "
                    "once, and would be the same at every call. Return a list or tuple"
                )
            return self._leaf(value) if isinstance(value, Tensor) else value

        return mapped(tree, leaf, self._branches)

    def _refuse_hidden(self, tree: Any) -> None:
        for inside, tensor in hidden_in(tree, lambda item: id(item) in self._reached.found):
            if self._stand_ins.own_node(tensor) is not None:
                raise TraceError(
                    f"a jitted function returned or kept {inside} with an argument of shape "
                    f"{tensor.shape} in it, which would be the one of the trace at every call. "
                    "Put it into tuples, lists or dicts, and there not under a key"
                )

    def _leaf(self, value: Any) -> Any:
        tracer, place = self._tracer, self._stand_ins.place(value)
        if place is not None and not isinstance(self._stand_ins.leaves[place], np.ndarray):
            return Argument(place)
        if isinstance(value, Scalar):
            return Out(value.node, cls=float)
        if found := self._grads.get(id(value)):
            return found
        if place is None and tracer.exists(value) and id(value) not in self._grads:
            return self._by_slot.get(id(value)) or self._holding(value)
        grad = None if value._grad is None else self._node(value._grad)
        flag, leaf = value.requires_grad, value.is_leaf()
        return Out(self._node(value), flag, type(value), grad, leaf, dict(vars(value)))
