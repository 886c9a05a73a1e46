"""What a trace has reached: it grows while the function runs, and is compared and guarded after it.

::

    the function names                      what is noted

    model, an object; cfg, a dict           found      the slots as they were, and which were read
    w, a tensor                             tensors    its `requires_grad`
    opt, with a hyperparameter `lr`         scalars    what stands for the number
    mask, a NumPy array                     arrays     a copy of it
    seen, a set; queue, a deque             elements   what they held
"""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import ref

from ...errors import TraceError
from ...tensor import Tensor
from ..objects.contents import Contents
from ..objects.seen import Seen
from ..objects.slots import Slot
from .tracer import Scalar


class Reached:
    """The things that a function can read, as they were, and what it read of them.

    Attributes:
        found: What has slots, by its identity, in the order in which it was reached.
        tensors: Tensors, with their `requires_grad`, by identity.
        scalars: The stand-in for each hyperparameter, by where it is.
        arrays: What NumPy arrays held.
        elements: What sets, deques and `array`s held.
        grown: Of lists, and of those in `elements`, to which the function added.
        weak: Weak references, some made of proxies.
        not_imported: Modules that code imports, and that nothing had imported when it was reached.
    """

    def __init__(self) -> None:
        self.found: dict[int, Seen] = {}
        self.tensors: dict[int, tuple[Tensor, bool]] = {}
        self.scalars: dict[Slot, Scalar] = {}
        self.arrays: list[Contents] = []
        self.elements: list[Contents] = []
        self.grown: list[Contents] = []
        self.weak: list[ref[Any]] = []
        self.not_imported: list[str] = []

    def was_read(self, slot: Slot) -> bool:
        """Whether a slot counts as read."""
        return self.seen(slot).was_read(slot.key)

    def seen(self, slot: Slot) -> Seen:
        """What was seen of the container of a slot."""
        return self.found[id(slot.container.owner())]

    def added(self) -> deque[Any]:
        """What the function added."""
        return deque(new for held in self.grown for new in held.added())

    def take_back(self) -> None:
        """The call is made again, or was none: let there be nothing of what it added."""
        for held in self.grown:
            held.put_back()

    def settle(self) -> None:
        """The function has run: see to what it changed behind the containers' back.

        Raises:
            TraceError: a NumPy array was written.
        """
        # What the function itself put there is a side effect, which nothing relies on.
        self.grown = [held for held in self.elements if held.added()]
        self.elements = [held for held in self.elements if not held.added()]
        for array in self.arrays:
            if not array.are_same():
                raise TraceError(
                    f"the NumPy array {array.path} was written while a jitted function was traced, "
                    "and a program would not write it again. Keep it in a tensor and assign its "
                    ".data"
                )
