"""The short way of a call in an unchanged world: tensors go in, one new tensor comes out.

Beside running its code such a call has little to do, and passing from layer to layer would take
longer than that, the more so after a program that has left nothing of Python in the caches::

    before: any call                           after: one that leaves a tensor, and state in place

    guards, then the binding of all inputs,    the cheap look, addresses in, code, a tensor out
    draws, stages, state, a tree of results

Where anything is out of the ordinary the call is begun anew the long way, which also raises what
there is to raise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..graph.node import Node, new_handle
from .turns import BusyError

if TYPE_CHECKING:
    from .binding import Binding
    from .guards import Guards
    from .program import Program

Shortcut = Callable[["Program", Sequence[Any], dict[str, Any]], Any]
"""From a program, tensors that it fits, and the thread's modes to the result.

None where the long way has to be gone.
"""


def shortcut(guards: Guards, binding: Binding, result: int, cls: type[Any]) -> Shortcut | None:
    """The short way of a program that leaves a tensor of a class, and else only state in place.

    Returns:
        None if it has none, because each call has to be looked at more closely.
    """
    run = binding.native.quick(result)
    if run is None or guards.looks_at_calls or binding.may_be_held:
        return None
    unchanged, others = guards.unchanged, guards.others
    bind, bind_numbers = binding.native.bind, binding.bind_numbers
    has_numbers = binding.has_numbers

    def call(program: Program, args: Sequence[Any], mine: dict[str, Any]) -> Any:
        if mine["inside"] or not unchanged():
            return None
        with program.lock:
            mine["inside"] = (program,)
            try:
                if not binding.bound or binding.each_call:
                    return None
                for place, tensor in enumerate(args):
                    array = tensor.node.storage
                    if array is None or not array.flags.c_contiguous or id(tensor) in others:
                        return None
                    if array.base is not None and id(array.base) in binding.written:
                        return None
                    bind(place, array)
                if has_numbers:
                    bind_numbers(len(args))
                array = run()
                if array is None:
                    program.raise_index_error(args)
                program.calls += 1
            except BusyError:
                return None
            finally:
                mine["inside"] = ()
        return new_handle(Node(None, (), array, False), cls)

    return call
