"""Fifth stage: what was scheduled becomes functions of LLVM IR, and calls of them.

Each task is a call (`calls.py`). Its code is written once for all tasks that do the same with other
memory, and found again by a key: what the code follows from. For y[i] = x[i] * 2, z[i] = y[i] * 2::

    before: tasks                  after: code, and calls of it

    kernel1, which makes y         @kernel1, written for it
    kernel2, which makes z         a call of @kernel1 with other words: the structure is the same

Kernels, matrix products, copies and draws share their code in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial

from ...graph.node import Node
from ...native import matmul
from ...native.llvm import Host
from ...native.values import I64, PTR, VOID
from ...native.vectors import Source
from ...ops.indexing import ScatterAdd
from ..tracing.interpret import is_random
from .access import size_of, spec
from .calls import CHAIN, Call, Emitted, Function, Shared, write_chain
from .copies import copies, write_copies
from .epilogues import loops_around, write_epilogue
from .expression import Read, base
from .kernels import Fused, Kernel, Product
from .loops import write
from .memory import Memory, Pointers
from .merging import positions
from .plan import Plan
from .products import NativeProduct
from .specials import write_draw, write_scatter
from .structure import Structure
from .tasks import Schedule, Task


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
        self._functions: dict[Hashable, str] = {}  # by what their code follows from
        self._products: dict[Hashable, list[matmul.Phase]] = {}
        self._words: list[int] = []
        self._count = 0  # of calls
        draws = [node for node in fused.graph.nodes if is_random(node)]
        self._draw_number = {node: number for number, node in enumerate(draws)}

    def emit(self) -> Emitted:
        """The whole program."""
        result = Emitted()
        for stage in self.scheduled.stages:
            result.stages.append([self._shared_out(chain.tasks) for chain in stage.chains])
            result.stages += stage.called
        result.ir, result.words = self.source.text(), self._words
        return result

    def _shared_out(self, tasks: Sequence[Task]) -> Shared:
        calls = [self._call(task) for task in tasks]
        if len(calls) > 1 and CHAIN not in self._functions:
            self._functions[CHAIN] = CHAIN
            write_chain(self.source)
        return Shared(calls, tasks[0].chunks, sum(task.cost for task in tasks))

    def _call(self, task: Task) -> Call:
        """The call of a task."""
        if isinstance(task.work, Kernel):
            return self._pass(task, task.work)
        if isinstance(task.work, Product):
            return self._product(task, task.work)
        return self._draw(task) if is_random(task.work.node) else self._special(task)

    def _called(
        self,
        task: Task,
        kind: str,
        key: Hashable,
        write: Callable[[Function], None],
        pointers: Sequence[tuple[int, int]],
        *numbers: int,
    ) -> Call:
        """The call of a function with some code: of one that is there already, or a new one.

        Args:
            task: What the call is for.
            kind: The first part of its name.
            key: What the code follows from.
            write: Appends the code.
            pointers: For each pointer that the code is given its slot, and the bytes from there.
            numbers: What else it is given.
        """
        self._count += 1
        symbol, words = f"{kind}{self._count}", len(self._words)
        if key not in self._functions:
            self._functions[key] = symbol
            function = Function(self.source, symbol, len(pointers))
            write(function)
            function.b.ret()
        self._words += [*[word for pointer in pointers for word in pointer], *numbers]
        return Call(symbol, self._functions[key], words, task)

    def _given(self, made: Iterable[Node], reads: Iterable[Read], loops: int) -> Pointers:
        """The memory that some code is given pointers to."""
        return Pointers(self.plan.slot, self.plan.status, made, reads, loops)

    # -- loop nests --------------------------------------------------------------------------------

    def _pass(self, task: Task, kernel: Kernel) -> Call:
        """The call of one pass of a kernel."""
        nest = self.scheduled.nests[kernel]
        what = nest.passes[task.number]
        given = self._given(kernel.made, nest.reads, len(kernel.loops))
        structure = Structure(nest.stored, len(kernel.loops), nest.loops, given, nest.positional)
        loops = "flat" if nest.flat else (kernel.loops, kernel.outer, nest.parts, nest.pieces)
        is_state = kernel in self.fused.last
        key = (loops, structure.of(nest.steps), task.number, is_state)
        scratch = [(self.plan.slot[kernel], 0)] if nest.parts else []

        def code(f: Function) -> None:
            pointers = f.pointers()
            sums = pointers.pop() if nest.parts else None
            items, piece = f.number(0), f.number(1)
            memory = Memory(given, pointers, nest.stored)
            begin, end = [nest.bound(f.b, chunk, items, piece) for chunk in (f.begin, f.end)]
            if is_state:  # which stays as it is where an index was out of range
                end = f.b.select(f.b.compare("==", f.b.load(memory.status, I64), 0), end, begin)
            write(f.b, nest, what, memory, (begin, end), sums)

        pointers = [*given.words, *scratch]
        return self._called(task, "kernel", key, code, pointers, nest.items, nest.piece)

    # -- matrix products ---------------------------------------------------------------------------

    def _product(self, task: Task, work: Product) -> Call:
        """The call of one phase of a product."""
        native = NativeProduct(work.node)
        phases, given = self._multiply(work, native)
        phase = phases[task.number]
        slots = [self.plan.slot[base(node)] for node in (*native.operands, work.node)]
        slots.append(self.plan.slot.get(work, self.plan.status))
        pointers = [*[(slot, 0) for slot in slots], *(given.words if given else [])]
        key = (phase.symbol, *[spec(node).shape for node in (*work.node.inputs, work.node)])
        return self._called(task, "phase", key, partial(_write_phase, phase, native), pointers)

    def _multiply(
        self, work: Product, native: NativeProduct
    ) -> tuple[list[matmul.Phase], Pointers | None]:
        """The functions of a product, or of one that does the same, and what its epilogue needs."""
        stored = self.fused.stored
        key: Hashable = native.product
        given = epilogue = None
        if work.steps:
            steps, loops = work.steps.values(), len(loops_around(work))
            others = [read for read in stored.read_by(steps) if base(read[0]) is not work.node]
            given = self._given(work.steps, others, loops)
            walked, counted = range(loops - 2, loops), any(positions(steps, stored))
            structure = Structure(stored, loops, walked, given, counted)
            key = (key, structure.of(steps))
            epilogue = partial(write_epilogue, work, given, stored)
        found = self._products.get(key)
        if found is None:
            name = f"product{len(self._products) + 1}"
            further = {f"p{place}": PTR for place in range(len(given.words))} if given else None
            found = matmul.emit(self.source, native.product, name, epilogue, further)
            self._products[key] = found
        return found, given

    # -- specials ----------------------------------------------------------------------------------

    def _special(self, task: Task) -> Call:
        node = task.work.made[0]
        given = self._given([node], [(child, ()) for child in node.inputs], 0)
        if not isinstance(node.op, ScatterAdd):
            return self._copies(task, node, given)
        inputs = [(spec(child), given.place(child)) for child in node.inputs]
        key = ("scatter", node.op.key, spec(node), *inputs)

        def code(f: Function) -> None:
            write_scatter(f.b, node, Memory(given, f.pointers(), self.fused.stored))

        return self._called(task, "special", key, code, given.words)

    def _copies(self, task: Task, node: Node, given: Pointers) -> Call:
        kinds = copies(node)
        counts = [(kind, len(operands)) for kind, operands in kinds.items()]
        key = ("copies", type(node.op), spec(node), len(given.words), *counts)

        def code(f: Function) -> None:
            memory = Memory(given, [f.pointer(0)], self.fused.stored)
            write_copies(f.b, node, kinds, memory, (f.pointer, f.number))

        numbers: list[int] = []
        for child, begin in [operand for operands in kinds.values() for operand in operands]:
            place = given.place(child)
            assert place is not None
            numbers += [place, begin]
        return self._called(task, "special", key, code, given.words, *numbers)

    def _draw(self, task: Task) -> Call:
        node, op = task.work.made[0], task.work.made[0].op
        assert op is not None
        size = size_of(spec(node).shape)

        def code(f: Function) -> None:
            out, state = f.pointers()
            write_draw(f.b, op, size, out, state, f.number(0), (f.begin, f.end))

        pointers = [(self.plan.slot[node], 0), (self.plan.stream, 0)]
        number = self._draw_number[node]
        return self._called(task, "special", ("draw", repr(op)), code, pointers, number)


def _write_phase(phase: matmul.Phase, native: NativeProduct, f: Function) -> None:
    """Append a phase of a product, for some of its chunks or for some batches."""
    b, pointers = f.b, f.pointers()
    if native.batches == 1:
        b.call(phase.symbol, VOID, *pointers, f.begin, f.end)
        return
    bounds = [b.constant(bound, I64) for bound in (0, phase.chunks)]
    with b.loop(f.begin, f.end) as loop:
        moved = native.in_batch(b, pointers, loop.index)
        b.call(phase.symbol, VOID, *moved, *bounds)
