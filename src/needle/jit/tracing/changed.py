"""Which slots a function changed while it was traced, and which of those a program has to write.

::

    what a slot held, and holds           what follows

    a tensor, another tensor              the program writes it
    1, 1 + 1                              `ChangedNumberError`: a program would not count on
    nothing, a tensor                     `NewStateError`: this call has to be made eagerly
    a list, the same with 0.5 at its end  a side effect, which stays
    a dict, the same with one key less    `TraceError`
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...errors import TraceError
from ...state import Telling
from ...tensor import Tensor
from ..objects.containers import Entries, Items
from ..objects.contents import Contents
from ..objects.sameness import is_as_good, is_equal
from ..objects.seen import is_number
from ..objects.slots import MISSING, Slot
from ..objects.things import is_of_library, is_own, is_users_object
from ..objects.trees import items_of, outline, tensors_in
from .iterators import slots_now
from .reached import Reached
from .tracer import Scalar


class Change(NamedTuple):
    """A slot that a program has to write, with what it held before and holds now."""

    slot: Slot
    old: Any
    new: Any


class NewStateError(Exception):
    """State came into being: the call has to be made eagerly first.

    Args:
        slot: Where.
        advice: What to write instead, if there is something new at every call.
        bounded: Whether there can only be so much of it, as an optimiser's for each parameter.
    """

    def __init__(
        self,
        slot: str,
        advice: str = "Keep a fixed number of tensors and assign their .data, or return the tensor",
        *,
        bounded: bool = False,
    ) -> None:
        super().__init__(slot)
        self.advice = advice
        self.bounded = bounded


class ChangedNumberError(TraceError):
    """A Python number changed during a trace."""

    def __init__(self, changed: list[tuple[Slot, Any]]) -> None:
        slot, _ = changed[0]
        where, advice = slot.label, "Change it outside the jitted function"
        if slot.container.dotted and is_of_library(type(slot.container.owner())):
            advice += ", as with schedule.step() after each of its calls"  # ours, and no tensor
        else:
            advice += f", or keep it in a tensor: {where} = ndl.Tensor(0), and "
            advice += f"{where}.data = {where} + 1"
        super().__init__(
            f"the Python number {where} changed while a jitted function was traced, and is a "
            f"constant of the program. {advice}"
        )
        self.changed = changed


def changed_slots(reached: Reached) -> list[Change]:
    """The slots that a program has to write.

    Raises:
        TraceError: a function did what a program could not repeat.
        NewStateError: state came into being.
    """
    written: list[Change] = []
    numbers: list[tuple[Slot, Any]] = []
    for tensor in first_attributes(reached):
        raise NewStateError(f"{next(iter(vars(tensor)))} of a tensor of shape {tensor.shape}")
    for name in reached.not_imported:
        if name in sys.modules and is_own(sys.modules[name]):  # whose variables were not watched
            raise NewStateError(name, f"Import {name} outside the jitted function", bounded=True)
    for held in reached.elements:
        if not held.are_same():
            advice = f"Change {held.path} outside the jitted function"
            raise NewStateError(held.path, advice, bounded=held.were_used_up())
    for seen in reached.found.values():
        container, now = seen.container, slots_now(seen.container)
        if any(key not in now for key in seen.before):
            raise TraceError(
                f"{container.path} lost an entry during a trace. Do that outside the jitted "
                "function"
            )
        kept = filter(seen.before.__contains__, now)
        if isinstance(container, Entries) and list(kept) != list(seen.before):
            order = f"the order of {container.path}"
            raise NewStateError(order, f"Change {order} outside the jitted function")
        for key, new in now.items():
            old = seen.before.get(key, MISSING)
            if new is old:
                continue
            slot = Slot(container, key)
            if is_number(old) and is_number(new):
                if new != old:
                    numbers.append((slot, new))
            elif _is_written(slot, old, new, reached):
                written.append(Change(slot, old, new))
    if numbers:
        raise ChangedNumberError(numbers)
    _keep_what_grew(reached)
    _refuse_changed_and_replaced([change.slot for change in written], reached)
    return written


def _refuse_changed_and_replaced(written: list[Slot], reached: Reached) -> None:
    """The next call finds another list or dict than the one that a program would change."""
    inside = owners_inside(written, reached)
    for slot in written:
        if id(slot.container.owner()) in inside:
            raise TraceError(
                f"{slot.label} was assigned while a jitted function was traced, and the "
                f"{type(slot.container.owner()).__name__} that it is in was replaced. "
                "Do one of the two"
            )


def _is_written(slot: Slot, old: Any, new: Any, reached: Reached) -> bool:
    """Whether a program has to write what a slot holds now."""
    scalar = reached.scalars.get(slot)
    was_read = reached.was_read(slot)
    if isinstance(new, Scalar):
        if scalar is not None:
            return new is not scalar
        if is_number(old):  # a constant of the program, if the function read it
            if was_read:
                raise NewStateError(slot.label, f"Set {slot.label} outside the jitted function")
            return True
    holds_tensors = bool(tensors_in(new))
    if old is MISSING and isinstance(slot.container, Items) and not holds_tensors:
        return False
    if old is MISSING or (holds_tensors and _structure(old) != _structure(new)):
        owner = slot.container.owner()
        bounded = isinstance(owner, Telling) and isinstance(slot.key, Tensor)
        raise NewStateError(slot.label, bounded=bounded)
    # Guards see all that happens to an old array or set that was read: it may stay.
    is_seen = was_read and not (isinstance(new, list | dict) or is_users_object(new))
    may_stay = is_equal if is_seen else is_as_good
    return holds_tensors or not may_stay(new, old)


def _keep_what_grew(reached: Reached) -> None:
    """A list that grew by Python values: a side effect that stays; nothing relies on it."""
    for seen in reached.found.values():
        now = slots_now(seen.container)
        if isinstance(seen.container, Items) and len(now) > len(seen.before):
            path, before = seen.container.path, list(seen.before.values())
            reached.grown.append(Contents(path, seen.owner, before))
            seen.before, seen.whole = now, False


def first_attributes(reached: Reached) -> list[Tensor]:
    """Tensors that were given attributes and had none before; those that had some are watched."""
    tensors = [tensor for tensor, _ in reached.tensors.values() if id(tensor) not in reached.found]
    return [tensor for tensor in tensors if vars(tensor)]


def owners_inside(written: Iterable[Slot], reached: Reached) -> set[int]:
    """Lists and dicts at which the guards of slots look that were read and are written."""
    found: set[int] = set()

    def note(item: Any) -> None:
        if isinstance(item, list | dict | tuple):
            found.add(id(item))
            for _, part in items_of(item):
                note(part)

    for slot in filter(reached.was_read, written):  # guards do not look at others
        value = reached.seen(slot).before.get(slot.key)
        if tensors_in(value):
            note(value)
    return found


def _structure(item: Any) -> Any:
    """Where in a tree the tensors are: what a program relies on."""
    return outline(item, lambda leaf: isinstance(leaf, Tensor))
