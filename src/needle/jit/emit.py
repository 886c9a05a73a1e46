"""Fifth stage: what was scheduled becomes functions of LLVM IR.

Every function has the signature ``void f(ptr table, i64 begin, i64 end, i64 thread)`` and does the
chunks begin ... end - 1. It looks up the pointers that it needs and calls the code proper, which
kernels share that do the same with other memory::

    before: two kernels            after

    y[i] = x[i] * 2                define void @kernel2(ptr %table, ...)   loads x, y; calls @body1
    z[i] = y[i] * 2                define void @kernel3(ptr %table, ...)   loads y, z; calls @body1
                                   define internal void @body1(ptr %p0, ptr %p1, ...)

So an unrolled network, with the same layer a hundred times, is one layer of code and a hundred
short functions. Matrix products and draws share their code in the same way.

The functions of a chain are called one after the other for each chunk::

    define void @chain4(ptr %table, i64 %begin, i64 %end, ...)    for each chunk: @kernel2, @kernel3
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..graph.node import Node
from ..native import matmul
from ..native.llvm import Host
from ..native.values import I8, I64, PTR, VOID, Type, Value
from ..native.vectors import Builder, Source
from .access import address, own_index, size_of, spec
from .expression import base
from .interpret import is_random
from .kernels import Fused, Kernel, Product, Special
from .layout import Plan, Pointers
from .loops import write
from .nest import Nest, uses_positions
from .products import Shapes, write_epilogue
from .schedule import Schedule, Task
from .scope import Memory
from .specials import write_draw, write_special
from .structure import Structure

_SIGNATURE = {"table": PTR, "begin": I64, "end": I64, "thread": I64}

_Write = Callable[[Builder, list[Value]], None]


@dataclass(eq=False)
class Call:
    """The function of a task."""

    symbol: str
    task: Task


@dataclass(eq=False)
class Shared:
    """A function whose chunks are shared out, and what it calls for each: a chain, or one."""

    symbol: str
    chunks: int
    cost: float
    calls: list[Call]


@dataclass(eq=False)
class Emitted:
    """The code of a program.

    Attributes:
        ir: The module.
        stages: Functions that may run side by side, stage after stage; or an operator to call in
            Python.
        last: The stage that writes state in place.
    """

    ir: str = ""
    stages: list[list[Shared] | Special] = field(default_factory=list[list[Shared] | Special])
    last: list[Shared] = field(default_factory=list[Shared])

    @property
    def calls(self) -> list[Call]:
        """The functions of all tasks, in order."""
        stages = [stage for stage in self.stages if isinstance(stage, list)]
        return [call for stage in [*stages, self.last] for each in stage for call in each.calls]


class Emitter:
    """Writes the module.

    Args:
        fused: The kernels.
        scheduled: What runs when.
        plan: The memory.
        host: The machine.
    """

    def __init__(self, fused: Fused, scheduled: Schedule, plan: Plan, host: Host) -> None:
        self.fused = fused
        self.scheduled = scheduled
        self.plan = plan
        self.source = Source(host)
        self._tiles = matmul.Kernels(self.source)
        self._shared: dict[Hashable, str] = {}
        self._products: dict[Hashable, matmul.Emitted] = {}
        self._count = 0
        draws = [node for node in fused.graph.nodes if is_random(node)]
        self._draw_number = {node: number for number, node in enumerate(draws)}

    def emit(self) -> Emitted:
        """The whole program."""
        result = Emitted()
        for stage in self.scheduled.stages:
            result.stages.append([self._chain(chain.tasks) for chain in stage.chains])
            result.stages += stage.called
        tasks = [task for kernel in self.fused.last for task in self.scheduled.passes(kernel)]
        result.last = [self._chain([task]) for task in tasks]
        result.ir = self.source.text()
        return result

    def _chain(self, tasks: Sequence[Task]) -> Shared:
        """The function that does a chunk of each of some tasks, one task after the other."""
        calls = [Call(self._function(task), task) for task in tasks]
        symbol, chunks = calls[0].symbol, tasks[0].chunks
        if len(calls) > 1:
            f = self._begin("chain")
            symbol = f.symbol
            with f.b.loop(f.begin, f.end) as loop:
                for call in calls:
                    bounds = loop.index, loop.index + 1
                    f.b.call(call.symbol, VOID, f.table, *bounds, f.thread)
            f.b.ret()
        return Shared(symbol, chunks, sum(task.cost for task in tasks), calls)

    def _function(self, task: Task) -> str:
        """The function of a task."""
        if isinstance(task.work, Kernel):
            return self._pass(task, task.work)
        if isinstance(task.work, Product):
            return self._product(task, task.work)
        return self._special(task.work)

    # -- what all functions share ------------------------------------------------------------------

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _begin(self, kind: str) -> _Function:
        return _Function(self.source, self._name(kind))

    def _code(self, kind: str, key: Hashable, arguments: dict[str, Type], write: _Write) -> str:
        """The function with some code; one that does the same is used again."""
        symbol = self._shared.get(key)
        if symbol is None:
            symbol = self._shared[key] = self._name(kind)
            function = self.source.function(symbol, arguments, internal=True)
            write(function.body, function.arguments)
            function.body.ret()
        return symbol

    # -- loop nests --------------------------------------------------------------------------------

    def _pass(self, task: Task, kernel: Kernel) -> str:
        """The function of one pass of a kernel."""
        nest = self.scheduled.nests[kernel]
        what = nest.passes[task.number]
        given = Pointers(self.plan, kernel.made, self.fused.sources(kernel), self._starts(nest))
        structure = Structure(nest.stored, len(kernel.loops), given, nest.uses_positions)
        loops = "flat" if nest.flat else (kernel.loops, kernel.outer, nest.parts)
        key = (loops, structure.of(nest.steps, kernel.home), task.number)
        sums = {"sums": PTR} if nest.parts else {}
        arguments = {**_arguments(given), **sums, "first": I64, "stop": I64}

        def code(b: Builder, values: list[Value]) -> None:
            bounds = values[-2], values[-1]
            pointers = values[: len(given.slots)]
            place = values[len(pointers)] if nest.parts else None
            write(b, nest, what, Memory(given, pointers, nest.stored), bounds, place)

        body = self._code("body", key, arguments, code)
        f = self._begin("kernel")
        bounds = [nest.bound(f.b, bound) for bound in (f.begin, f.end)]
        pointers = f.pointers(given)
        if nest.parts:
            pointers.append(f.pointer(self.plan.scratch[kernel]))
        f.b.call(body, VOID, *pointers, *bounds)
        f.b.ret()
        return f.symbol

    def _starts(self, nest: Nest) -> dict[Node, int]:
        """The first element that is read of each value that a kernel only reads.

        Pointers lead there: so kernels that read other slices of a value share their code.
        """
        starts: dict[Node, int] = {}
        written = {self.plan.slot[node] for node in nest.kernel.made}
        for node, at in nest.reads:
            source = base(node)
            if self.plan.slot[source] not in written:
                offset, _ = address(at, spec(node).shape, len(nest.kernel.loops))
                starts[source] = min(offset, starts.get(source, offset))
        return starts

    # -- matrix products ---------------------------------------------------------------------------

    def _product(self, task: Task, work: Product) -> str:
        """The function of one phase of a product."""
        shapes = Shapes(work.node)
        emitted, given = self._multiply(work, shapes)
        phase = emitted.phases[task.number]
        slots = [self.plan.slot[base(node)] for node in (*shapes.operands, work.node)]
        slots.append(self.plan.scratch.get(work, self.plan.status))
        f = self._begin("phase")
        pointers = list(map(f.pointer, slots))
        if shapes.batches == 1:
            further = f.pointers(given) if given else []
            f.b.call(phase.symbol, VOID, *pointers, *further, f.begin, f.end)
        else:  # each batch is a chunk
            bounds = [f.b.constant(bound, I64) for bound in (0, phase.chunks)]
            with f.b.loop(f.begin, f.end) as loop:
                moved = shapes.in_batch(f.b, pointers, loop.index, emitted.scratch)
                f.b.call(phase.symbol, VOID, *moved, *bounds)
        f.b.ret()
        return f.symbol

    def _multiply(self, work: Product, shapes: Shapes) -> tuple[matmul.Emitted, Pointers | None]:
        """The functions of a product, or of one that does the same, and what its epilogue needs."""
        stored = self.fused.stored
        key: Hashable = shapes.product
        given = epilogue = None
        if work.epilogue:
            read = [node for node in self.fused.read_by(work.epilogue) if node is not work.node]
            given = Pointers(self.plan, work.epilogue, read)
            index = own_index(spec(work.node).shape)
            steps = [(node, index) for node in work.epilogue]
            structure = Structure(stored, 2, given, uses_positions(steps, stored))
            key = (key, structure.of(steps, dict(steps)))
            epilogue = partial(write_epilogue, work, given, stored)
        found = self._products.get(key)
        if found is None:
            name = self._name("product")
            further = _arguments(given) if given else None
            found = matmul.emit(self._tiles, shapes.product, name, epilogue, further)
            self._products[key] = found
        return found, given

    # -- specials ----------------------------------------------------------------------------------

    def _special(self, work: Special) -> str:
        if is_random(work.node):
            return self._draw(work)
        given = Pointers(self.plan, work.made, self.fused.sources(work))
        f = self._begin("special")
        write_special(f.b, work.node, Memory(given, f.pointers(given), self.fused.stored))
        f.b.ret()
        return f.symbol

    def _draw(self, work: Special) -> str:
        op = work.node.op
        assert op is not None
        size = size_of(spec(work.node).shape)
        arguments = {"out": PTR, "state": PTR, "draw": I64, "begin": I64, "end": I64}

        def code(b: Builder, values: list[Value]) -> None:
            out, state, draw, *bounds = values
            write_draw(b, op, size, out, state, draw, bounds)

        body = self._code("draw", ("draw", repr(op)), arguments, code)
        f = self._begin("special")
        number = f.b.constant(self._draw_number[work.node], I64)
        pointers = map(f.pointer, (self.plan.slot[work.node], self.plan.stream))
        f.b.call(body, VOID, *pointers, number, f.begin, f.end)
        f.b.ret()
        return f.symbol


class _Function:
    """A function of the program while it is written: its code, and what it is given."""

    def __init__(self, source: Source, symbol: str) -> None:
        function = source.function(symbol, _SIGNATURE)
        self.symbol = symbol
        self.b = function.body
        self.table, self.begin, self.end, self.thread = function.arguments

    def pointer(self, slot: int) -> Value:
        """The pointer in a slot of the table."""
        return self.b.load(self.table, PTR, slot)

    def pointers(self, given: Pointers) -> list[Value]:
        """The pointers to some memory, each to the element at which it starts."""
        pairs = zip(map(self.pointer, given.slots), given.moves, strict=True)
        return [self.b.offset(pointer, I8, move) if move else pointer for pointer, move in pairs]


def _arguments(given: Pointers) -> dict[str, Type]:
    return {f"p{place}": PTR for place in range(len(given.slots))}
