"""What one call of a function does, as a value. `recording.py` makes it, a program runs it.

::

    before: a function                 after: its `Trace`

    def step(x):                       arguments  %0, for x
        y = (x * w).sum()              captured   %1, found at Held(w)
        w.data = w * 2                 nodes      %2 = x * w, %3 = Summation %2, %4 = w * 2
        return {"loss": y}             rebound    Held(w) is given %4
                                       result     {"loss": Out(%3)}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

from ...graph.node import Node
from ...tensor import Tensor
from ..objects.slots import Slot
from ..objects.trees import leaves_in

if TYPE_CHECKING:
    from ..guards.guards import Guards


@dataclass(frozen=True)
class Out:
    """In a tree: the value of a node, as a new tensor of a class, or (`cls` is float) a number.

    One that `is_leaf` has no graph, though it may require a gradient. `attributes` are those that
    the function gave it.
    """

    node: Node
    requires_grad: bool = False
    cls: type[Any] = Tensor
    grad: Node | None = None
    is_leaf: bool = False
    attributes: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)

    def is_plain(self) -> bool:
        """Whether it is a tensor of values alone: nobody sees whether it is one from before."""
        has_more = self.requires_grad or self.grad is not None or self.attributes
        return self.cls is not float and not has_more

    def nodes(self) -> dict[Node, None]:
        """The nodes whose values it takes."""
        return dict.fromkeys([self.node] if self.grad is None else [self.node, self.grad])


@dataclass(frozen=True)
class OutTuple:
    """In a tree: a `TensorTuple` of the values of nodes."""

    parts: tuple[Out, ...]


def outs_in(tree: Any) -> list[Out]:
    """The tensors of a tree that a call makes."""
    found: list[Out] = []
    for _, leaf in leaves_in(tree):
        if isinstance(leaf, Out | OutTuple):
            found.extend(leaf.parts if isinstance(leaf, OutTuple) else [leaf])
    return found


@dataclass(frozen=True)
class Argument:
    """What was passed as leaf `place` of the arguments."""

    place: int

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        return leaves[self.place]


@dataclass(frozen=True)
class Held:
    """A tensor that existed before the trace, held weakly."""

    reference: ReferenceType[Any]

    def __post_init__(self) -> None:
        hash(self.reference)  # which it remembers: it could not be found any more once it is dead

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        return self.reference()


@dataclass(frozen=True)
class Grad:
    """The `.grad` of a tensor."""

    target: Argument | Held | Slot

    def tensor(self, leaves: Sequence[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        tensor = self.target.tensor(leaves)
        return None if tensor is None else tensor._grad


@dataclass(frozen=True)
class Branch:
    """In a tree: a list or dict that existed before the trace, not a new one that is like it.

    Args:
        held: It, or the slot where a call finds it that gives the slot another one.
    """

    held: Any

    def found(self) -> Any:
        """The list or dict, as long as the slot was not written."""
        return self.held.found() if isinstance(self.held, Slot) else self.held


Target = Argument | Held | Slot
Source = Target | Grad


@dataclass
class Trace:
    """What one call of a function does.

    Attributes:
        arguments: Nodes that stand for the leaves of the arguments.
        scalars: Where each hyperparameter is, and the node that stands for it.
        nodes: Recorded nodes, in program order.
        guards: What has to hold for a call to do the same.
        result: Tree of what the function returned.
        rebound: Tensors that are given new data.
        grads: Tensors whose `.grad` is set: to a node, or None.
        slots: Slots that are given new things, each with a tree like `result`.
        captured: Nodes that stand for tensors that existed before, and where those are found.
        reshapes: Whether state has another shape, dtype or flag after a call than before it.
        asked: Names of the attributes that it asks tensors among its arguments for.
        draws_in_turn: Whether users' operators draw from the stream that the function draws from.
        held: The tensors of `Held`, until the first call is done: if the function took one out of a
            queue, say, nobody else holds it.
    """

    arguments: list[Node]
    scalars: list[tuple[Slot, Node]]
    nodes: list[Node]
    guards: Guards
    result: Any
    rebound: list[tuple[Target, Node]]
    grads: list[tuple[Target, Node | None]]
    slots: list[tuple[Slot, Any]]
    captured: list[tuple[Node, Source]]
    reshapes: bool
    asked: set[str]
    draws_in_turn: bool
    held: list[Any]

    @property
    def writes_state(self) -> bool:
        """Whether a call changes tensors that existed before, `.grad` aside."""
        return bool(self.rebound or self.slots)

    def shared(self) -> set[Out]:
        """The tensors that several slots are given, or a slot and the caller: they stay one."""
        trees = [self.result, *[tree for _, tree in self.slots]]
        found = [out for tree in trees for out in dict.fromkeys(outs_in(tree))]
        return {out for out, count in Counter(found).items() if count > 1}

    def replaced(self) -> set[Target]:
        """Slots whose tensor is seen when they are given another one: changed, or elsewhere.

        So is its `.grad`, which the new tensor does not have.
        """
        trees = [self.result, *[tree for _, tree in self.slots]]
        leaves = [leaf for _, leaf in leaves_in(trees)]
        touched = [target for target, _ in [*self.rebound, *self.grads, *self.guards.tensors.grads]]
        return {place for place in [*leaves, *touched] if isinstance(place, Slot)}

    def wanted(self) -> list[Node]:
        """The nodes whose values a call needs, each once: results, then state, then gradients."""
        found: dict[Node, None] = {}
        for out in outs_in([self.result, *[tree for _, tree in self.slots]]):
            found.update(out.nodes())
        for _, node in [*self.rebound, *self.grads]:
            if node is not None:
                found.setdefault(node)
        return list(found)
