"""Last stage: a compiled program, its memory, and one call of it.

The functions of a program find all memory through one table of pointers. What stays where it is
(the arena, constants, state) is entered once; a call enters the rest::

    before: a plan                         after: the table, during a call

    slots  x 0, w 1, c 2 (result), a 3     [array of the argument, memory of the state,
    arena  a at 0 ... 4096                  new array, arena + 0]

Then stage after stage runs natively, threads sharing out the chunks. Between them operators without
code are called in Python. State is overwritten in the last one, if no index was out of range.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...graph.node import Node
from ...native import threads
from ...philox import PhiloxStream
from ...random import ambient_stream
from ...streams import turn
from ..tracing.interpret import check_result, is_random
from ..tracing.turns import BusyError
from .access import bytes_of, spec
from .calls import CHAIN, Call, Shared
from .compiled import Compiled
from .expression import base
from .kernels import Special
from .plan import ALIGNMENT
from .specials import is_drawn_here

Array = np.ndarray[Any, Any]

WORTH_SHARING = 5_000
"""Estimated nanoseconds; what takes less runs on the caller's thread."""

_empty = np.empty
_WORD = ctypes.sizeof(ctypes.c_void_p)
_DATA = object.__basicsize__ // _WORD
_memory = (ctypes.c_ssize_t * (sys.maxsize // _WORD)).from_address(0)  # all there is


def _by_layout(array: Array) -> int:
    """Address of an array's data: the first field after the head, in every NumPy so far."""
    return _memory[id(array) // _WORD + _DATA]


def _by_attribute(array: Array) -> int:
    return array.ctypes.data


_PROBE = np.zeros(3)
# Reading the field takes a tenth of the time that `.ctypes.data` takes; where it does not hold what
# it should, the slow way is used.
address_of = _by_layout if _by_layout(_PROBE[1:]) == _PROBE[1:].ctypes.data else _by_attribute


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory for an array, beginning at a cache line."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def view_of(array: Any) -> Any:
    """Memory of an array, which Python reads and writes in half the time of the array itself."""
    return memoryview(array)


class NativeExecutor:
    """Runs a compiled program.

    Args:
        compiled: The program.
    """

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        layout = compiled.plan
        self._table = np.zeros(layout.table, np.int64)
        self._words = view_of(self._table)
        self._given = np.array(compiled.emitted.words, np.int64)
        self._chains: list[Array] = []  # words of chains
        self._status = view_of(np.zeros(1, np.int64))
        self._stream = view_of(np.zeros(4, np.int64))
        self._arena = aligned((layout.arena,), np.uint8)
        self._keep: dict[int, Array] = dict(layout.constants)
        start = self._arena.ctypes.data
        for slot, offset in layout.offsets.items():
            self._table[slot] = start + offset
        for slot, array in self._keep.items():
            self._table[slot] = array.ctypes.data
        self._table[layout.status] = np.asarray(self._status).ctypes.data
        self._table[layout.stream] = np.asarray(self._stream).ctypes.data
        self._input_slots = [layout.slot[node] for node in compiled.graph.inputs]
        self._sizes = [bytes_of(node) for node in compiled.graph.inputs]
        self.results = [
            (slot, spec(node).shape, spec(node).dtype)
            for slot, node in zip(layout.results, compiled.fused.results, strict=True)
        ]
        place = {node: k for k, node in enumerate(compiled.fused.results)}
        order = [place[node] for node in compiled.results]
        self._order = None if order == list(range(len(order))) else order
        self._distinct = len(set(order)) == len(order)
        draws = [node for node in compiled.graph.nodes if is_random(node)]
        self._draws = [(node, layout.slot[node]) for node in draws]
        self._all_native = all(map(is_drawn_here, draws))
        self._main = self._segments(compiled.emitted.stages)

    def _segments(self, stages: list[list[Shared] | Special]) -> list[Callable[[], None]]:
        """Native programs, and between them the operators that are called in Python."""
        segments: list[Callable[[], None] | None] = []
        waiting: list[list[Shared]] = []
        for stage in stages:
            if isinstance(stage, Special):
                segments += [self._program(waiting), partial(self._call, stage.node)]
                waiting = []
            else:
                waiting.append(stage)
        segments.append(self._program(waiting))
        return [run for run in segments if run is not None]

    def _program(self, stages: list[list[Shared]]) -> Callable[[], None] | None:
        phases = [
            self._phase(each, waits=place == 0)
            for stage in stages
            for place, each in enumerate(stage)
        ]
        if not phases:
            return None
        keep = (self.compiled.module, self._table, self._given, self._chains, self._arena)
        most = 1 if sum(p.chunks * p.cost for p in phases) < WORTH_SHARING else None
        return threads.Program(phases, self._table.ctypes.data, most=most, keep=keep).run

    def _phase(self, shared: Shared, *, waits: bool) -> threads.Phase:
        """The function that makes some calls for each chunk, and its words."""
        address = self.compiled.module.address
        pairs = [(address(call.function), self._words_of(call)) for call in shared.calls]
        function, given = pairs[0]
        if len(pairs) > 1:
            words = np.array([len(pairs), *[word for pair in pairs for word in pair]], np.int64)
            self._chains.append(words)
            function, given = address(CHAIN), words.ctypes.data
        return threads.Phase(function, shared.chunks, waits, shared.cost, given)

    def _call(self, node: Node) -> None:
        """Run an operator that has no code, and put its result into memory.

        It may keep what it is given, and the memory is used again: it is given copies.
        """
        assert node.op is not None
        result = node.op.evaluate(*[self._array(child).copy() for child in node.inputs])
        check_result(node, result)
        np.copyto(self._array(node), result)

    def _array(self, node: Node) -> Array:
        """A stored value as an array over its memory, wherever that lies, as code finds it."""
        shape, dtype = spec(node)
        address = self._words[self.compiled.plan.slot[base(node)]]
        memory: Any = (ctypes.c_uint8 * bytes_of(node)).from_address(address)
        return np.ndarray(shape, dtype, memory)

    def alone(self, call: Call) -> Callable[[], None]:
        """A function that runs one call of the program by itself, on one thread.

        It writes into the results given last.
        """
        word = ctypes.c_int64
        pointer = ctypes.c_void_p
        run = self.compiled.module.function(call.function, None, pointer, word, word, pointer)
        return partial(run, self._table.ctypes.data, 0, call.task.chunks, self._words_of(call))

    def _words_of(self, call: Call) -> int:
        """Address of the words that say where a call's memory is."""
        return self._given.ctypes.data + call.words * self._given.itemsize

    def bind(self, place: int, array: Array) -> None:
        """Let input `place` be read (and, if it is state, written) where an array lies.

        Raises:
            BusyError: it is of another size, which guards and signature know nothing of.
        """
        if array.nbytes != self._sizes[place]:
            raise BusyError(
                f"jit: a tensor was given data of another size ({array.nbytes} bytes, not "
                f"{self._sizes[place]}) by another thread, during a call that uses it. "
                "Wait for the call, or give each thread tensors of its own"
            )
        slot = self._input_slots[place]
        self._keep[slot] = array
        self._words[slot] = address_of(array)

    def quick(self) -> Callable[[Sequence[Array]], list[Array] | None] | None:
        """What runs the program on arrays of the first inputs, dense ones of their size.

        Returns:
            A function that gives the results, None where an index was out of range; or None for a
            program that has nothing to run, results to copy, or operators to call in Python, which
            may do anything.
        """
        calls = any(isinstance(stage, Special) for stage in self.compiled.emitted.stages)
        if calls or self._order is not None or len(self._main) != 1:
            return None
        inputs, keep, words = self._input_slots, self._keep, self._words
        give, code = self.give_results, self._main[0]
        status, draws = self._status, bool(self._draws)

        def run(arrays: Sequence[Array]) -> list[Array] | None:
            for place, array in enumerate(arrays):
                keep[inputs[place]] = array
                words[inputs[place]] = address_of(array)
            results = give()
            if draws:
                self._draw(ambient_stream())
            code()
            if status[0]:
                status[0] = 0
                return None
            return results

        return run

    def give_results(self) -> list[Array]:
        """New memory for each result. Functions write there; whoever runs them keeps it."""
        words = self._words
        results: list[Array] = []
        for slot, shape, dtype in self.results:
            results.append(array := _empty(shape, dtype))
            words[slot] = address_of(array)
        return results

    def fill(self) -> bool:
        """Run into the results given last; False where an index was out of range."""
        if self._draws:
            self._draw(ambient_stream())
        for run in self._main:
            run()
            if self._status[0]:
                self._status[0] = 0
                return False
        return True

    def __call__(self) -> list[Array] | None:
        """Run on the inputs that are bound.

        Returns:
            The results; None where an index was out of range, and no state was written.
        """
        results = self.give_results()
        if not self.fill():
            return None
        if self._order is None:
            return results
        ordered = [results[k] for k in self._order]
        return ordered if self._distinct else [*map(np.copy, ordered)]

    def _draw(self, stream: Any) -> None:
        """Let Python draw what has no native code, and tell the code where the stream stands."""
        philox = isinstance(stream, PhiloxStream)
        if philox is not self.compiled.philox:
            raise BusyError("jit: another thread called ndl.seed during a call that draws")
        if philox:
            words, seed = self._stream, stream.seed
            words[0], words[1] = seed & 0xFFFFFFFF, seed >> 32
            if self._all_native:
                words[2] = stream.reserve(len(self._draws))
                return
        with turn:  # the code draws what is reserved, from where the stream stands on
            if philox:
                self._stream[2] = stream.draw
            for node, slot in self._draws:
                if philox and is_drawn_here(node):
                    stream.reserve(1)
                else:
                    assert node.op is not None
                    drawn = np.ascontiguousarray(node.op.evaluate())
                    self._keep[slot] = drawn
                    self._table[slot] = drawn.ctypes.data
