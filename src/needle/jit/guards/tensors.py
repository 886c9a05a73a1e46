"""What has to hold of tensors: their flags and shapes, and which of them are one and the same.

::

    a function is traced                  what a call with its program needs

    y = w * 2, of a w of the closure      `w` has the shape and the flag that it had
    the same, called with x               `x` is not `w`: it would be read at two places
    if w.grad is None: ...                `w.grad` is None again
    a.data, b.data = b * 1, a * 2         `a` and `b` are two tensors, as they were
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ReferenceType

from ...graph.node import Specs
from ...tensor import Tensor
from ..objects.slots import Slot

if TYPE_CHECKING:
    from ..tracing.trace import Source, Target


class TensorGuards:
    """What a trace relies on of tensors, which are held weakly.

    Attributes:
        flags: Tensors, and whether each needs a gradient.
        sources: Where tensors are found, and their shapes and dtypes.
        grads: Where a `.grad` was read, and its shape and dtype; None for one that was None.
        aliases: Lists of places that hold one and the same tensor.
        changed: Where the tensors are that the program changes, none of them at two places.
        kept: Where others are that it uses.
        others: Identities of tensors that may not be passed as arguments.
        apart: Slots of those that may not, either.
    """

    def __init__(self) -> None:
        self.flags: list[tuple[ReferenceType[Tensor], bool]] = []
        self.sources: list[tuple[Source, Specs]] = []
        self.grads: list[tuple[Target, Specs | None]] = []
        self.aliases: list[list[Source]] = []
        self.changed: list[Target] = []
        self.kept: list[Target] = []
        self.others: set[int] = set()
        self.apart: list[Slot] = []

    @property
    def looks_at_calls(self) -> bool:
        """Whether each call is looked at for more than which tensors are passed."""
        return bool(self.aliases or self.grads or self.apart)

    def difference(self, leaves: list[Any]) -> str | None:
        """What differs of the tensors that were used, None if nothing does."""
        for reference, flag in self.flags:
            tensor = reference()
            if tensor is not None and tensor.requires_grad != flag:
                return f"requires_grad of a tensor of shape {tensor.shape} changed"
        for source, specs in self.sources:
            tensor = source.tensor(leaves)
            if tensor is None:
                return "a tensor that was used is gone"
            if tensor.node.specs() != specs:
                return f"a tensor has shape {tensor.shape} now"
        return self._difference_of_places(leaves)

    def _difference_of_places(self, leaves: list[Any]) -> str | None:
        """What is one tensor now, and was two."""
        changed: dict[int, Tensor] = {}
        for target in self.changed:
            tensor = target.tensor(leaves)
            if id(tensor) in changed:
                return _at_two_places(tensor)
            if tensor is not None:
                changed[id(tensor)] = tensor
        for source in self.kept:
            tensor = source.tensor(leaves)
            if id(tensor) in changed:
                return _at_two_places(tensor)
        return None

    def difference_of_call(self, leaves: list[Any]) -> str | None:
        """What differs that nobody tells of: arguments that are state too, and `.grad`."""
        others = self.others
        if self.apart:  # which are other tensors at each call
            others = others.union([id(slot.tensor(leaves)) for slot in self.apart])
        for leaf in leaves:
            if id(leaf) in others:
                return f"an argument of shape {leaf.shape} is a tensor that is used besides"
        for target, specs in self.grads:
            tensor = target.tensor(leaves)
            grad = None if tensor is None else tensor._grad
            if (None if grad is None else grad.node.specs()) != specs:
                now = "None" if grad is None else f"of shape {grad.shape}"
                return f"a .grad was read, and is {now} now"
        for targets in self.aliases:
            tensors = [target.tensor(leaves) for target in targets]
            if any(tensor is not tensors[0] for tensor in tensors):
                return (
                    f"a tensor of shape {tensors[0].shape} was found at two places, and is not now"
                )
        return None


def _at_two_places(tensor: Tensor) -> str:
    return f"a tensor of shape {tensor.shape} is found at two places, and was not"
