"""Fourth stage: kernels become functions of LLVM IR, which run in stages.

Every function has the signature ``void f(ptr table, i64 begin, i64 end, i64 thread)`` and does the
chunks begin ... end - 1. It looks up the pointers that it needs and calls the code proper, which
kernels share that do the same with other memory::

    before: two kernels            after

    y[i] = x[i] * 2                define void @kernel2(ptr %table, ...)   loads x, y; calls @body1
    z[i] = y[i] * 2                define void @kernel3(ptr %table, ...)   loads y, z; calls @body1
                                   define internal void @body1(ptr %p0, ptr %p1, ...)

So an unrolled network, with the same layer a hundred times, is one layer of code and a hundred
short functions. Matrix products and draws share their code in the same way.

Functions of one level that need nothing of each other make a stage. Work of several functions, such
as passes over the same rows, makes several stages; but packing a factor of a product is done in the
last stage of the level before, if the factor is there by then::

    level 3    kernel13     kernel15     kernel17, phase18 packs w
    level 4    phase19 multiplies by w
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, zip_longest

from ..graph.node import Node
from ..native import matmul
from ..native.llvm import Host
from ..native.values import I8, I64, PTR, VOID, Type, Value
from ..native.vectors import Builder, Source
from .access import address, own_index, size_of, spec
from .expression import base, is_called, untransposed
from .interpret import is_random
from .kernels import Fused, Kernel, Product, Special, Work
from .loops import write
from .nest import Nest, uses_positions
from .plan import Plan, Pointers
from .products import Shapes, write_epilogue
from .scope import Memory
from .specials import draw_chunks, is_drawn_here, write_draw, write_special
from .structure import Structure

_SIGNATURE = {"table": PTR, "begin": I64, "end": I64, "thread": I64}

STEP_COST, DRAW_COST = 0.1, 0.7
"""About the nanoseconds that a step takes for an element, and that a random number takes."""

_Write = Callable[[Builder, list[Value]], None]


@dataclass(eq=False)
class Call:
    """One function of the program: its name, its chunks, and the work that it belongs to.

    It computes the values in `makes`, which may be none: one that `packs` a factor of a product (0
    or 1) needs that one only. `cost` is about the nanoseconds that a chunk takes. Where work has
    several functions, `part` says for people what this one does.
    """

    symbol: str
    chunks: int
    work: Work
    makes: Sequence[Node]
    cost: float
    packs: int | None = None
    part: str = ""


@dataclass(eq=False)
class Emitted:
    """The code of a program.

    Attributes:
        ir: The module.
        stages: Calls that may run side by side, stage after stage; or an operator to call in
            Python.
        last: The stage that writes state in place.
    """

    ir: str = ""
    stages: list[list[Call] | Special] = field(default_factory=list[list[Call] | Special])
    last: list[Call] = field(default_factory=list[Call])


class Emitter:
    """Writes the module.

    Args:
        fused: The kernels.
        plan: The memory.
        nests: The loops of each kernel.
        host: The machine.
        philox: Whether the random stream is Philox, which code draws from itself.
    """

    def __init__(
        self, fused: Fused, plan: Plan, nests: dict[Kernel, Nest], host: Host, philox: bool
    ) -> None:
        self.fused = fused
        self.plan = plan
        self.nests = nests
        self.host = host
        self.philox = philox
        self.source = Source(host)
        self._tiles = matmul.Kernels(self.source)
        self._shared: dict[Hashable, str] = {}
        self._products: dict[Hashable, matmul.Emitted] = {}
        self._count = 0
        self._levels = {node: work.level for work in fused.works for node in work.made}
        draws = [node for node in fused.graph.nodes if is_random(node)]
        self._draw_number = {node: number for number, node in enumerate(draws)}

    def emit(self) -> Emitted:
        """The whole program."""
        result = Emitted()
        before: list[list[Call] | Special] = []  # the stages of the level before
        for _, works in groupby(self.fused.works, key=lambda work: work.level):
            before = self._level(list(works), before)
            result.stages += before
        result.last = [call for kernel in self.fused.last for call in self._calls(kernel)]
        result.ir = self.source.text()
        return result

    def _level(
        self, works: list[Work], before: list[list[Call] | Special]
    ) -> list[list[Call] | Special]:
        """The stages of one level: as many as the work with the most functions takes.

        What packs an operand that is there already joins the last stage of the level before.
        """
        calls = [self._calls(work) for work in works]
        if before and isinstance(earlier := before[-1], list):
            for functions in calls:
                if functions and self._packs_early(functions[0]):
                    earlier.append(functions.pop(0))
        called = [work for work in works if isinstance(work, Special) and is_called(work.node)]
        stages = zip_longest(*calls)
        return [*[[call for call in stage if call] for stage in stages], *called]

    def _packs_early(self, call: Call) -> bool:
        """Whether it packs what is there before the level before begins."""
        if call.packs is None:
            return False
        factor = base(untransposed(call.work.made[0].inputs[call.packs]))
        return self._levels.get(factor, 0) < call.work.level - 1

    def _calls(self, work: Work) -> list[Call]:
        """The functions of a kernel, in order."""
        if isinstance(work, Kernel):
            return self._kernel(work)
        return self._product(work) if isinstance(work, Product) else self._special(work)

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

    def _kernel(self, kernel: Kernel) -> list[Call]:
        nest = self.nests[kernel]
        if not nest.items:
            return []
        given = Pointers(self.plan, kernel.made, self.fused.sources(kernel), self._starts(nest))
        structure = Structure(nest.stored, len(kernel.loops), given, nest.uses_positions)
        loops = "flat" if nest.flat else (kernel.loops, kernel.outer, nest.parts)
        key = (loops, structure.of(nest.steps, kernel.home))
        return [
            self._pass(nest, number, given, (key, number)) for number in range(len(nest.passes))
        ]

    def _pass(self, nest: Nest, number: int, given: Pointers, key: Hashable) -> Call:
        """The function of one pass of a kernel."""
        what = nest.passes[number]
        sums = {"sums": PTR} if nest.parts else {}
        arguments = {**_arguments(given), **sums, "first": I64, "stop": I64}

        def code(b: Builder, values: list[Value]) -> None:
            bounds = values[-2], values[-1]
            pointers = values[: len(given.slots)]
            place = values[len(pointers)] if nest.parts else None
            write(b, nest, what, Memory(given, pointers, nest.stored), bounds, place)

        body = self._code("body", key, arguments, code)
        f = self._begin("kernel")
        bounds = [f.begin, f.end]
        if not nest.parts:
            items = f.b.constant(nest.items, I64)
            bounds = [f.b.minimum(bound * nest.per_chunk, items) for bound in bounds]
        pointers = f.pointers(given)
        if nest.parts:
            pointers.append(f.pointer(self.plan.scratch[nest.kernel]))
        f.b.call(body, VOID, *pointers, *bounds)
        f.b.ret()
        cost = STEP_COST * size_of(nest.kernel.loops) * len(what.steps) / what.chunks
        passes = len(nest.passes)
        part = f"pass {number + 1} of {passes}" if passes > 1 else ""
        return Call(f.symbol, what.chunks, nest.kernel, what.steps, cost, part=part)

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

    def _product(self, work: Product) -> list[Call]:
        shapes = Shapes(work.node)
        emitted, given = self._multiply(work, shapes)
        slots = [self.plan.slot[base(node)] for node in (*shapes.operands, work.node)]
        slots.append(self.plan.scratch.get(work, self.plan.status))
        multiplying = next((phase for phase in emitted.phases if phase.packs is None), None)
        calls: list[Call] = []
        for phase in emitted.phases:
            f = self._begin("phase")
            pointers = list(map(f.pointer, slots))
            if shapes.batches == 1:
                further = f.pointers(given) if given else []
                f.b.call(phase.symbol, VOID, *pointers, *further, f.begin, f.end)
                chunks, cost = phase.chunks, phase.cost
            else:  # each batch is a chunk
                bounds = [f.b.constant(bound, I64) for bound in (0, phase.chunks)]
                with f.b.loop(f.begin, f.end) as loop:
                    moved = shapes.in_batch(f.b, pointers, loop.index, emitted.scratch)
                    f.b.call(phase.symbol, VOID, *moved, *bounds)
                chunks, cost = shapes.batches, phase.cost * phase.chunks
            makes = [work.node] if phase is multiplying else []
            makes += work.epilogue if phase is emitted.phases[-1] else []
            calls.append(Call(f.symbol, chunks, work, makes, cost, phase.packs, phase.part))
            f.b.ret()
        return calls

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

    def _special(self, work: Special) -> list[Call]:
        node = work.node
        if is_called(node) or not size_of(spec(node).shape):
            return []
        if is_random(node):
            return self._draw(work) if self.philox and is_drawn_here(node) else []
        given = Pointers(self.plan, work.made, self.fused.sources(work))
        f = self._begin("special")
        write_special(f.b, node, Memory(given, f.pointers(given), self.fused.stored))
        f.b.ret()
        return [Call(f.symbol, 1, work, work.made, STEP_COST * size_of(spec(node).shape))]

    def _draw(self, work: Special) -> list[Call]:
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
        chunks = draw_chunks(work.node)
        return [Call(f.symbol, chunks, work, work.made, DRAW_COST * size / chunks)]


class _Function:
    """A function of the program while it is written: its code, and what it is given."""

    def __init__(self, source: Source, symbol: str) -> None:
        function = source.function(symbol, _SIGNATURE)
        self.symbol = symbol
        self.b = function.body
        self.table, self.begin, self.end, _ = function.arguments

    def pointer(self, slot: int) -> Value:
        """The pointer in a slot of the table."""
        return self.b.load(self.table, PTR, slot)

    def pointers(self, given: Pointers) -> list[Value]:
        """The pointers to some memory, each to the element at which it starts."""
        pairs = zip(map(self.pointer, given.slots), given.moves, strict=True)
        return [self.b.offset(pointer, I8, move) if move else pointer for pointer, move in pairs]


def _arguments(given: Pointers) -> dict[str, Type]:
    return {f"p{place}": PTR for place in range(len(given.slots))}
