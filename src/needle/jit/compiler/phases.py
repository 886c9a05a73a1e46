"""The steps of a kernel in the order in which its code does them: phases, and passes.

(The functions of a matrix product are called phases in `native/`; these are other ones.) For each
outer position a kernel goes through phases. A "loop" phase runs over the inner loops: it
adds up reductions and stores values of the whole domain. A "tail" phase computes values of the
outer position alone, from reductions that are done::

    before: steps                  after: phases

    s = Summation(axes=1) x        for i:  loop   s = Σⱼ x[i, j]
    m = DivScalar(n) s                     tail   m = s / n
    v = Summation(axes=1) (x-m)²           loop   v = Σⱼ (x[i, j] - m)²

Where columns are added up, or a few long rows, the inner loop is shared out instead: each *part* of
it leaves sums of its own, and the next *pass*, begun when all parts are done, first adds those up.
So a thread keeps the rows that it has in its cache, and there is work for many threads in a narrow
matrix::

    pass 1, for part in rows 0 ... 50, 50 ... 100:   loop   s[part] = Σᵢ x[i, j] of its rows
    pass 2, for part in rows 0 ... 50, 50 ... 100:   tail   m = (s[0] + s[1]) / n
                                                     loop   v[part] = Σᵢ (x[i, j] - m)² ...
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...graph.kinds import Reduction
from ...graph.node import Node
from .expression import Step, Stored
from .kernels import Kernel

Phase = tuple[str, list[Step]]


@dataclass(frozen=True)
class Pass:
    """What is done before all chunks have to be done.

    Attributes:
        phases: The steps of one outer position.
        sums: Reductions of which the pass before left the sums of parts, if there are parts.
        leaves: Reductions of which this one leaves such sums.
        chunks: Number of chunks.
    """

    phases: list[Phase]
    sums: list[Node]
    leaves: list[Node]
    chunks: int

    @property
    def computes(self) -> list[Node]:
        """The values of all its phases, at least in parts."""
        return [step.node for _, steps in self.phases for step in steps]

    @property
    def makes(self) -> list[Node]:
        """What is in memory when it is done."""
        return [*self.sums, *[node for node in self.computes if node not in self.leaves]]


def in_parts(phases: Iterable[Phase], parts: int) -> list[Pass]:
    """The passes over parts of the first inner loop: each ends with a loop that adds up."""
    passes: list[Pass] = []
    waiting: list[Phase] = []
    sums: list[Node] = []
    for kind, steps in phases:
        waiting.append((kind, steps))
        if kind == "loop":
            leaves = [step.node for step in steps if isinstance(step.node.op, Reduction)]
            passes.append(Pass(waiting, sums, leaves, parts))
            waiting, sums = [], leaves
    if waiting or sums:
        passes.append(Pass(waiting, sums, [], 1))
    return passes


def phases_of(kernel: Kernel, stored: Stored) -> list[Phase]:
    """The steps of a kernel with inner loops in phases, with no phase empty.

    Each is in the first phase in which all that it reads is there.
    """
    number: dict[Node, int] = {}  # even ones are loops, odd ones the tails of the loop before
    for node, step in kernel.steps.items():
        whole = _is_whole(step, kernel)
        number[node] = 0 if whole else 1
        for source, index in stored.read_by([step]):
            if source in number:
                here = not whole or index == kernel.steps[source].home
                alike = whole == _is_whole(kernel.steps[source], kernel)
                earliest = _after(source, number[source], alike=alike, here=here)
                number[node] = max(number[node], earliest)
    phases: list[Phase] = [
        ("tail" if k % 2 else "loop", [kernel.steps[node] for node in number if number[node] == k])
        for k in range(max(number.values()) + 1)
    ]
    return [phase for phase in phases if phase[1]]


def _after(source: Node, phase: int, *, alike: bool, here: bool) -> int:
    """The first phase in which a step can read what is made in another one.

    Args:
        source: What is read.
        phase: The number of the phase that makes it.
        alike: Whether both phases are loops, or both tails.
        here: Whether the step reads it at the position at which it is made.
    """
    if alike and here and not isinstance(source.op, Reduction):
        return phase
    return phase + (2 if alike else 1)


def _is_whole(step: Step, kernel: Kernel) -> bool:
    """Whether a step runs over the inner loops, rather than at the outer position alone."""
    outer = kernel.outer
    if isinstance(step.node.op, Reduction) or outer is None or len(outer) == len(kernel.loops):
        return True
    loops = {loop for loop, _, _ in step.home} - {None}
    return not loops <= set(outer)
