"""A program: a trace that can be run again. It reads inputs, runs, and only then writes state.

What a call does, and where that is (most go the short way through it, shortcut.py)::

    fits, mismatch     whether this is the program for the world as it is     guards.py
    run                finds the inputs, and runs machine code on them        binding.py
                       writes new state, and makes what the function returns  commit.py
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ... import config
from ...context import ambient
from ...errors import TraceError
from ...graph.node import Node
from ...native import llvm
from ..compiler.compiled import Compiled
from ..compiler.expression import UnsupportedError
from ..tracing.interpret import Interpreter
from ..tracing.streams import draws_undone
from ..tracing.trace import Source, Trace
from ..tracing.turns import inside_turn
from .binding import Binding, state_in_place
from .commit import Commit
from .differentiate import Differentiable
from .inputs import Inputs
from .shortcut import QuickKey, Shortcut, quick_key, shortcut


class Program:
    """One trace, with what is needed to run it.

    Args:
        trace: What a call does.
        reason: Why it was traced, for `step.programs`.
        key: The quick key of the traced call, if it has one.

    Attributes:
        backend: "native", or why it is not.
        shortcut: The short way of a call, if the program has one.
    """

    def __init__(self, trace: Trace, reason: str, key: QuickKey | None = None) -> None:
        self.trace = trace
        self.reason = reason
        self.calls = 0
        self.last_used = time.monotonic()
        self.guards = trace.guards
        self.inputs = Inputs(trace)
        self.lock = threading.RLock()
        self._quick_key = key
        self._steady = False
        differentiable = Differentiable.of(trace, self.inputs.nodes)
        draws = differentiable.draws if differentiable else []
        self._wanted = list(dict.fromkeys([*trace.wanted(), *draws]))
        self.backend = "native"
        self._binding: Binding | None = None
        self._execute: Callable[[list[Any]], list[Any] | None]
        try:
            self._binding = binding = self._compile(draws)
        except UnsupportedError as missing:
            self.backend = f"numpy: {missing}"
            self._execute, results, in_place = self._interpreter(), self._wanted, set[Source]()
        else:
            compiled = binding.native.compiled
            self._execute, results, in_place = binding.run, compiled.handed, binding.in_place
        commit = Commit(trace, self.inputs, results, in_place, differentiable)
        self._commit = commit
        self.shortcut: Shortcut = None
        if self._binding is not None:
            self.shortcut = shortcut(self.guards, self._binding, key, commit)

    @property
    def compiled(self) -> Compiled | None:
        """The stages down to machine code; None where the graph runs through NumPy."""
        return None if self._binding is None else self._binding.native.compiled

    def __repr__(self) -> str:
        return f"Program({self.reason}; {self.calls} calls; {self.backend})"

    # -- whether it is the right one ---------------------------------------------------------------

    def fits(self, args: tuple[Any, ...], mine: dict[str, Any]) -> bool:
        """Whether a call is surely like that of the trace, by a quick key.

        Args:
            args: Its arguments.
            mine: The modes of this thread.
        """
        return self._quick_key is not None and quick_key(args, mine) == self._quick_key

    def mismatch(self, leaves: list[Any]) -> str | None:
        """Why this program is not the one for the world as it is; None if it is."""
        guards = self.guards
        self._steady = guards.unchanged()
        if self._steady:
            return guards.tensors.difference_of_call(leaves)
        heard = guards.news.heard()
        difference = guards.difference(leaves) or guards.tensors.difference_of_call(leaves)
        if difference is None:
            if self._binding is not None:
                self._binding.bound = False
            self._commit.distrust()
            guards.accept(heard)
        return difference

    # -- code --------------------------------------------------------------------------------------

    def _compile(self, draws: list[Node]) -> Binding:
        """Machine code, and how it is told of the inputs.

        Raises:
            UnsupportedError: there is none; the message says why.
        """
        if (mode := config.jit_mode()) != "1":
            raise UnsupportedError(f"NEEDLE_JIT={mode} asks for none")
        if reason := llvm.unavailable():
            _warn_without_llvm(reason)
            raise UnsupportedError(reason)
        if self.trace.draws_in_turn:  # machine code gets all draws of a call at its beginning
            raise UnsupportedError("operators of your own draw from the function's random stream")
        state, handed = state_in_place(self.trace, self.inputs.captured)
        handed = list(dict.fromkeys([*handed, *draws]))
        new = {captured.node: node for captured, node in state.items()}
        compiled = Compiled(self.inputs.nodes, self.trace.nodes, handed, new)
        in_place = [captured for captured in state if captured.node in compiled.state]
        return Binding(self.inputs, self.trace, compiled, in_place, self)

    # -- a call ------------------------------------------------------------------------------------

    def run(self, leaves: list[Any]) -> Any:
        """Run on the leaves of a call's arguments; what the function returns."""
        mine = ambient.__dict__  # this thread's: found once, read and written three times
        inside = mine["inside"]
        with inside_turn(self) if inside else self.lock:
            mine["inside"] = (*inside, self)
            try:
                try:
                    results = self._execute(leaves)
                finally:
                    self.calls += 1  # after state was written, if it was
                if results is None:
                    self.raise_index_error(leaves)
                return self._commit.write(leaves, results, self._steady)
            finally:
                mine["inside"] = inside
                self.trace.held.clear()

    def raise_index_error(self, leaves: Sequence[Any]) -> NoReturn:
        """An index was out of range, and no state was written: NumPy raises the eager message."""
        with draws_undone():  # the call itself has drawn
            self._interpreter()(list(leaves))
        raise TraceError("an index was out of range in a compiled call, and is not in an eager one")

    def _interpreter(self) -> Callable[[list[Any]], list[Any]]:
        """What gives the same results through NumPy."""
        interpreter = Interpreter(self.inputs.nodes, self.trace.nodes, self._wanted)
        values = self.inputs.values
        return lambda leaves: interpreter(values(leaves))


_warned: list[bool] = []


def _warn_without_llvm(reason: str) -> None:
    if not _warned:
        _warned.append(True)
        warnings.warn(
            f"jit: {reason}, so traced graphs run through NumPy. "
            "Set NEEDLE_JIT=numpy if that is meant",
            stacklevel=7,
        )
