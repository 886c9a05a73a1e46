"""From what a function read while it was traced to the guards of its program.

::

    before: what was read               after: what has to hold at each call

    cfg.depth, a number                 it is equal
    opt.lr, a hyperparameter            it is a number that is not 0: programs read it
    model.h, which the program writes   it holds a tensor of the same shape and dtype
    model.layer, any other thing        it is the same one
    w, found at two places              one tensor is still at both
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any
from weakref import ref

from ...context import ALL, changes
from ...state import Stateful
from ...tensor import Tensor
from ..guards.news import News
from ..objects.seen import Seen
from ..objects.slots import Slot
from ..objects.trees import tensors_in
from .changed import owners_inside
from .reached import Reached
from .trace import Argument, Grad, Held, Source, Trace
from .tracer import Tracer

_KEEP_THEIR_CLASS = (dict, list, FunctionType, ModuleType)
"""Of these nobody changes the class."""
_ALL_OF_IT = {"__class__", "__dict__"}
"""Attributes that change all others."""


def guard(trace: Trace, tracer: Tracer, reached: Reached, leaves: list[Any]) -> None:
    """Tell the guards of a trace what it relies on, once everything is as before the trace.

    Args:
        trace: What a call does.
        tracer: Recorded it.
        reached: What was read.
        leaves: Of the arguments of the traced call.
    """
    guards = trace.guards
    written = {slot for slot, _ in trace.slots}
    numbers = {slot for slot, _ in trace.scalars}
    inside = owners_inside(written, reached)
    _rely(guards.news, reached, written)
    read = [seen for owner, seen in reached.found.items() if owner not in inside]
    _look_where_nobody_tells(written, reached)
    for seen in read:
        # What was given the value that it had is not written: it has to have it at each call.
        kept = [key for key in seen.assigned if Slot(seen.container, key) not in written]
        numbers.difference_update([Slot(seen.container, key) for key in kept])
        seen.reads.update(dict.fromkeys(kept))
        if seen.is_relied_on():
            guards.add(seen, written, numbers)
        if type(seen.owner) not in _KEEP_THEIR_CLASS and not isinstance(seen.owner, type):
            guards.add_class(seen.container)
    for array in reached.arrays:
        guards.add_array(array)
    for held in reached.elements:
        guards.add_elements(held)
    for thing in [*trace.held, *[reference() for reference in reached.weak]]:
        guards.add_life(thing)
    for tensor, flag in reached.tensors.values():
        guards.add_flag(tensor, flag)
        if not any(tensor is leaf for leaf in leaves):  # the function may compare them
            guards.add_apart(tensor)
    for reference, flag in tracer.captured.values():
        guards.add_flag(reference(), flag)
    for node, source in trace.captured:
        if not isinstance(source, Grad):
            guards.add_source(source, node.specs())
    for tensor in _only_reached(trace, written, reached, leaves):  # their shapes may be asked for
        guards.add_source(Held(ref(tensor)), tensor.node.specs())
    guards.add_others([target for target, _ in [*trace.rebound, *trace.grads]])
    guards.tensors.aliases += _aliases(read, written, inside, reached, leaves)
    _guard_changed(trace, leaves)


def _only_reached(
    trace: Trace, written: set[Slot], reached: Reached, leaves: list[Any]
) -> list[Tensor]:
    """Tensors that a function found, and neither computed with nor changed."""
    targets = [*[source for _, source in trace.captured], *[target for target, _ in trace.rebound]]
    others = [*leaves, *[target.tensor(leaves) for target in targets]]
    for slot in written:
        others += [tensor for _, tensor in tensors_in(slot.held())]
    known = set(map(id, others))
    return [tensor for tensor, _ in reached.tensors.values() if id(tensor) not in known]


def _look_where_nobody_tells(written: set[Slot], reached: Reached) -> None:
    """What a function writes past the class, as `vars(self)[name]`, others may write so, too."""
    for slot in written:
        container = slot.container
        if container.dotted and slot.key not in reached.seen(slot).assigned:
            container.tells = False


def _rely(news: News, reached: Reached, written: set[Slot]) -> None:
    """Let guards have news of the attributes that were read or written."""
    for seen in reached.found.values():
        if seen.container.tells or isinstance(seen.owner, Stateful):
            keys = [slot.key for slot in written if slot.container is seen.container]
            names = {*seen.reads, *seen.assigned, *keys}
            changes.rely(news, seen.owner, {ALL} if seen.whole else {*_ALL_OF_IT, *names})


def _aliases(
    read: list[Seen], written: set[Slot], inside: set[int], reached: Reached, leaves: list[Any]
) -> Iterator[list[Source]]:
    """A tensor that is found at several places is one input: it has to be so at each call."""
    found: dict[int, list[Source]] = {}
    in_written: set[int] = set()
    for seen in read:
        for key in seen.read():
            value = seen.before.get(key)
            if isinstance(value, Tensor | list | dict | tuple):
                slot = Slot(seen.container, key)
                if slot in written or id(value) in inside or isinstance(value, Tensor | tuple):
                    for path, tensor in tensors_in(value):
                        found.setdefault(id(tensor), []).append(Slot(seen.container, key, path))
                        if slot in written:
                            in_written.add(id(tensor))
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and id(leaf) in reached.tensors:
            yield [Argument(place), *(found.pop(id(leaf), []) or [Held(ref(leaf))])]
    for identity, slots in found.items():
        if len(slots) > 1 and identity in in_written:
            yield slots


def _guard_changed(trace: Trace, leaves: list[Any]) -> None:
    """A tensor that is changed has to be another one than all that are used, as it was.

    It may become one of them where a slot is written: all others hold what they held.
    """
    guards = trace.guards.tensors
    targets = [target for target, _ in [*trace.rebound, *trace.grads, *guards.grads]]
    changed = {id(target.tensor(leaves)): target for target in targets}
    changed.pop(id(None), None)  # what is gone
    used = [source for _, source in trace.captured if not isinstance(source, Grad)]
    if not any(isinstance(target, Slot) for target in changed.values()):
        used = [source for source in used if isinstance(source, Slot)]
    kept = [source for source in used if id(source.tensor(leaves)) not in changed]
    if any(isinstance(place, Slot) for place in [*changed.values(), *kept]):
        guards.changed, guards.kept = list(changed.values()), kept
        given = any(isinstance(target, Argument) for target in guards.changed)
        places = [*guards.changed, *(kept if given else [])]
        guards.apart = [place for place in places if isinstance(place, Slot)]
