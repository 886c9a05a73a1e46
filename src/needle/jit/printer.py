"""Kernels as loops over named values, for people: x for inputs, a for values in memory.

The operator's `expression` is called once more, on texts::

    before: a kernel               after

    loops (4, 5), outer (0,)       # level 1, for each (i < 4): Σ over j < 5
    steps Summation, StopGradient  a1[i] = Σ tanh((x0[i, j] * 2))
                                   a2[i] = a1[i]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..graph.kinds import Elementwise, Reduction
from ..graph.node import Node
from ..ops.creation import Full
from ..ops.tuples import TupleGetItem
from .access import Entry, Index, is_view, own_index, spec, through
from .expression import base, operands
from .kernels import Fused, Kernel, Product, Special, Work
from .nest import body_index

_LETTERS = "ijklmnopqrstuvwxyz"
_SIGNS = {"add": "Σ", "maximum": "max", "minimum": "min"}


class Text:
    """A value of an expression, as text."""

    def __init__(self, text: str, dtype: Any) -> None:
        self.text = text
        self.dtype = dtype

    def _infix(self, sign: str, other: Any, *, swapped: bool = False) -> Text:
        a, b = (other, self) if swapped else (self, other)
        return Text(f"({_plain(a)} {sign} {_plain(b)})", self.dtype)

    def __add__(self, other: Any) -> Text:
        return self._infix("+", other)

    def __radd__(self, other: Any) -> Text:
        return self._infix("+", other, swapped=True)

    def __sub__(self, other: Any) -> Text:
        return self._infix("-", other)

    def __rsub__(self, other: Any) -> Text:
        return self._infix("-", other, swapped=True)

    def __mul__(self, other: Any) -> Text:
        return self._infix("*", other)

    def __rmul__(self, other: Any) -> Text:
        return self._infix("*", other, swapped=True)

    def __truediv__(self, other: Any) -> Text:
        return self._infix("/", other)

    def __rtruediv__(self, other: Any) -> Text:
        return self._infix("/", other, swapped=True)

    def __pow__(self, other: Any) -> Text:
        return self._infix("**", other)

    def __neg__(self) -> Text:
        return Text(f"-{self.text}", self.dtype)

    def __lt__(self, other: Any) -> Text:
        return self._infix("<", other)

    def __le__(self, other: Any) -> Text:
        return self._infix("<=", other)

    def __gt__(self, other: Any) -> Text:
        return self._infix(">", other)

    def __ge__(self, other: Any) -> Text:
        return self._infix(">=", other)

    def __eq__(self, other: object) -> Any:
        return self._infix("==", other)

    def __ne__(self, other: object) -> Any:
        return self._infix("!=", other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class TextExpressions:
    """The vocabulary of expressions, as text: every function by its name."""

    def __getattr__(self, name: str) -> Callable[..., Text]:
        def call(*values: Any) -> Text:
            dtype = next(x.dtype for x in values if isinstance(x, Text))
            return Text(f"{name}({', '.join(map(_plain, values))})", dtype)

        return call


def _plain(x: Any) -> str:
    return x.text if isinstance(x, Text) else f"{x}"


class Printer:
    """The kernels of a program as text.

    Args:
        fused: The kernels.
    """

    def __init__(self, fused: Fused) -> None:
        self.fused = fused
        self.names = {node: f"x{k}" for k, node in enumerate(fused.graph.inputs)}
        made = [node for work in fused.all_works for node in work.made]
        self.names.update({node: f"a{k}" for k, node in enumerate(made, start=1)})
        self.names.update({new: self.names[old] for old, new in fused.state.items()})

    def text(self) -> str:
        """All kernels, in the order in which they run."""
        return "\n\n".join([self._work(work) for work in self.fused.all_works])

    def _work(self, work: Work) -> str:
        if isinstance(work, Kernel):
            return self._kernel(work)
        node, shape = work.node, spec(work.node).shape
        values = " and ".join(self._name(child) for child in node.inputs)
        lines = [
            f"# level {work.level}, {kind_of(work)} {node.op!r}",
            f"{self.names[node]}{list(shape)} = {values}",
        ]
        for step in work.epilogue if isinstance(work, Product) else ():
            index = own_index(shape)
            lines.append(f"{self._element(step, index)} = {self._body(step, index)}")
        return "\n".join(lines)

    def _kernel(self, kernel: Kernel) -> str:
        counted = [f"{_LETTERS[k]} < {size}" for k, size in enumerate(kernel.loops)]
        outer = range(len(counted)) if kernel.outer is None else kernel.outer
        inner = [bound for k, bound in enumerate(counted) if k not in outer]
        sums = f": Σ over {', '.join(inner)}" if inner else ""
        lines = [f"# level {kernel.level}, for each ({', '.join(counted[k] for k in outer)}){sums}"]
        for node in kernel.steps:
            at = body_index(node, kernel)
            target = self._element(node, kernel.home[node])
            if isinstance(node.op, Reduction):
                sign = _SIGNS[node.op.combine]
                lines.append(f"{target} = {sign} {self._value(node.inputs[0], at)}")
            else:
                lines.append(f"{target} = {self._body(node, at)}")
        return "\n".join(lines)

    def _name(self, node: Node) -> str:
        """An operand of a product or special: a view of it is the transposed one."""
        if node.op is None or node in self.names:
            return self.names.get(node, "constant")
        return self.names.get(base(node.inputs[0]), "constant") + "ᵀ"

    def _element(self, node: Node, index: Index) -> str:
        name = self.names.get(base(node), "constant")
        return f"{name}[{', '.join(map(_place, index))}]"

    def _value(self, node: Node, at: Index) -> str:
        if node in self.names or (base(node) in self.names and not is_view(node)):
            is_whole = len(at) != len(spec(node).shape)
            return self._name(node) if is_whole else self._element(node, at)
        return "constant" if node.op is None else self._body(node, at)

    def _body(self, node: Node, at: Index) -> str:
        op = node.op
        if is_view(node):
            return self._value(node.inputs[0], through(node, at))
        if isinstance(op, Full):
            return f"{op.value}"
        if isinstance(op, TupleGetItem):
            return f"({self._value(node.inputs[0], at)})[{op.index}]"
        parts = [(child, self._value(child, index)) for child, index in operands(node, at)]
        if isinstance(op, Elementwise):
            texts = [Text(part, spec(child).dtype) for child, part in parts]
            result = op.expression(TextExpressions(), *texts)
            return ", ".join(map(_plain, result)) if isinstance(result, tuple) else _plain(result)
        return f"{op.name if op else ''}({', '.join(part for _, part in parts)})"


def kind_of(work: Work) -> str:
    """The kind of some work: "kernel", "product" or "special"."""
    kinds = {Kernel: "kernel", Product: "product", Special: "special"}
    return kinds[type(work)]


def _place(entry: Entry) -> str:
    loop, first, step = entry
    if loop is None:
        return str(first)
    moved = _LETTERS[loop] if step == 1 else f"{step}{_LETTERS[loop]}"
    return moved if first == 0 else f"{first}+{moved}"
