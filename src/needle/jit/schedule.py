"""Third stage: the functions of a program, their chunks, and which of them run when.

Work is one function or several: passes of a kernel; what packs a factor of a product, multiplies,
and adds up. A function runs in the stage after the last one that makes what it reads. Where that
was cut into the same rows, and each chunk needs those of its own rows only, nothing has to wait:
the functions become a *chain*, and a thread goes through all of it, one chunk after the other, with
the rows in its cache::

    before: work, by level           after: stages, and the chains in each

    1  a = x @ w                     1   a[rows] = x[rows] @ w,  s[part] = Σ a of the rows
    2  m = Σᵢ a / n, b = a - m       2   m = (s[0] + s[1]) / n,  b[rows] = a[rows] - m,
    3  c = b @ v                         c[rows] = b[rows] @ v
    4  g = cᵀ @ b                    3   g[rows] = (cᵀ)[rows] @ b

What packs a factor does so as late as possible: beside the stage before the one that needs it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CompileError
from ..graph.node import Node
from ..native.llvm import Host
from .access import spec
from .epilogues import row_loop, steps_of
from .expression import base, is_called, untransposed
from .kernels import Fused, Kernel, Product, Special, Work
from .nest import Nest, is_row
from .products import scratch_size
from .tasks import Chain, Schedule, Task, passes, phases, special

Reads = list[tuple[Node, bool]]
"""Values that are read, and whether a chunk reads its own rows only."""


def schedule(fused: Fused, host: Host, *, philox: bool = True) -> Schedule:
    """Decide which functions there are, and in which stage each runs.

    Args:
        fused: The kernels.
        host: The machine.
        philox: Whether the random stream is Philox, from which code draws itself.
    """
    scheduling = _Scheduling(fused, host, philox)
    for work in fused.works:
        scheduling.add(work)
    result = scheduling.result
    last = len(result.stages)
    for kernel in fused.last:  # no part of one may write state that another still reads
        result.nests[kernel] = Nest(kernel, fused.stored, host, parted=False)
        for task in passes(result.nests[kernel]):
            result.put(task, last)
            result.reads[task] = fused.sources(kernel)
    return result


class _Scheduling:
    """The schedule while it grows."""

    def __init__(self, fused: Fused, host: Host, philox: bool) -> None:
        self.fused = fused
        self.host = host
        self.philox = philox
        self.result = Schedule()
        self._chains: dict[Node, Chain] = {}  # what makes each value
        self._stage: dict[Node, int] = {}
        self._last_call = 0

    def add(self, work: Work) -> None:
        """Place the functions of some work."""
        if isinstance(work, Kernel):
            self._kernel(work)
        elif isinstance(work, Product):
            self._product(work)
        else:
            self._special(work)

    # -- where a function runs ---------------------------------------------------------------------

    def _ready(self, reads: Reads) -> int:
        """The first stage in which all values are there."""
        return 1 + max([self._stage.get(node, -1) for node, _ in reads], default=-1)

    def _before(self, reads: Reads) -> Chain | None:
        """The chain that makes the last of some values; None if several do."""
        stage = self._ready(reads) - 1
        chains = {self._chains.get(node) for node, _ in reads if self._stage.get(node) == stage}
        return chains.pop() if len(chains) == 1 else None

    def _joined(self, reads: Reads, rows: int, chunks: int) -> Chain | None:
        """The chain at whose end a function may run: where a chunk needs what one of it makes."""
        chain = self._before(reads)
        if chain is None or not chain.takes(rows, chunks):
            return None
        last = [(node, own) for node, own in reads if self._stage.get(node) == chain.stage]
        return chain if all(own and node in self.result.by_rows for node, own in last) else None

    def _place(self, task: Task, reads: Reads, after: int = -1) -> Chain:
        """Put a function into its stage, which comes after a given one."""
        chain = self._joined(reads, task.rows, task.chunks)
        if chain is not None and chain.stage > after:
            chain.tasks.append(task)
        else:
            chain = self.result.put(task, max(self._ready(reads), after + 1))
        self.result.reads[task] = list(dict.fromkeys([node for node, _ in reads]))
        self._note(task.makes, chain)
        return chain

    def _note(self, made: Iterable[Node], chain: Chain) -> None:
        for node in made:
            self._chains[node], self._stage[node] = chain, chain.stage

    # -- kernels -----------------------------------------------------------------------------------

    def _kernel(self, kernel: Kernel) -> None:
        nest = self.result.nests[kernel] = self._nest(kernel)
        self.result.scratch[kernel] = nest.sums_size
        stage = -1
        for task in passes(nest):
            stage = self._place(task, self._read_by(nest, task.number), stage).stage
            if task.rows:
                self.result.by_rows.update(n for n in task.makes if nest.is_row(kernel.home[n]))

    def _nest(self, kernel: Kernel) -> Nest:
        """The loops of a kernel, cut as the chain that it can join."""
        nest = Nest(kernel, self.fused.stored, self.host)
        chain = self._before(self._read_by(nest, 0)) if nest.items else None
        if chain is None or self._joins(nest):
            return nest
        other = Nest(kernel, self.fused.stored, self.host, pieces=chain.chunks)
        return other if self._joins(other) else nest

    def _joins(self, nest: Nest) -> bool:
        """Whether the first pass of a kernel can join a chain."""
        reads, chunks = self._read_by(nest, 0), nest.passes[0].chunks
        return self._joined(reads, nest.rows, chunks) is not None

    def _read_by(self, nest: Nest, number: int) -> Reads:
        """What a pass reads from memory, be it from an earlier pass."""
        steps = set(nest.passes[number].steps)
        return [
            (base(source), base(source) is source and nest.is_row(index))
            for step, at in nest.steps
            if step in steps
            for source, index in self.fused.stored.reads(step, at)
        ]

    # -- matrix products ---------------------------------------------------------------------------

    def _product(self, work: Product) -> None:
        tasks = phases(work, self.host)
        self.result.scratch[work] = scratch_size(work, self.host)
        packing = tasks.pop(0) if tasks and tasks[0].packs is not None else None
        reads, stage = _factors(work), -1
        for number, task in enumerate(tasks):  # it multiplies, then adds up what parts there are
            if task is tasks[-1]:
                reads += self._read_by_epilogue(work)
            if packing is not None and number == 0:
                stage = self._pack(packing, task, reads)
            stage = self._place(task, reads, stage).stage
            reads = [(work.node, False)]
        rows = tasks[-1].rows if tasks else 0
        if rows:
            self.result.by_rows.update(n for n in work.made if spec(n).shape[0] == rows)

    def _pack(self, packing: Task, multiplying: Task, reads: Reads) -> int:
        """Place what packs a factor as late as may be: in the stage before that of its product."""
        chain = self._joined(reads, multiplying.rows, multiplying.chunks)
        stage = chain.stage if chain else self._ready(reads)
        assert packing.packs is not None
        return self._place(packing, [reads[packing.packs]], stage - 2).stage

    def _read_by_epilogue(self, work: Product) -> Reads:
        made, row = set(work.made), row_loop(work)
        return [
            (base(source), base(source) is source and row is not None and is_row(at, row))
            for step in steps_of(work)
            for source, at in self.fused.stored.reads(*step)
            if base(source) not in made
        ]

    # -- specials ----------------------------------------------------------------------------------

    def _special(self, work: Special) -> None:
        reads: Reads = [(source, False) for source in self.fused.sources(work)]
        if is_called(work.node):
            # In the order of the program: operators may draw from NumPy, or share what they keep.
            stage = self._last_call = max(self._ready(reads), self._last_call)
            self._stage[work.node] = stage
            self.result.at(stage).called.append(work)
            return
        for task in special(work, philox=self.philox):
            self._place(task, reads)


def _factors(work: Product) -> Reads:
    """The factors of a product. A chunk of rows needs those of the first one, as it lies."""
    left, right = [untransposed(child) for child in work.node.inputs]
    own = left is work.node.inputs[0] and base(left) is left
    return [(base(left), own), (base(right), False)]


# -- verifier --------------------------------------------------------------------------------------


def verify(scheduled: Schedule, fused: Fused) -> None:
    """Check that values are there when they are read: made before, or row by row in the chain."""
    tasks = [
        (number, chain, place, task)
        for number, stage in enumerate(scheduled.stages)
        for chain in stage.chains
        for place, task in enumerate(chain.tasks)
    ]
    made: dict[Node, tuple[int, Chain | None, int]] = {
        work.node: (number, None, 0)
        for number, stage in enumerate(scheduled.stages)
        for work in stage.called
    }
    done: dict[Work, int] = {}  # the stage of its last function so far
    for number, chain, place, task in tasks:
        if place and not chain.takes(task.rows, task.chunks):
            raise CompileError(f"schedule: {task.name} has other chunks than its chain")
        if done.get(task.work, -1) >= number:
            raise CompileError(f"schedule: {task.name} does not wait for what comes before it")
        done[task.work] = number
        for node in task.makes:
            if node in made:
                raise CompileError(f"schedule: {node.op!r} is made twice")
            made[node] = number, chain, place
    for number, chain, place, task in tasks:
        for node, own in _reads_of(task, scheduled, fused):
            if node not in scheduled.reads[task]:
                raise CompileError(f"schedule: {task.name} does not say it reads {node.op!r}")
            stage, maker, earlier = made.get(node, (-1, None, 0))
            in_chain = own and node in scheduled.by_rows and maker is chain and earlier < place
            if stage >= number and not in_chain:
                raise CompileError(f"schedule: {task.name} reads {node.op!r} before it is there")
    for number, stage in enumerate(scheduled.stages):
        for work in stage.called:
            for node in fused.sources(work):
                if made.get(node, (-1,))[0] >= number:
                    raise CompileError(f"schedule: {work.node.op!r} is called before {node.op!r}")
    for kernel, nest in scheduled.nests.items():
        written = {*kernel.home, *[old for old, new in fused.state.items() if new in kernel.home]}
        for node, _ in nest.tiling.reads if nest.tiling else ():
            if base(node) in written:  # other tiles may be done
                raise CompileError(f"schedule: {node.op!r} is copied in tiles by what writes it")


def _reads_of(task: Task, scheduled: Schedule, fused: Fused) -> Reads:
    """What a function reads, found anew, and whether a chunk reads its own rows only."""
    work, found = task.work, list[tuple[Node, bool]]()
    if isinstance(work, Special):
        return [(node, False) for node in fused.sources(work)]
    if isinstance(work, Kernel):
        nest = scheduled.nests[work]
        row, steps = nest.row, nest.steps
    else:
        row, steps = row_loop(work), steps_of(work)
        for place, child in enumerate(work.node.inputs):
            if task.packs == place or (task.packs is None and work.node in task.steps):
                factor = untransposed(child)
                found.append((base(factor), place == 0 and factor is child is base(child)))
    for step in steps:
        for source, index in fused.stored.reads(*step) if step[0] in task.steps else ():
            loops = [loop for loop, _, _ in index]
            own = base(source) is source and loops.count(row) == 1 and index[0] == (row, 0, 1)
            found.append((base(source), own))
    return [read for read in found if read[0] not in task.makes]
