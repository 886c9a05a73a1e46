"""The short way of a call in an unchanged world: tensors go in, results come out.

Beside running its code such a call has little to do, and passing from layer to layer would take
longer than that, the more so after a program that has left nothing of Python in the caches. So the
quick look and the binding of the arguments are one loop::

    before: any call                           after: one that writes state in place, if any

    guards, then the binding of all inputs,    the cheap look, addresses in, code, results out
    draws, stages, state, a tree of results

Where anything is out of the ordinary the call is begun anew the long way, which also raises what
there is to raise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...random import ambient_stream
from ...tensor import Tensor
from ..tracing.signature import Likeness, likeness
from ..tracing.turns import BusyError

if TYPE_CHECKING:
    from ..guards.guards import Guards
    from .binding import Binding
    from .commit import Commit
    from .program import Program

Modes = tuple[bool, bool, type[Any]]
"""Whether gradients are recorded, shapes broadcast by themselves, and the kind of stream."""
QuickKey = tuple[Modes, tuple[Likeness, ...]]
"""Modes and the likeness of each argument."""
Shortcut = Callable[["Program", Sequence[Any], dict[str, Any]], Any] | None
"""From a program, arguments, and the thread's modes to the result.

That is LONG_WAY where the long way has to be gone; there is no function where it always has to be.
"""
LONG_WAY: Any = object()


def modes_of(mine: dict[str, Any]) -> Modes:
    """The modes of a thread that a trace depends on."""
    return mine["gradients"], mine["implicit_broadcasting"], type(ambient_stream())


def quick_key(args: Sequence[Any], mine: dict[str, Any]) -> QuickKey | None:
    """The key of a call that is quick to tell; None if not all its arguments are.

    Nor may one come twice.
    """
    likes: tuple[Any, ...] = tuple([_likeness(argument) for argument in args])
    if None in likes or (len(args) > 1 and len(set(map(id, args))) < len(args)):
        return None
    return modes_of(mine), likes


def _likeness(argument: Any) -> Likeness | None:
    """What is quick to tell of an argument; None for all but plain tensors and arrays."""
    if type(argument) is Tensor:
        like = likeness(argument)
    elif type(argument) is np.ndarray and argument.dtype.kind in "biuf":
        like = argument.shape, argument.dtype
    else:
        return None
    return like if like[1].isnative else None


def shortcut(guards: Guards, binding: Binding, key: QuickKey | None, commit: Commit) -> Shortcut:
    """The short way of a program; None if each call has to be looked at more closely.

    It gives no tensor other memory, and no slot other things; it may write state in place, and set
    gradients.
    """
    run = binding.native.quick()
    looks = guards.tensors.looks_at_calls or binding.may_be_held
    if key is None or run is None or commit.moves_state or looks:
        return None
    modes, likes = key
    unchanged, arrays_of = guards.unchanged, _arrays_of(likes, guards.tensors.others, binding)
    bind_numbers = binding.bind_numbers if binding.has_numbers else None

    def call(program: Program, args: Sequence[Any], mine: dict[str, Any]) -> Any:
        now = mine["gradients"], mine["implicit_broadcasting"], type(ambient_stream())
        if now != modes or mine["inside"] or not unchanged():
            return LONG_WAY
        with program.lock:
            mine["inside"] = (program,)
            try:
                arrays = arrays_of(args)
                if arrays is None:
                    return LONG_WAY
                if bind_numbers is not None:
                    bind_numbers(len(args))
                results = run(arrays)
                program.calls += 1
                if results is None:
                    program.raise_index_error(args)
                return commit.write(args, results, True)
            except BusyError:
                return LONG_WAY
            except BaseException:  # as Ctrl-C after state was written, which has to be counted
                program.calls += 1
                raise
            finally:
                mine["inside"] = ()

    return call


def _arrays_of(
    likes: Sequence[Likeness], others: Collection[int], binding: Binding
) -> Callable[[Sequence[Any]], list[Any] | None]:
    """What finds the arrays of a call's arguments, or None if it has to go the long way.

    Args:
        likes: What arguments have to be like.
        others: Identities of tensors that are no arguments.
        binding: Knows what is state, and whether that is where it was.
    """
    count, is_apart, ndarray = len(likes), binding.is_apart, np.ndarray

    def arrays_of(args: Sequence[Any]) -> list[Any] | None:
        if len(args) != count or not binding.bound or binding.each_call:
            return None
        arrays = []
        for k, argument in enumerate(args):  # its likeness is told in place: calls take time
            if type(argument) is Tensor:
                array = (node := argument.node).storage
                if array is None or id(argument) in others:
                    return None
                like = array.shape, array.dtype, node.requires_grad, node.op is None
            elif type(array := argument) is ndarray:
                like = array.shape, array.dtype
            else:
                return None
            if like != likes[k] or not array.flags.c_contiguous:
                return None
            base = array.base
            if base is not None and binding.written and not is_apart(base):
                return None
            arrays.append(array)
        return arrays if count < 2 or len(set(map(id, args))) == count else None

    return arrays_of
