"""Second half of fusing: the stored values are gathered into kernels.

A `Kernel` visits a domain, its `loops`. The `outer` ones are independent of each other and are
shared out to threads. For each outer position the kernel does its steps one after the other:
reductions over the inner loops, values of the outer position alone, values of the whole domain.
So a batch norm is one kernel::

    before: one operator after the other     after: one loop nest

    s  = Summation(axes=0) x                 for j:
    m  = DivScalar(n) s                          s[j] = Σᵢ x[i, j]
    d  = x - BroadcastTo m                       m[j] = s[j] / n
    v  = Summation(axes=0) d * d                 v[j] = Σᵢ (x[i, j] - m[j])²
    y  = d * BroadcastTo …                       for i: y[i, j] = …

A value joins a kernel that is there if what it reads was made at earlier levels, or by that kernel
at the same outer position, and if a kernel that adds up goes through memory as it does
(`directions`); otherwise a new kernel begins. Values over a matrix product join its epilogue.
Kernels that overwrite state come last, when nobody reads the old values any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import CompileError
from ...graph.node import Node
from ...ops.contraction import MatMul
from ...shapes import Shape
from .access import Index, size_of, spec
from .directions import agree, directions
from .epilogues import fits
from .expression import Step, base, is_called, is_special, untransposed
from .graph import Graph
from .kernels import Domain, Fused, Kernel, Product, Special, Work, domain, result_index
from .store import Choice

NEAR_KERNELS = 32
"""A value may join one of so many kernels before it: time grows with the graph, not its square."""
LARGEST_KERNEL = 200
"""Operators in one kernel: LLVM's time grows faster than the code of a loop, and the parts of a
long chain, being alike, share their code."""


def fuse(graph: Graph, results: Sequence[Node], state: dict[Node, Node]) -> Fused:
    """Decide what is stored, and gather the stored values into kernels.

    Args:
        graph: A simplified graph.
        results: The nodes whose values are handed out.
        state: For inputs that are state, the node that replaces each in place.
    """
    choice = Choice(graph, results, state)
    gathering = _Gathering(choice)
    for node in dict.fromkeys([*graph.nodes, *choice.results.values(), *choice.asides]):
        if node in choice.stored:
            gathering.place(node)
    last = gathering.place_state()
    works = sorted(gathering.works, key=lambda work: work.level)
    return Fused(graph, works, last, choice.stored, choice.results, choice.state)


class _Gathering:
    """The kernels so far, and the one that makes each stored value."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.stored = choice.stored
        self.size = choice.size
        self.works: list[Work] = []
        self.maker: dict[Node, Work] = {}
        self._last_call = 0

    def place(self, node: Node) -> None:
        """Put a stored node into a kernel that is there, or a new one."""
        if isinstance(node.op, MatMul):
            level = self._after(base(untransposed(child)) for child in node.inputs)
            self._add_work(Product(node, level))
        elif is_special(node):
            level = self._after(map(base, node.inputs))
            if is_called(node):  # in the order of the program: one may read what another left
                level = self._last_call = max(level, self._last_call)
            self._add_work(Special(node, level))
        else:
            found = domain(node)
            size = self.size(node)
            for work in reversed(self.works[-NEAR_KERNELS:]):
                if isinstance(work, Special) or work.size + size > LARGEST_KERNEL:
                    continue
                if self._joins(node, found, work):
                    work.size += size
                    return
            level = self._after(self._reads(node, found.index))
            self._add_work(self._kernel(node, found, level, size))

    def place_state(self) -> list[Kernel]:
        """The kernels that write new state over the old.

        Each reads only what was stored before, and the old state that it overwrites itself.
        """
        level = 1 + max([work.level for work in self.works], default=0)
        groups: dict[Node, list[Node]] = {}
        for new in self.choice.state.values():
            groups.setdefault(self.choice.made_with(new), []).append(new)
        kernels: list[Kernel] = []
        for first, *others in groups.values():
            kernel = self._kernel(first, domain(first), level, self.size(first))
            for node in others:
                kernel.steps[node] = self._step(node, domain(node).index, kernel.loops)
            kernels.append(kernel)
        return kernels

    def _add_work(self, work: Work) -> None:
        self.works.append(work)
        self.maker.update(dict.fromkeys(work.made, work))

    def _after(self, nodes: Iterable[Node]) -> int:
        """The first level at which all of some stored values are there."""
        return 1 + max([self.maker[n].level for n in nodes if n in self.maker], default=0)

    def _reads(self, node: Node, index: Index) -> dict[Node, list[Index]]:
        """What a step reads from memory, and where: () where memory is read as another shape."""
        found: dict[Node, list[Index]] = {}
        for source, at in self.stored.reads(node, index):
            found.setdefault(base(source), []).append(at if base(source) is source else ())
        return found

    def _joins(self, node: Node, own: Domain, work: Kernel | Product) -> bool:
        """Add a node to a kernel, if nothing has to wait and all that it reads there is ready."""
        if isinstance(work, Product):
            return self._joins_epilogue(node, own.index, work)
        for loops, outer, index in _ways_in(own, work):
            reads = self._reads(node, index)
            inside = {s for s in reads if self.maker.get(s) is work}
            if len(loops) < len(work.loops) and not inside:
                continue  # at outer positions alone: only to go on with what is made there
            if self._after(s for s in reads if s not in inside) > work.level:
                continue  # the kernel would have to wait for what is read
            outer = outer if work.outer is None else work.outer
            if any(not _same_place(work.steps[s].home, a, outer) for s in inside for a in reads[s]):
                continue  # another turn of the loops makes what is read
            step = self._step(node, index, work.loops)
            if outer is None or agree(work.steps.values(), step):
                work.outer = outer
                work.steps[node] = step
                self.maker[node] = work
                return True
        return False

    def _kernel(self, node: Node, own: Domain, level: int, size: int) -> Kernel:
        """A kernel for one value."""
        step = self._step(node, own.index, own.loops)
        return Kernel(own.loops, own.outer, level, {node: step}, size)

    def _step(self, node: Node, index: Index, loops: Shape) -> Step:
        along = directions(node, index, self.stored.reads(node, index), loops)
        return Step(node, index, result_index(node, index), along)

    def _joins_epilogue(self, node: Node, index: Index, product: Product) -> bool:
        """Add a value to what is computed over a product, element by element."""
        reads = self._reads(node, index)
        inside = {s for s in reads if self.maker.get(s) is product}
        if not inside or self._after(s for s in reads if s not in inside) > product.level:
            return False
        if not fits(node, product, self.stored):
            return False
        product.steps[node] = Step(node, index, index)
        self.maker[node] = product
        return True


def _ways_in(own: Domain, kernel: Kernel) -> list[Domain]:
    """Ways to compute a node in a kernel: over its whole domain, or its outer positions alone.

    Where rows of x[i, j] are added up the first is for x[i, j] - m[i], the other for m[i].
    """
    loops, outer, index = own
    ways: list[Domain] = []
    if loops == kernel.loops and (outer is None or kernel.outer in (None, outer)):
        ways.append(own)
    axes = kernel.outer
    if axes is None or outer is not None or len(axes) == len(kernel.loops):
        return ways
    if loops == tuple([kernel.loops[axis] for axis in axes]):
        moved = tuple([(None if k is None else axes[k], f, s) for k, f, s in index])
        ways.append(Domain(loops, None, moved))
    return ways


def _same_place(home: Index, at: Index, outer: tuple[int, ...] | None) -> bool:
    """Whether a value is read at the outer position at which it is made."""
    if outer is None or len(home) != len(at):
        return home == at
    return all(h == a for h, a in zip(home, at, strict=True) if h[0] in outer or a[0] in outer)


# -- verifier --------------------------------------------------------------------------------------


def verify(fused: Fused) -> None:
    """Check that all work reads what is there: inputs, earlier levels, its own earlier steps."""
    made: dict[Node, Work] = {}
    for work in fused.all_works:
        for node in work.made:
            if node in made:
                raise CompileError(f"fuse: {node.op!r} is made twice")
            made[node] = work
    for work in fused.all_works:
        for source in fused.sources(work):
            if source.op is not None and made.get(source) is not work:
                _verify_level(source, made.get(source), work)
        _verify_steps(fused, work)
        if isinstance(work, Product):
            _verify_epilogue(fused, work)
    _verify_results(fused)
    overwritten = set(fused.state)
    for kernel in fused.last:
        own = {old for old, new in fused.state.items() if new in kernel.steps}
        for source in fused.sources(kernel):
            if source in overwritten and source not in own:
                raise CompileError("fuse: state is read while another kernel overwrites it")


def _verify_results(fused: Fused) -> None:
    taken: set[Node] = set()
    for node, stored in fused.results.items():
        (shape, dtype), (other, its_dtype) = spec(node), spec(stored)
        if size_of(shape) != size_of(other) or dtype != its_dtype or stored in taken:
            raise CompileError(f"fuse: {node.op!r} is handed out where {stored.op!r} is stored")
        taken.add(stored)


def _verify_level(source: Node, maker: Work | None, reader: Work) -> None:
    if maker is None:
        raise CompileError(f"fuse: {source.op!r} is read, and nothing makes it")
    if maker.level >= reader.level:
        raise CompileError(
            f"fuse: {source.op!r} is read at level {reader.level}, made at {maker.level}"
        )


def _verify_steps(fused: Fused, work: Work) -> None:
    later = set(work.steps)
    for node, step in work.steps.items():
        if later.intersection([base(source) for source, _ in fused.stored.read_by([step])]):
            raise CompileError(f"fuse: {node.op!r} reads what a later step of its kernel makes")
        later.remove(node)


def _verify_epilogue(fused: Fused, work: Product) -> None:
    before = Product(work.node, work.level)
    for node, step in work.steps.items():
        if not fits(node, before, fused.stored):
            raise CompileError(f"fuse: {node.op!r} does not follow the rows of its product")
        before.steps[node] = step
