"""The short way of a call in an unchanged world: tensors go in, new tensors come out.

Beside running its code such a call has little to do, and passing from layer to layer would take
longer than that, the more so after a program that has left nothing of Python in the caches. So the
quick look and the binding of the arguments are one loop::

    before: any call                           after: one that changes state in place alone

    guards, then the binding of all inputs,    the cheap look, addresses in, code, results out
    draws, stages, state, a tree of results

Where anything is out of the ordinary the call is begun anew the long way, which also raises what
there is to raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..context import ambient
from ..random import ambient_stream
from ..tensor import Tensor
from .turns import BusyError

if TYPE_CHECKING:
    from .binding import Binding
    from .commit import Commit
    from .guards import Guards
    from .program import Program

Modes = tuple[bool, bool, type[Any]]
"""Whether gradients are recorded, shapes broadcast by themselves, and the kind of stream."""
QuickKey = tuple[Modes, tuple[tuple[Any, ...], ...]]
"""Modes and, for each argument, shape, dtype, need of a gradient, and whether it is a leaf."""
Shortcut = Callable[["Program", Sequence[Any], dict[str, Any]], Any] | None
"""From a program, arguments, and the thread's modes to the result.

That is LONG_WAY where the long way has to be gone; there is no function where it always has to be.
"""
LONG_WAY: Any = object()


def modes_of(mine: dict[str, Any]) -> Modes:
    """The modes of a thread that a trace depends on."""
    return mine["gradients"], mine["implicit_broadcasting"], type(ambient_stream())


def quick_key(args: Sequence[Any], kwargs: dict[str, Any]) -> QuickKey | None:
    """The key of a call that is quick to tell; None if its arguments are not all plain tensors.

    Nor may one come twice.
    """
    if kwargs or len(set(map(id, args))) < len(args):
        return None
    if not all(type(argument) is Tensor and argument.dtype.isnative for argument in args):
        return None
    likes = [(i.shape, i.dtype, i.requires_grad, i.node.op is None) for i in args]
    return modes_of(ambient.__dict__), tuple(likes)


def shortcut(guards: Guards, binding: Binding, key: QuickKey | None, commit: Commit) -> Shortcut:
    """The short way of a program that changes state in place, if it does, and not otherwise.

    Returns:
        None if it has none, because each call has to be looked at more closely.
    """
    run = binding.native.quick()
    looks = guards.looks_at_calls or binding.may_be_held
    if key is None or run is None or commit.moves_state or looks:
        return None
    modes, likes = key
    count, unchanged, others = len(likes), guards.unchanged, guards.others
    bind_numbers = binding.bind_numbers if binding.has_numbers else None

    def call(program: Program, args: Sequence[Any], mine: dict[str, Any]) -> Any:
        now = mine["gradients"], mine["implicit_broadcasting"], type(ambient_stream())
        if now != modes or mine["inside"] or len(args) != count or not unchanged():
            return LONG_WAY
        with program.lock:
            mine["inside"] = (program,)
            try:
                if not binding.bound or binding.each_call:
                    return LONG_WAY
                arrays = []
                for k, tensor in enumerate(args):
                    if type(tensor) is not Tensor or id(tensor) in others:
                        return LONG_WAY
                    array = (node := tensor.node).storage
                    if array is None or not array.flags.c_contiguous:
                        return LONG_WAY
                    if (array.shape, array.dtype, node.requires_grad, node.op is None) != likes[k]:
                        return LONG_WAY
                    base = array.base
                    if base is not None and binding.written and not binding.is_apart(base):
                        return LONG_WAY
                    arrays.append(array)
                if count > 1 and len(set(map(id, args))) < count:
                    return LONG_WAY
                if bind_numbers is not None:
                    bind_numbers(count)
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
