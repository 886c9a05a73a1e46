"""The functions of a program: what `schedule` puts in an order.

A `Task` is one function and its chunks; work is one of them or several::

    before: work                     after: tasks

    Product  c = a @ bᵀ              packs b, multiplies
    Kernel   sums of columns         pass 1 leaves sums of parts, pass 2 adds them up

Tasks that go through the same rows one after the other are a `Chain`; chains that need nothing of
each other make a `Stage`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...graph.node import Node
from ...native import matmul
from ...native.llvm import Host
from ..tracing.interpret import is_random
from .access import is_row, size_of, spec
from .epilogues import row_loop
from .expression import Step, Stored, base, untransposed
from .kernels import Kernel, Product, Special, Work
from .nest import Nest
from .products import NativeProduct
from .specials import draw_chunks, is_drawn_here

Reads = list[tuple[Node, bool]]
"""Values that are read, and whether a chunk reads its own rows only."""

STEP_COST, DRAW_COST = 0.1, 0.7
"""About the nanoseconds that a step takes for an element, and that a random number takes."""


@dataclass(eq=False)
class Task:
    """One function of the program.

    Attributes:
        work: What it belongs to.
        number: Its place among the functions of that.
        steps: The values that it computes, at least in parts.
        makes: The values that are in memory when it is done.
        reads: The values in memory that it reads, be it from an earlier function of the same work.
        chunks: Pieces that may be shared out.
        cost: About the nanoseconds that a chunk takes.
        rows: What the chunks cut evenly: so many rows; 0 if they cut something else.
        packs: The factor of a product (0 or 1) that it packs; it needs that one only.
        part: What it does, for people, if the work has several functions; or how, if in tiles.
    """

    work: Work
    number: int
    steps: list[Node]
    makes: list[Node]
    reads: Reads
    chunks: int
    cost: float
    rows: int = 0
    packs: int | None = None
    part: str = ""

    @property
    def sources(self) -> list[Node]:
        """The values in memory that it reads, each once."""
        return list(dict.fromkeys([node for node, _ in self.reads]))

    @property
    def name(self) -> str:
        """What it does, for people."""
        return f"{self.work.made[0].op!r} {self.part}".rstrip()


@dataclass(eq=False)
class Chain:
    """Functions that are called one after the other for each chunk."""

    stage: int
    tasks: list[Task]

    @property
    def chunks(self) -> int:
        """Chunks of each of them."""
        return self.tasks[0].chunks

    def takes(self, task: Task) -> bool:
        """Whether its chunks are the same rows as those of a function."""
        return self.tasks[0].rows == task.rows > 0 and self.chunks == task.chunks > 1


@dataclass(eq=False)
class Stage:
    """Chains that may run side by side, and then operators that are called in Python."""

    chains: list[Chain] = field(default_factory=list[Chain])
    called: list[Special] = field(default_factory=list[Special])

    @property
    def tasks(self) -> list[Task]:
        """All functions."""
        return [task for chain in self.chains for task in chain.tasks]

    @property
    def made(self) -> set[Node]:
        """All values that it computes."""
        called = [work.node for work in self.called]
        return {*called, *[node for task in self.tasks for node in task.makes]}


@dataclass(eq=False)
class Schedule:
    """What runs when.

    Attributes:
        stages: One after the other; in the last one state is written in place, if any is.
        nests: The loops of each kernel.
        scratch: Bytes of scratch memory of work that needs some.
        by_rows: Values of which each row is made by the chunk that has this row.
    """

    stages: list[Stage] = field(default_factory=list[Stage])
    nests: dict[Kernel, Nest] = field(default_factory=dict[Kernel, Nest])
    scratch: dict[Work, int] = field(default_factory=dict[Work, int])
    by_rows: set[Node] = field(default_factory=set[Node])

    def at(self, number: int) -> Stage:
        """A stage, made if it is not there."""
        while len(self.stages) <= number:
            self.stages.append(Stage())
        return self.stages[number]

    def put(self, task: Task, stage: int) -> Chain:
        """Begin a chain."""
        chain = Chain(stage, [task])
        self.at(stage).chains.append(chain)
        return chain

    def text(self) -> str:
        """The stages, a line for each chain."""
        lines: list[str] = []
        for number, stage in enumerate(self.stages, 1):
            lines.append(f"stage {number}")
            for chain in stage.chains:
                names = ", then ".join([task.name for task in chain.tasks])
                lines.append(f"  {chain.chunks} chunks: {names}")
            lines += [f"  called: {work.node.op!r}" for work in stage.called]
        return "\n".join(lines)


def kernel_tasks(nest: Nest) -> list[Task]:
    """The functions of a kernel."""
    kernel, tasks = nest.kernel, list[Task]()
    count = len(nest.passes) if nest.items else 0
    for number, what in enumerate(nest.passes[:count]):
        steps = what.computes
        cost = STEP_COST * size_of(kernel.loops) * len(steps) / what.chunks
        reads = _read_by([step for step in nest.steps if step.node in steps], nest.stored, nest.row)
        rows = nest.rows if what.chunks == nest.pieces else 0
        part = f"pass {number + 1} of {count}" if count > 1 else ""
        part = "in tiles" if nest.tiling else part
        task = Task(kernel, number, steps, what.makes, reads, what.chunks, cost, rows, part=part)
        tasks.append(task)
    return tasks


def product_tasks(work: Product, stored: Stored, host: Host) -> list[Task]:
    """The functions of a product: the phases that `native` cuts it into, none if it is empty.

    Of a product of several batches, each batch is a chunk.
    """
    native, tasks = NativeProduct(work.node), list[Task]()
    phases = matmul.phases(native.cut(host)) if native.batches else []
    for number, phase in enumerate(phases):
        reads, computed, made = _factors(work), [work.node], list[Node]()
        if phase.packs is not None:
            reads, computed = [reads[phase.packs]], []
        elif phase.adds:
            reads, computed = [(work.node, False)], []
        if number == len(phases) - 1:  # with the epilogue
            read = _read_by(work.steps.values(), stored, row_loop(work))
            reads += [(node, own) for node, own in read if node not in work.made]
            computed, made = [*computed, *work.steps], work.made
        rows = native.product.m if phase.even_rows and len(spec(work.node).shape) == 2 else 0
        chunks, cost = phase.chunks, phase.cost
        if native.batches != 1:
            chunks, cost = native.batches, cost * chunks
        about = reads, chunks, cost, rows, phase.packs, phase.part
        tasks.append(Task(work, number, computed, made, *about))
    return tasks


def special_tasks(work: Special, sources: Iterable[Node], *, philox: bool) -> list[Task]:
    """The function of an operator with code of its own; none for what Python draws, or is empty."""
    node, size, chunks, cost = work.node, size_of(spec(work.node).shape), 1, STEP_COST
    if is_random(node):
        if not (philox and is_drawn_here(node)):
            return []
        chunks, cost = draw_chunks(size), DRAW_COST
    reads = [(source, False) for source in sources]
    made = work.made
    return [Task(work, 0, made, made, reads, chunks, cost * size / chunks)] if size else []


def _factors(work: Product) -> Reads:
    """The factors of a product. A chunk of rows needs those of the first one, as it lies."""
    left, right = [untransposed(child) for child in work.node.inputs]
    own = left is work.node.inputs[0] and base(left) is left
    return [(base(left), own), (base(right), False)]


def _read_by(steps: Iterable[Step], stored: Stored, row: int | None) -> Reads:
    """What steps read from memory; `row` is the loop over the rows that chunks cut."""
    reads = [(base(source), source, index) for source, index in stored.read_by(steps)]
    return [(whole, whole is source and is_row(index, row)) for whole, source, index in reads]
