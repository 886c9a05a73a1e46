"""Kernels as loops over named values, for people: x for inputs, a for values in memory.

The operator's `expression` is called once more, on terms (`terms.py`)::

    before: a kernel               after

    loops (4, 5), outer (0,)       # kernel1, level 1: for each (i < 4), Σ over j < 5
    steps Summation, StopGradient  a1[i] = Σ tanh(x0[i, j] * 2)
                                   a2[i] = a1[i]

Constants of more than one element are c; t are names for what a kernel uses several times. A title
names the functions of its kernel in the module; "no code" is what NumPy does between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...graph.kinds import Pointwise, Reduction
from ...graph.node import Node
from ...ops.creation import Arange, Full
from ...ops.indexing import OneHot
from ...shapes import Shape
from .access import Entry, Index, loops_of, own_index, repeated, spec
from .calls import Call
from .expression import Evaluation, Step, Stored, base
from .kernels import Fused, Kernel, Product, Special, Work
from .terms import LETTERS, Assignment, Term, Terms, element, lines

_SIGNS = {"add": "Σ", "maximum": "max", "minimum": "min"}


class Names:
    """The names of values in memory.

    Args:
        fused: The kernels.
    """

    def __init__(self, fused: Fused) -> None:
        made = [node for work in fused.all_works for node in work.made]
        self._names = {node: f"x{k}" for k, node in enumerate(fused.graph.inputs)}
        self._names.update({node: f"a{k}" for k, node in enumerate(made, start=1)})
        self._names.update({new: self._names[old] for old, new in fused.state.items()})
        self._constants = 0

    def of(self, node: Node) -> str:
        """The name of a node that is, or of the memory whose elements it has in another shape."""
        below = base(node)
        if below not in self._names:
            self._constants += 1
            self._names[below] = f"c{self._constants}"
        name, shape = self._names[below], spec(node).shape
        same = loops_of(shape) == loops_of(spec(below).shape)
        return name if same else f"{name}.reshape{shape}"


class Printer:
    """The kernels of a program as text.

    Args:
        fused: The kernels.
        calls: Their functions, which the text names.
    """

    def __init__(self, fused: Fused, calls: Iterable[Call]) -> None:
        self.fused = fused
        self._names = Names(fused)
        self._calls: dict[Work, list[Call]] = {}
        for call in calls:
            self._calls.setdefault(call.task.work, []).append(call)

    def text(self) -> str:
        """All kernels, in the order in which they run."""
        return "\n\n".join(["\n".join(self._work(work)) for work in self.fused.all_works])

    def _work(self, work: Work) -> list[str]:
        if isinstance(work, Special):
            node = work.node
            read = [self._names.of(child) for child in node.inputs]
            target = element(self._names.of(node), map(str, spec(node).shape))
            return [self._title(work, "as a whole"), " ".join([f"{target} = {node.op!r}", *read])]
        values = _Values(self._names, self.fused.stored)
        if isinstance(work, Product):
            return self._product(work, values)
        steps = [values.assignment(step) for step in work.steps.values()]
        at_once = work in self.fused.last  # new state, all of it from the old
        return [self._loops(work), *lines([steps] if at_once else [[step] for step in steps])]

    def _product(self, work: Product, values: _Values) -> list[str]:
        node, shape = work.node, spec(work.node).shape
        index, inner = own_index(shape), spec(work.node.inputs[0]).shape[-1]
        k = len(loops_of(shape))
        ways = (*index[:-1], (k, 0, 1)), (*index[:-2], (k, 0, 1), index[-1])
        left, right = [
            values.value(child, repeated(way, spec(child).shape))
            for child, way in zip(node.inputs, ways, strict=True)
        ]
        product = Assignment(values.target(node, index), "Σ", left * right)
        steps = [values.assignment(step) for step in work.steps.values()]
        each = ", ".join(_counted(loops_of(shape)))
        title = self._title(work, f"for each ({each}), Σ over {LETTERS[k]} < {inner}")
        return [title, *lines([[product], *[[step] for step in steps]])]

    def _loops(self, kernel: Kernel) -> str:
        counted = _counted(kernel.loops)
        outer = range(len(counted)) if kernel.outer is None else kernel.outer
        inner = [bound for k, bound in enumerate(counted) if k not in outer]
        calls = self._calls.get(kernel, [])
        part = f"in {len(calls)} passes" if len(calls) > 1 else calls[0].task.part if calls else ""
        each = ", ".join([counted[k] for k in outer])
        sums = f", Σ over {', '.join(inner)}" if inner else ""
        return self._title(kernel, f"for each ({each}){sums}{part and f', {part}'}")

    def _title(self, work: Work, what: str) -> str:
        symbols = " + ".join([call.symbol for call in self._calls.get(work, ())]) or "no code"
        return f"# {symbols}, level {work.level}: {what}"


class _Values(Evaluation):
    """The values of a kernel as terms."""

    def __init__(self, names: Names, stored: Stored) -> None:
        self.stored = stored
        self.known = {}
        self._names = names
        self._terms = Terms()

    def assignment(self, step: Step) -> Assignment:
        """A step as text."""
        node, target = step.node, self.target(step.node, step.home)
        if isinstance(node.op, Reduction):
            value = self.value(node.inputs[0], step.at)
            return Assignment(target, _SIGNS[node.op.combine], value)
        return Assignment(target, "", self.body(node, step.at))

    def target(self, node: Node, home: Index) -> str:
        """Where a value is stored."""
        return element(self._names.of(node), map(_place, home))

    def load(self, node: Node, at: Index) -> Term:
        """An element by the name of its value; of a constant of one element, the number."""
        storage = node.storage if node.op is None else None
        if storage is not None and storage.size == 1:
            return self._terms.term(storage.item(), storage.dtype)
        if not at:
            return self._terms.make(self._names.of(node), dtype=spec(node).dtype)
        return self._element(node, map(self._position, at))

    def _element(self, node: Node, places: Iterable[Term]) -> Term:
        return self._terms.make(f"{self._names.of(node)}[", *places, dtype=spec(node).dtype)

    def _position(self, entry: Entry) -> Term:
        loops = () if entry[0] is None else (entry[0],)
        return self._terms.make(_place(entry), loops=loops)

    def constant(self, op: Full) -> Term:
        """A number."""
        return self._terms.term(op.value, op.dtype)

    def count(self, op: Arange, dtype: Any, entry: Entry) -> Term:
        """A loop's counter, times the step and so on."""
        place = self._position(entry)
        place = place if op.step == 1 else place * op.step
        return place + op.start if op.start else place

    def one_hot(self, op: OneHot, place: Term, entry: Entry) -> Any:
        """A comparison."""
        return place == self._position(entry)

    def pick(self, node: Node, axis: int, where: Index, rest: Index) -> Term:
        """An element at a position that another value holds."""
        table, places = node.inputs
        position = [self._position(entry) for entry in rest]
        position[axis] = self.value(places, where)
        return self._element(table, position)

    def compute(self, node: Node, op: Pointwise, values: list[Term]) -> Any:
        """What an expression makes of terms."""
        return op.expression(self._terms, *values)


def _counted(loops: Shape) -> list[str]:
    return [f"{LETTERS[k]} < {size}" for k, size in enumerate(loops)]


def _place(entry: Entry) -> str:
    loop, first, step = entry
    if loop is None:
        return str(first)
    moved = LETTERS[loop] if abs(step) == 1 else f"{abs(step)}*{LETTERS[loop]}"
    sign = "-" if step < 0 else "+" if first else ""
    return f"{first or ''}{sign}{moved}"
