"""The stages from a recorded graph to machine code, one after the other.

Each is a function from value to value, in a file of its own. For y = tanh(x @ w) * 2::

    stage      file               gives      of the example

    simplify   simplify.py        Graph      %2 = MatMul %0 %1;  %3 = Tanh %2;  %4 = MulScalar(2) %3
    fuse       store.py, fuse.py  Fused      one kernel:  a1[i, j] = Σ x0[i, k] * x1[k, j]
                                                          a2[i, j] = tanh(a1[i, j]) * 2
    schedule   schedule.py        Schedule   stage 1: the product, in one chunk
    plan       plan.py            Plan       pointers to x0, x1 and a2, the result; a1 in the arena
    emit       emit.py            Emitted    LLVM IR of a function, and a call of it

Before them `jit/tracing/` records the graph; after them `native_executor.py` makes the calls.

Words that all of them use:

    stored         a value that is kept in memory; all others live in registers, and are computed
                   again wherever they are used
    expression     how one element of a stored value follows from elements of other stored values
    kernel, step   a loop nest, and a stored value that it computes
    outer, inner   loops whose turns are independent of each other, and those that a reduction
                   combines; a turn is one iteration
    lanes, mask    a vector holds so many elements, of which the mask says which are there
    task, chunk    a function of the program, and a part of its work that one thread does alone
    stage, chain   between stages threads wait for each other (a barrier); the tasks of a chain are
                   done one after the other by the thread that has the chunk
    arena          the block of memory in which a program's own values lie
"""

from __future__ import annotations

from collections.abc import Sequence

from ...graph.node import Node
from ...native import llvm
from ...philox import PhiloxStream
from ...random import ambient_stream
from ..tracing.interpret import gathers
from .emit import Emitter
from .fuse import fuse
from .graph import Graph
from .plan import plan
from .schedule import schedule
from .simplify import simplify


class Compiled:
    """The stages of a program, each a value that can be looked at, printed and verified.

    Args:
        inputs: Nodes whose values are given at each call.
        nodes: Recorded nodes in program order.
        results: Nodes whose values are handed out.
        state: For inputs that are state, the node that is to replace each in place.
        host: The machine; this one unless another is named.

    Attributes:
        state: The part of `state` that is: its value is made in the program, and for one place.
        handed: `results`, and the values of the other state.
    """

    def __init__(
        self,
        inputs: Sequence[Node],
        nodes: Sequence[Node],
        results: Sequence[Node],
        state: dict[Node, Node],
        host: llvm.Host | None = None,
    ) -> None:
        self.host = host or llvm.host()
        wanted = [*results, *state.values()]
        self.traced = Graph(inputs, nodes, wanted, gathers(nodes))
        self.graph = simplify(self.traced)
        now = dict(zip(wanted, self.graph.outputs, strict=True))
        self.state = self._in_place(state, now)
        others = [new for old, new in state.items() if old not in self.state]
        self.handed = list(dict.fromkeys([*results, *others]))
        self.results = [now[node] for node in self.handed]
        placed = {old: now[new] for old, new in self.state.items()}
        self.fused = fuse(self.graph, self.results, placed)
        self.philox = isinstance(ambient_stream(), PhiloxStream)
        self.schedule = schedule(self.fused, self.host, philox=self.philox)
        self.plan = plan(self.fused, self.schedule)
        self.emitted = Emitter(self.fused, self.schedule, self.plan, self.host).emit()
        self.module = llvm.compile_ir(self.emitted.ir, self.host)

    def _in_place(self, state: dict[Node, Node], now: dict[Node, Node]) -> dict[Node, Node]:
        found: dict[Node, Node] = {}
        made = set(self.graph.nodes)
        for old, new in state.items():
            if now[new] in made:
                made.remove(now[new])
                found[old] = new
        return found
