"""`explain`: every stage of a compiled function as text, without running it.

before: a function                      after: an `Explanation`

    lambda x: (x * 2).tanh().sum()      .traced and .simplified  graphs
                                        .kernels                 as readable loops
                                        .schedule                what runs when
                                        .memory                  the arena
                                        .rows                    work, and time, of each function
                                        .ir and .assembly        code
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArgumentError, TraceError
from ..graph.node import Node
from ..ops.contraction import MatMul
from .api import Jitted
from .compiler.access import bytes_of, is_view, size_of, spec
from .compiler.calls import Call
from .compiler.compiled import Compiled
from .compiler.expression import is_special
from .compiler.kernels import Kernel, Product, Work, domain
from .compiler.native_executor import NativeExecutor
from .compiler.printer import Printer
from .programs.program import Program
from .tracing.changed import NewStateError
from .tracing.recording import trace
from .tracing.signature import signature
from .tracing.streams import draws_undone
from .tracing.turns import making, paused


@dataclass(frozen=True)
class Row:
    """One function: what it does, its line, its work, and its time where it was measured.

    A kernel is one function, or several that run one after the other: passes over its rows, or what
    packs a factor of a matrix product, multiplies, and adds up parts.

    Attributes:
        name: Function in the module; `Explanation.kernels` names it too.
        kind: Of its kernel: "kernel", "product" or "special".
        part: What of the kernel it does, if the kernel is several functions; or how, if in tiles.
        chunks: Pieces of work that threads may share.
        loops: The sizes that its kernel loops over.
        makes: How many values it stores.
        flops: Floating-point operations, a transcendental function counted as one.
        bytes: Read and written, each value once.
        microseconds: Best of several runs on one thread; None where it was not measured.
        where: The user's line that its first value comes from.
    """

    name: str
    kind: str
    part: str
    chunks: int
    loops: tuple[int, ...]
    makes: int
    flops: int
    bytes: int
    microseconds: float | None
    where: str


_LINE = "{:<10} {:<12} {:<14} {:>6} {:>5} {:>12} {:>11} {:>7}  {}"
_HEAD = _LINE.format("function", "part", "loops", "chunks", "makes", "flops", "bytes", "µs", "line")


def _line(row: Row) -> str:
    took = "" if row.microseconds is None else f"{row.microseconds:.1f}"
    loops = "×".join(map(str, row.loops)) or "-"
    work = f"{row.flops:,}", f"{row.bytes:,}"
    return _LINE.format(row.name, row.part, loops, row.chunks, row.makes, *work, took, row.where)


@dataclass(frozen=True, repr=False)
class Explanation:
    """The stages of a program. Printed, or typed in a notebook, it shows all of them but code.

    Attributes:
        traced: The recorded graph.
        simplified: The graph after the first stage.
        kernels: The kernels as readable loops.
        schedule: What runs side by side, and what one after the other on the same rows.
        memory: The memory plan.
        rows: A row for each function.
        ir: The LLVM IR.
        assembly: The machine code.
    """

    traced: str
    simplified: str
    kernels: str
    schedule: str
    memory: str
    rows: tuple[Row, ...]
    ir: str
    assembly: str

    def table(self) -> str:
        """The functions with their work, the slowest first where they were measured."""
        rows = sorted(self.rows, key=lambda row: -(row.microseconds or 0.0))
        return "\n".join([_HEAD, *map(_line, rows)])

    def __repr__(self) -> str:
        parts = [
            ("traced graph", self.traced),
            ("simplified graph", self.simplified),
            ("kernels", self.kernels),
            ("schedule", self.schedule),
            ("memory", self.memory),
            ("work", self.table()),
            ("code", f"{self.ir.count(chr(10)):,} lines of IR (.ir), assembly in .assembly"),
        ]
        return "\n\n".join(f"== {title} ==\n{text}" for title, text in parts)


def explain(
    function: Callable[..., Any], *args: Any, profile: bool = False, **kwargs: Any
) -> Explanation:
    """What `ndl.jit` makes of a function, stage by stage. No program runs and no state changes.

    Args:
        function: A function or a jitted one.
        args, kwargs: Arguments as for a call. State has to be there: call the function once before.
        profile: Measure the time of each kernel, on copies of inputs and state.

    Returns:
        An `Explanation`: print it, or read its parts.

    Raises:
        TraceError: the function cannot be traced, or has no native code.
        ArgumentError: it cannot be called.

    Example:
        >>> import needle as ndl
        >>> print(ndl.explain(lambda x: (x * 2).tanh().sum(), ndl.init.ones(100)).kernels)
        # kernel1, level 1: for each (), Σ over i < 100
        a1 = Σ tanh(x0[i] * 2)
        a2 = a1
    """
    if not callable(function):
        raise ArgumentError(
            f"explain: {function!r} cannot be called. Pass a function, then its arguments"
        )
    plain = function.__wrapped__ if isinstance(function, Jitted) else function
    leaves, _ = signature(args, kwargs)
    try:
        with making():
            with paused():
                done = trace(plain, args, kwargs, leaves)
            program = Program(done, "explain")
    except NewStateError as state:
        raise TraceError(
            f"explain: {state} comes into being in this call. Call the function once before"
        ) from None
    compiled = program.compiled
    if compiled is None:
        raise TraceError(f"explain: there is no native code to show ({program.backend})")
    times = _profile(program, compiled, leaves) if profile else {}
    calls = compiled.emitted.calls
    return Explanation(
        traced=compiled.traced.text(),
        simplified=compiled.graph.text(),
        kernels=Printer(compiled.fused, calls).text(),
        schedule=compiled.schedule.text(),
        memory=compiled.plan.text(),
        rows=tuple([_row(call, compiled, times.get(call.symbol)) for call in calls]),
        ir=compiled.emitted.ir,
        assembly=compiled.module.assembly(),
    )


def _row(call: Call, compiled: Compiled, microseconds: float | None) -> Row:
    task, work = call.task, call.task.work
    written = dict.fromkeys([*task.makes, *task.steps])  # of sums in parts, one
    return Row(
        name=call.symbol,
        kind=type(work).__name__.lower(),
        part=task.part,
        chunks=task.chunks,
        loops=_loops(work),
        makes=len(task.makes),
        flops=sum(_flops(node, compiled) for node in task.steps),
        bytes=sum(map(bytes_of, [*written, *task.sources])),
        microseconds=microseconds,
        where=work.made[0].where or "",
    )


def _loops(work: Work) -> tuple[int, ...]:
    if isinstance(work, Kernel):
        return work.loops
    shape = spec(work.node).shape
    if isinstance(work, Product):
        return (*shape, spec(work.node.inputs[0]).shape[-1])
    return shape


def _flops(node: Node, compiled: Compiled) -> int:
    """Operations for one value: two for each number that a product adds up, none for draws."""
    if isinstance(node.op, MatMul):
        return 2 * size_of(spec(node).shape) * spec(node.inputs[0]).shape[-1]
    if is_special(node):
        return 0
    loops, _, index = domain(node)
    operators = {each for each, _ in compiled.fused.stored.computes(node, index)}
    count = 1 + sum(not is_view(operator) for operator in operators)  # views cost nothing
    return count * size_of(loops)


def _profile(program: Program, compiled: Compiled, leaves: list[Any]) -> dict[str, float]:
    """Best time of each function, run alone on one thread on copies of what the program reads.

    Of none where an index is out of range: the call itself would be an error.
    """
    executor = NativeExecutor(compiled)
    arrays = program.inputs.values(leaves)
    for place, array in enumerate(arrays):
        executor.bind(place, np.array(array, order="C"))
    kept = executor.give_results()  # functions that run alone write there, too
    with draws_undone():
        if not executor.fill():
            return {}  # and would read what was not computed
    times = {}
    for call in compiled.emitted.calls:
        run = executor.alone(call)
        best = float("inf")
        for _ in range(20):
            start = time.perf_counter_ns()
            run()
            best = min(best, time.perf_counter_ns() - start)
        times[call.symbol] = best / 1000
    del kept
    return times
