"""Guards: what must still hold for a program to be the right one.

The cheap look: these guards were not told of an attribute of a `Stateful` object that the program
uses, nor of a tensor, and the names, other objects, dicts, lists, sets, deques and small arrays
that were read hold the same things.
Only if that fails is everything compared in detail::

    between two calls        the cheap look          the detailed look         what follows

    nothing                  nothing changed                                   the program runs
    model.eval()             told of `training`,                               it runs
    model.train()            which is what it was
    w.data = new             told of a tensor        nothing that matters      it runs; the world
                                                                               is accepted as it is
    model.training = False   told of `training`      "model.training changed"  another, or a new one
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from ...context import VALUE, changes
from ...graph.node import Specs
from ...tensor import Tensor
from ..objects.containers import Attributes
from ..objects.contents import Contents
from ..objects.names import Closure, Defaults
from ..objects.sameness import is_rate
from ..objects.seen import Seen
from ..objects.slots import MISSING, Container, Slot
from .looks import Arrays, Definitions, Identities, Look, Place, SlotGuard, Views, Written
from .news import Heard, News
from .pins import Pin, alike, dies, pinned
from .tensors import TensorGuards

if TYPE_CHECKING:
    from ..tracing.trace import Source


WATCHED_BYTES = 2**16
"""Contents of larger NumPy arrays are not watched: to look at them takes longer than a call."""


class Guards:
    """The state of the world that a trace relies on. Tensors and objects are held weakly.

    Attributes:
        alive: False once something died without which the program cannot be used again.
        when_gone: Called then, with the name of the slot that held it, if one did.
        news: What these guards are told of.
        tensors: What has to hold of tensors.
    """

    def __init__(self) -> None:
        self.alive = True
        self.when_gone: Callable[[str], None] = lambda label: None
        self.news = News()
        self.tensors = TensorGuards()
        self._slots: list[SlotGuard] = []
        self._identities, self._definitions = Identities(), Definitions()
        self._arrays, self._views = Arrays(), Views()
        self._cheap: dict[Look, Callable[[], bool]] = {}  # bound methods are called more quickly
        self._owners: list[ReferenceType[Any]] = []
        self._written: dict[Slot, Pin] = {}

    # -- what is relied on, told by the trace ------------------------------------------------------

    def add(self, seen: Seen, written: set[Slot], numbers: set[Slot]) -> None:
        """Rely on what the slots of a container that were read hold.

        Args:
            seen: The container, and what was read of it.
            written: Slots that the program writes.
            numbers: Slots of hyperparameters.
        """
        container = seen.container
        places: list[Place] = []
        for key in seen.read():
            value, slot = seen.before.get(key, MISSING), Slot(container, key)
            if container.is_fixed(key, value):
                continue
            if slot in numbers:
                places.append((key, 0, is_rate))
            elif slot in written:
                self._written[slot] = pin = alike(value)
                places.append((key, 0, pin))
            else:
                places.append(self._place(container, key, value))
        slots = SlotGuard(container, list(seen.before) if seen.whole else None, places)
        self._slots.append(slots)
        if container.tells and container.dotted:
            owner = id(container.owner())
            for key, check in slots.checks():
                if Slot(container, key) not in written:
                    self.news.checks[owner, key] = check
        if isinstance(container, Closure):
            self._look_at_function(container.owner())
        self._look_at(slots)

    def look_into(self, slots: Iterable[Slot]) -> None:
        """Look at each call into these slots, which each call of the program fills anew."""
        for slot in slots:
            if slot in self._written:
                self._see(Written(slot.container, slot.key, self._written[slot]))

    def _place(self, container: Container, key: Any, value: Any) -> Place:
        """A slot that has to hold what it held."""
        pin = pinned(value, partial(self._gone, label=container.label(key)))
        return key, 0 if isinstance(value, tuple) else id(value), pin

    def add_class(self, container: Container) -> None:
        """Rely on the class of an object."""
        self._definitions.add_class(container)
        self._see(self._definitions)

    def _look_at_function(self, function: FunctionType) -> None:
        """Rely on a function being alive, its code and its default arguments."""
        self.add_life(function)
        self._definitions.add_code(ref(function))
        self._see(self._definitions)
        self._look_at_defaults(Defaults(function))

    def _look_at_defaults(self, defaults: Defaults) -> None:
        """Rely on the default arguments of a function."""
        given = defaults.slots()
        if not given:
            return
        places = [self._place(defaults, *item) for item in given.items()]
        slots = SlotGuard(defaults, list(given), places)
        self._slots.append(slots)
        if defaults.are_plain():
            self._definitions.add_defaults(defaults.owner)
        else:
            self._look_into(slots.read)

    def _look_at(self, slots: SlotGuard) -> None:
        """Let the cheap look see some slots, unless these guards are told what happens to them."""
        container, owner = slots.container, slots.container.owner()
        if container.dotted and dies(owner):
            self.add_life(owner)
        if container.tells:
            return
        if slots.whole is not None and (views := container.views()):
            self._views.add(*views)
            self._see(self._views)
            if isinstance(container, Attributes):
                self._definitions.add_attributes(container.owner)
                self._see(self._definitions)
        elif slots.keys:
            self._look_into(slots.read)

    def add_array(self, array: Contents) -> None:
        """Rely on the contents of a NumPy array, if it is small enough to look at each time."""
        if array.before.nbytes <= WATCHED_BYTES:
            self._arrays.add(array)
            self._see(self._arrays)

    def add_elements(self, held: Contents) -> None:
        """Rely on what a set or deque holds."""
        self._views.add_elements(held)
        self._see(self._views)

    def add_life(self, item: Any) -> None:
        """Rely on a thing being alive, to which there are weak references."""
        if item is not None:
            self._owners.append(ref(item, self._gone))

    def add_flag(self, tensor: Tensor | None, flag: bool) -> None:
        """Rely on whether a tensor needs a gradient, and on its data."""
        if tensor is not None:
            changes.rely(self.news, tensor, [VALUE])
            self.tensors.flags.append((ref(tensor), flag))

    def add_apart(self, tensor: Tensor) -> None:
        """Rely on a tensor not being passed as an argument, as long as it lives."""
        others, identity = self.tensors.others, id(tensor)
        others.add(identity)
        self._owners.append(ref(tensor, lambda _: others.discard(identity)))

    def add_source(self, source: Source, specs: Specs) -> None:
        """Rely on the shape and dtype of a tensor."""
        self.tensors.sources.append((source, specs))
        self.add_others([source])

    def add_others(self, targets: Sequence[Source]) -> None:
        """Rely on these tensors not being passed as arguments."""
        for target in targets:
            reference = getattr(target, "reference", None)
            if reference is not None and reference() is not None:
                self.tensors.others.add(id(reference()))
                self.add_life(reference())

    # -- looking -----------------------------------------------------------------------------------

    def unchanged(self) -> bool:
        """The cheap look: True when surely nothing changed."""
        news = self.news
        if news.last is not news.seen and not news.is_as_before():
            return False
        for unchanged in self._cheap.values():
            if not unchanged():
                return False
        return self.alive

    def accept(self, heard: Heard | None = None) -> None:
        """Take the world as it is for the one that the next cheap look compares with.

        Args:
            heard: The news of when it was looked at in detail.
        """
        if heard is not None:
            self.news.see_to(heard)
        for look in self._cheap:
            look.accept()

    def difference(self, leaves: list[Any]) -> str | None:
        """The detailed look: what differs from the world of the trace, None if nothing does."""
        self._views.let_go()
        if not self.alive:
            return "something that was used is gone"
        for look in [self.news, self._definitions, *self._slots, self._arrays, self._views]:
            difference = look.difference()
            if difference is not None:
                return difference
        return self.tensors.difference(leaves)

    # -- inside ------------------------------------------------------------------------------------

    def _look_into(self, read: Callable[[], Iterable[Any]]) -> None:
        """Let the cheap look see what a function reads."""
        self._identities.add(read)
        self._see(self._identities)

    def _see(self, look: Look) -> None:
        self._cheap[look] = look.unchanged

    def _gone(self, reference: Any, label: str = "") -> None:
        self.alive = False
        self._views.let_go()
        self.when_gone(label)
