"""What one call of a function does, as a value. `tracing.py` makes it, `program.py` runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

from ..graph.node import Node
from ..tensor import Tensor
from .slots import MISSING, Container
from .trees import leaves_in

if TYPE_CHECKING:
    from .guards import Guards


@dataclass(frozen=True)
class Out:
    """In a tree: the value of a node, as a new tensor of a class, or (`cls` is float) a number."""

    node: Node
    requires_grad: bool = False
    cls: type[Any] = Tensor
    grad: Node | None = None

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

    def tensor(self, leaves: list[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        return leaves[self.place]


@dataclass(frozen=True)
class Held:
    """A tensor that existed before the trace, held weakly."""

    reference: ReferenceType[Any]

    def tensor(self, leaves: list[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        return self.reference()


@dataclass(frozen=True)
class Slot:
    """The tensor that a slot holds at the time of the call, in a tree of lists and tuples."""

    container: Container
    key: Any
    path: tuple[Any, ...] = ()

    def tensor(self, leaves: list[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        item = self.container.slots().get(self.key, MISSING)
        try:
            for step in self.path:
                item = item[step]
        except (IndexError, KeyError, TypeError):
            return None
        return item if isinstance(item, Tensor) else None


@dataclass(frozen=True)
class Grad:
    """The `.grad` of a tensor."""

    target: Argument | Held | Slot

    def tensor(self, leaves: list[Any]) -> Any:
        """The tensor in a call with these leaves; None if it is gone."""
        tensor = self.target.tensor(leaves)
        return None if tensor is None else tensor._grad


Target = Argument | Held | Slot
Source = Target | Grad


@dataclass
class Trace:
    """What one call of a function does.

    Attributes:
        arguments: Nodes that stand for the leaves of the arguments.
        scalars: (container, attribute, node) of each hyperparameter.
        captured: (node, source) of values that existed before.
        nodes: Recorded nodes, in program order.
        guards: What has to hold for a call to do the same.
        result: Tree of what the function returned.
        rebound: Tensors that are given new data.
        grads: Tensors whose `.grad` is set: to a node, or None.
        slots: (container, key, tree) of slots that are given new things.
    """

    arguments: list[Node]
    scalars: list[tuple[Container, str, Node]]
    captured: list[tuple[Node, Source]]
    nodes: list[Node]
    guards: Guards
    result: Any = None
    rebound: list[tuple[Target, Node]] = field(default_factory=list)
    grads: list[tuple[Target, Node | None]] = field(default_factory=list)
    slots: list[tuple[Container, Any, Any]] = field(default_factory=list)

    @property
    def writes_state(self) -> bool:
        """Whether a call changes tensors that existed before, `.grad` aside."""
        return bool(self.rebound or self.slots)

    def wanted(self) -> list[Node]:
        """The nodes whose values a call needs, each once: results, then state, then gradients."""
        found: dict[Node, None] = {}
        for out in outs_in([self.result, *[tree for _, _, tree in self.slots]]):
            found.update(out.nodes())
        for _, node in [*self.rebound, *self.grads]:
            if node is not None:
                found.setdefault(node)
        return list(found)
