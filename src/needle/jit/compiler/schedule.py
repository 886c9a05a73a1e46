"""Third stage: the functions of a program, their chunks, and which of them run when.

Work is one function or several: passes of a kernel; what packs a factor of a product, multiplies,
and adds up. A function runs in the stage after the last one that makes what it reads: between
stages all threads wait for each other, which takes time. Where that last one was cut into the same
rows, and each chunk needs those of its own rows only, nothing has to wait. The functions become a
*chain*: a thread goes through all of it, one chunk after the other, with the rows in its cache::

    before: work, by level           after: stages, and the chains in each

    1  a = x @ w                     1   a[rows] = x[rows] @ w,  s[part] = Σ a of the rows
    2  m = Σᵢ a / n, b = a - m       2   m = (s[0] + s[1]) / n,  b[rows] = a[rows] - m,
    3  c = b @ v                         c[rows] = b[rows] @ v
    4  g = cᵀ @ b                    3   g[rows] = (cᵀ)[rows] @ b

What packs a factor does so as late as possible: beside the stage before the one that needs it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ...errors import CompileError
from ...graph.node import Node
from ...native.llvm import Host
from .access import is_row, spec
from .expression import base, is_called
from .kernels import Fused, Kernel, Product, Special, Work
from .nest import Nest
from .products import scratch_size
from .tasks import Chain, Schedule, Task, kernel_tasks, product_tasks, special_tasks


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
        for task in kernel_tasks(result.nests[kernel]):
            result.put(task, last)
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

    def _ready(self, nodes: Iterable[Node]) -> int:
        """The first stage in which all of some values are there."""
        return 1 + max([self._stage.get(node, -1) for node in nodes], default=-1)

    def _before(self, task: Task) -> Chain | None:
        """The chain that makes the last of what a function reads; None if several do."""
        stage = self._ready(task.sources) - 1
        last = [node for node in task.sources if self._stage.get(node) == stage]
        chains = {self._chains.get(node) for node in last}
        return chains.pop() if len(chains) == 1 else None

    def _joined(self, task: Task) -> Chain | None:
        """The chain at whose end a function may run: where a chunk needs what one of it makes."""
        chain = self._before(task)
        if chain is None or not chain.takes(task):
            return None
        last = [(node, own) for node, own in task.reads if self._stage.get(node) == chain.stage]
        return chain if all(own and node in self.result.by_rows for node, own in last) else None

    def _place(self, task: Task, after: int = -1) -> int:
        """Put a function into its stage, which comes after a given one."""
        chain = self._joined(task)
        if chain is not None and chain.stage > after:
            chain.tasks.append(task)
        else:
            chain = self.result.put(task, max(self._ready(task.sources), after + 1))
        for node in task.makes:
            self._chains[node], self._stage[node] = chain, chain.stage
        return chain.stage

    # -- the functions of some work ----------------------------------------------------------------

    def _kernel(self, kernel: Kernel) -> None:
        nest = Nest(kernel, self.fused.stored, self.host)
        tasks = kernel_tasks(nest)
        chain = self._before(tasks[0]) if tasks else None
        if chain is not None and self._joined(tasks[0]) is None:
            other = Nest(kernel, self.fused.stored, self.host, pieces=chain.chunks)
            if self._joined(kernel_tasks(other)[0]) is not None:
                nest, tasks = other, kernel_tasks(other)
        self.result.nests[kernel] = nest
        self._give_scratch(kernel, nest.sums_size)
        stage = -1
        for task in tasks:
            stage = self._place(task, stage)
            if task.rows:
                rows = [node for node in task.makes if is_row(kernel.steps[node].home, nest.row)]
                self.result.by_rows.update(rows)

    def _product(self, work: Product) -> None:
        tasks = product_tasks(work, self.fused.stored, self.host)
        self._give_scratch(work, scratch_size(work, self.host))
        stage = -1
        if tasks and tasks[0].packs is not None:  # as late as may be
            packing, multiplying = tasks[:2]
            chain = self._joined(multiplying)
            needed = chain.stage if chain else self._ready(multiplying.sources)
            stage = self._place(packing, needed - 2)
            del tasks[0]
        for task in tasks:
            stage = self._place(task, stage)
            if task.makes and task.rows:
                rows = [node for node in task.makes if spec(node).shape[0] == task.rows]
                self.result.by_rows.update(rows)

    def _give_scratch(self, work: Work, size: int) -> None:
        if size:
            self.result.scratch[work] = size

    def _special(self, work: Special) -> None:
        sources = self.fused.sources(work)
        if is_called(work.node):
            # In the order of the program: operators may draw from NumPy, or share what they keep.
            stage = self._last_call = max(self._ready(sources), self._last_call)
            self._stage[work.node] = stage
            self.result.at(stage).called.append(work)
            return
        for task in special_tasks(work, sources, philox=self.philox):
            self._place(task)


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
    said = defaultdict[Work, set[Node]](set)  # what its functions say they read
    for number, chain, place, task in tasks:
        if place and not chain.takes(task):
            raise CompileError(f"schedule: {task.name} has other chunks than its chain")
        if done.get(task.work, -1) >= number:
            raise CompileError(f"schedule: {task.name} does not wait for what comes before it")
        done[task.work] = number
        said[task.work].update(task.sources)
        for node in task.makes:
            if node in made:
                raise CompileError(f"schedule: {node.op!r} is made twice")
            made[node] = number, chain, place
    for work, nodes in said.items():
        for node in set(fused.sources(work)).difference(nodes, work.made):
            raise CompileError(f"schedule: {work.made[0].op!r} does not say it reads {node.op!r}")
    for number, chain, place, task in tasks:
        for node, own in [read for read in task.reads if read[0] not in task.makes]:
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
        written = {*kernel.steps, *[old for old, new in fused.state.items() if new in kernel.steps]}
        for node, _ in nest.tiling.reads if nest.tiling else ():
            if base(node) in written:  # other tiles may be done
                raise CompileError(f"schedule: {node.op!r} is copied in tiles by what writes it")
