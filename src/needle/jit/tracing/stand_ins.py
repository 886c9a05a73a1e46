"""Stand-ins: what a function is given for its arguments while it is traced.

A tensor stands for itself, on a new node without a value for as long as the trace lasts: a function
may compare it, or look it up in a dict. An array or a float gets a new tensor::

    before: a call                   after: what the function is given

    step(x, np.ones(2), 0.1)         x, on a new node; a `Tensor`; a `Scalar`

What a user gave to a tensor beside its value (`x.scale = 2`) is a constant of the program; the
names that a function asks for are noted, and are part of the signature from then on.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from ...graph.node import Node, new_handle, realize
from ...shapes import spec_of
from ...tensor import Tensor
from .signature import in_native_order
from .trace import Argument, Held, Target
from .tracer import Scalar, Tracer


class StandIns:
    """The stand-ins for the leaves of a call's arguments.

    Args:
        leaves: Tensors, arrays and floats.
        tracer: Is told of the nodes and of their values in this call.

    Attributes:
        handles: A stand-in for each leaf.
        nodes: The nodes that they are on when the function begins.
        asked: Names of the attributes of tensors that the function asked for.
    """

    def __init__(self, leaves: list[Any], tracer: Tracer) -> None:
        self.leaves = leaves
        self.handles: list[Any] = []
        self.nodes: list[Node] = []
        self.asked: set[str] = set()
        self._tracer = tracer
        self._places: dict[int, int] = {}
        self._own = [leaf.node if isinstance(leaf, Tensor) else None for leaf in leaves]
        self._attributes = {id(i): dict(vars(i)) for i in leaves if isinstance(i, Tensor)}

    def put_in(self) -> None:
        """Make them; from now on tensors among the arguments have no values."""
        for place, leaf in enumerate(self.leaves):
            handle = self._of_tensor(leaf) if isinstance(leaf, Tensor) else self._of_number(leaf)
            self._places.setdefault(id(handle), place)
            self.handles.append(handle)
            self.nodes.append(handle.node)

    def _of_tensor(self, leaf: Tensor) -> Tensor:
        if id(leaf) not in self._places:
            value = in_native_order(realize(leaf.node))
            leaf.node = Node(None, (), None, leaf.requires_grad, spec_of(value))
            leaf.node.handle = ref(leaf)
            self._tracer.argument(leaf.node, value)
        return leaf

    def _of_number(self, leaf: Any) -> Tensor:
        value = in_native_order(np.asarray(leaf))
        node = Node(None, (), None, False, spec_of(value))
        self._tracer.argument(node, value)
        return new_handle(node, Scalar if isinstance(leaf, float) else Tensor)

    def put_back(self) -> None:
        """Give the tensors among the arguments their values and attributes again."""
        for leaf, own in zip(self.leaves, self._own, strict=True):
            if own is not None:
                leaf.node = own
                if self.changed(leaf):
                    vars(leaf).clear()
                    vars(leaf).update(self._attributes[id(leaf)])

    def changed(self, tensor: Tensor) -> list[str]:
        """The attributes of an argument that are not what they were."""
        before, now = self._attributes[id(tensor)], vars(tensor)
        names = [*before, *[name for name in now if name not in before]]
        return [name for name in names if before.get(name, self) is not now.get(name, self)]

    def has_attributes(self) -> bool:
        """Whether a tensor among the arguments was given any."""
        return any(self._attributes.values())

    def ask(self, tensor: Any, name: str) -> dict[str, Any]:
        """Note that a function asks for an attribute of a tensor; what it was given of that name.

        Asked for its `__dict__` these are all.
        """
        held = self._attributes.get(id(tensor))
        if held is None:
            return {}
        found = held if name == "__dict__" else {name: held[name]} if name in held else {}
        self.asked.update(found)
        return found

    def place(self, value: Any) -> int | None:
        """Which leaf a tensor stands for; None if for none."""
        return self._places.get(id(value))

    def own_node(self, value: Any) -> Node | None:
        """The node that an argument has outside of the trace; None for everything else."""
        place = self.place(value)
        return None if place is None else self._own[place]

    def is_real(self, value: Any) -> bool:
        """Whether a value exists outside of the trace: stand-ins of arrays and floats do not."""
        return self.place(value) is None or self.own_node(value) is not None

    def of_numbers(self) -> list[Node]:
        """The nodes that stand for arrays and floats."""
        pairs = zip(self.nodes, self._own, strict=True)
        return [node for node, own in pairs if own is None]

    def target(self, value: Any) -> Target:
        """Where a tensor that existed before the trace is found at a later call."""
        place = self.place(value)
        return Held(ref(value)) if place is None else Argument(place)
