"""The functions of a program, and when each runs: what `schedule` makes.

A `Task` is one function and its chunks. Tasks that go through the same rows one after the other are
a `Chain`; chains that need nothing of each other make a `Stage`::

    before: work                     after: tasks

    Product  c = a @ bᵀ              packs b, multiplies
    Kernel   sums of columns         pass 1 leaves sums of parts, pass 2 adds them up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..graph.node import Node
from .access import size_of
from .kernels import Kernel, Special, Work
from .nest import Nest

STEP_COST = 0.1
"""About the nanoseconds that a step takes for an element."""


@dataclass(eq=False)
class Task:
    """One function of the program.

    Attributes:
        work: What it belongs to.
        number: Its place among the functions of that.
        steps: The values that it computes, at least in parts.
        makes: The values that are in memory when it is done.
        chunks: Pieces that may be shared out.
        cost: About the nanoseconds that a chunk takes.
        rows: What the chunks cut evenly: so many rows; 0 if they cut something else.
        packs: The factor of a product (0 or 1) that it packs; it needs that one only.
        part: What it does, for people, if the work has several functions; or how, if in tiles.
    """

    work: Work
    number: int
    steps: Sequence[Node]
    makes: Sequence[Node]
    chunks: int
    cost: float
    rows: int = 0
    packs: int | None = None
    part: str = ""

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

    def takes(self, rows: int, chunks: int) -> bool:
        """Whether its chunks are the same rows as those of a function."""
        return rows > 0 and self.tasks[0].rows == rows and self.chunks == chunks > 1


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
        reads: The values in memory that each function reads.
        by_rows: Values of which each row is made by the chunk that has this row.
    """

    stages: list[Stage] = field(default_factory=list[Stage])
    nests: dict[Kernel, Nest] = field(default_factory=dict[Kernel, Nest])
    reads: dict[Task, Sequence[Node]] = field(default_factory=dict[Task, Sequence[Node]])
    by_rows: set[Node] = field(default_factory=set[Node])

    def at(self, number: int) -> Stage:
        """A stage, made if it is not there."""
        while len(self.stages) <= number:
            self.stages.append(Stage())
        return self.stages[number]

    def passes(self, kernel: Kernel) -> list[Task]:
        """The functions of a kernel."""
        nest, tasks = self.nests[kernel], list[Task]()
        count = len(nest.passes) if nest.items else 0
        for number, what in enumerate(nest.passes[:count]):
            cost = STEP_COST * size_of(kernel.loops) * len(what.steps) / what.chunks
            rows = nest.rows if what.chunks == nest.pieces else 0
            part = f"pass {number + 1} of {count}" if count > 1 else ""
            part = "in tiles" if nest.tiling else part
            task = Task(kernel, number, what.steps, what.makes, what.chunks, cost, rows, part=part)
            tasks.append(task)
        return tasks

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
