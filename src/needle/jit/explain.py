"""`explain`: every stage of a compiled function as text, without running it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import TraceError
from ..graph.kinds import Reduction
from ..graph.node import Node
from ..ops.tuples import TupleGetItem
from .access import Index, is_view, own_index, size_of, through
from .emit import Call
from .fuse import Kernel, Product, Work, base, children_of, made_by, sources
from .loops import body_index
from .native_executor import Compiled, NativeExecutor
from .program import Program
from .signature import signature
from .tracing import NewStateError, trace

_LETTERS = "ijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Row:
    """One kernel: what it does, its line, its work, and its time where it was measured.

    Attributes:
        name: Function in the module.
        kind: "kernel", "product" or "special".
        loops: The sizes that it loops over.
        makes: How many values it stores.
        flops: Floating-point operations, a transcendental function counted as one.
        bytes: Read and written, each value once.
        microseconds: Best of several runs on one thread; None where it was not measured.
        where: The user's line that its first value comes from.
    """

    name: str
    kind: str
    loops: tuple[int, ...]
    makes: int
    flops: int
    bytes: int
    microseconds: float | None
    where: str


@dataclass(frozen=True)
class Explanation:
    """The stages of a program. `str` shows all of them but code.

    Attributes:
        traced: The recorded graph.
        simplified: The graph after the first stage.
        kernels: The kernels as readable loops.
        memory: The memory plan.
        rows: A row for each kernel.
        ir: The LLVM IR.
        assembly: The machine code.
    """

    traced: str
    simplified: str
    kernels: str
    memory: str
    rows: tuple[Row, ...]
    ir: str
    assembly: str

    def table(self) -> str:
        """The kernels with their work, the slowest first where they were measured."""
        rows = sorted(self.rows, key=lambda row: -(row.microseconds or 0.0))
        lines = [
            f"{'kernel':<12} {'loops':<18} {'makes':>5} {'flops':>12} {'bytes':>12} {'µs':>8}  line"
        ]
        for row in rows:
            took = "" if row.microseconds is None else f"{row.microseconds:.1f}"
            loops = "×".join(map(str, row.loops)) or "-"
            lines.append(
                f"{row.name:<12} {loops:<18} {row.makes:>5} {row.flops:>12,} {row.bytes:>12,} "
                f"{took:>8}  {row.where}"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        parts = [
            ("traced graph", self.traced),
            ("simplified graph", self.simplified),
            ("kernels", self.kernels),
            ("memory", self.memory),
            ("work", self.table()),
            ("code", f"{self.ir.count(chr(10)):,} lines of IR (.ir), assembly in .assembly"),
        ]
        return "\n\n".join(f"== {title} ==\n{text}" for title, text in parts)


def explain(
    function: Callable[..., Any], *args: Any, profile: bool = False, **kwargs: Any
) -> Explanation:
    """What `ndl.jit` makes of a function, stage by stage; the program is not run and no state changes.

    Args:
        function: A function or a jitted one.
        args, kwargs: Arguments as for a call. State has to be there: call the function once before.
        profile: Measure the time of each kernel, on copies of inputs and state.

    Returns:
        An `Explanation`: print it, or read its parts.

    Raises:
        TraceError: the function cannot be traced, or has no native code.

    Example:
        >>> import needle as ndl
        >>> print(ndl.explain(lambda x: (x * 2).tanh().sum(), ndl.init.ones(100)).kernels)
        # level 1, for each (): Σ over i < 100
        a1[] = Σ tanh((x0[i] * 2))
        a2[] = a1[]
    """
    plain = getattr(function, "__wrapped__", function)
    leaves, _ = signature(args, kwargs)
    try:
        program = Program(trace(plain, args, kwargs, leaves), "explain")
    except NewStateError as state:
        raise TraceError(
            f"explain: {state} comes into being in this call. Call the function once before"
        ) from None
    compiled = program.compiled
    if compiled is None:
        raise TraceError(f"explain: there is no native code to show ({program.backend})")
    times = _profile(program, compiled, leaves) if profile else {}
    calls = _calls(compiled)
    return Explanation(
        traced=compiled.traced.text(),
        simplified=compiled.graph.text(),
        kernels=_Printer(compiled).text(),
        memory=compiled.plan.text(),
        rows=tuple([_row(call, compiled, times.get(call.symbol)) for call in calls]),
        ir=compiled.emitted.ir,
        assembly=compiled.module.assembly(),
    )


def _row(call: Call, compiled: Compiled, microseconds: float | None) -> Row:
    work = call.work
    nodes = [*made_by(work), *sources(work, compiled.fused.stored)]
    moved = sum(_bytes(node) for node in nodes)
    first = made_by(work)[0]
    return Row(
        call.symbol, type(work).__name__.lower(), _loops(work), len(made_by(work)), _flops(work, compiled),
        moved, microseconds, first.where or "",
    )  # fmt: skip


def _loops(work: Work) -> tuple[int, ...]:
    if isinstance(work, Kernel):
        return work.loops
    spec: Any = work.node.specs()
    if isinstance(work, Product):
        inner: Any = work.node.inputs[0].specs()
        return (*spec.shape, inner.shape[-1])
    return spec.shape


def _flops(work: Work, compiled: Compiled) -> int:
    if isinstance(work, Product):
        return 2 * size_of(_loops(work)) + size_of(_loops(work)[:-1]) * len(work.epilogue)
    if not isinstance(work, Kernel):
        return 0
    total = 0
    for node in work.steps:
        seen: set[Node] = set()
        pending = list(node.inputs)
        while pending:
            child = pending.pop()
            if child in seen or child in compiled.fused.stored or child.op is None:
                continue
            seen.add(child)
            pending.extend(child.inputs)
        operators = 1 + sum(not is_view(child) for child in seen)
        spec: Any = node.inputs[0].specs() if isinstance(node.op, Reduction) else node.specs()
        total += operators * size_of(spec.shape)
    return total


def _bytes(node: Node) -> int:
    spec: Any = node.specs()
    return size_of(spec.shape) * spec.dtype.itemsize


def _profile(program: Program, compiled: Compiled, leaves: list[Any]) -> dict[str, float]:
    """Best time of each function, run alone on one thread on copies of what the program reads."""
    executor = NativeExecutor(compiled)
    arrays, _ = program.values(leaves)
    for place, array in enumerate(arrays):
        executor.bind(place, np.array(array, order="C"))
    kept = executor()  # functions that run alone write their results there
    times = {}
    for call in _calls(compiled):
        run = executor.alone(call)
        best = float("inf")
        for _ in range(20):
            start = time.perf_counter_ns()
            run()
            best = min(best, time.perf_counter_ns() - start)
        times[call.symbol] = best / 1000
    del kept
    return times


def _calls(compiled: Compiled) -> list[Call]:
    """All native functions of a program, in order."""
    stages = [stage for stage in compiled.emitted.stages if isinstance(stage, list)]
    return [call for stage in [*stages, compiled.emitted.last] for call in stage]


# -- kernels as loops --------------------------------------------------------------------------------------


class _Text:
    """A value of an expression, as text."""

    def __init__(self, text: str, dtype: Any) -> None:
        self.text = text
        self.dtype = dtype

    def _infix(self, sign: str, other: Any, *, swapped: bool = False) -> _Text:
        a, b = (other, self) if swapped else (self, other)
        return _Text(f"({_plain(a)} {sign} {_plain(b)})", self.dtype)

    def __add__(self, other: Any) -> _Text:
        return self._infix("+", other)

    def __radd__(self, other: Any) -> _Text:
        return self._infix("+", other, swapped=True)

    def __sub__(self, other: Any) -> _Text:
        return self._infix("-", other)

    def __rsub__(self, other: Any) -> _Text:
        return self._infix("-", other, swapped=True)

    def __mul__(self, other: Any) -> _Text:
        return self._infix("*", other)

    def __rmul__(self, other: Any) -> _Text:
        return self._infix("*", other, swapped=True)

    def __truediv__(self, other: Any) -> _Text:
        return self._infix("/", other)

    def __rtruediv__(self, other: Any) -> _Text:
        return self._infix("/", other, swapped=True)

    def __pow__(self, other: Any) -> _Text:
        return self._infix("**", other)

    def __neg__(self) -> _Text:
        return _Text(f"-{self.text}", self.dtype)

    def __lt__(self, other: Any) -> _Text:
        return self._infix("<", other)

    def __le__(self, other: Any) -> _Text:
        return self._infix("<=", other)

    def __gt__(self, other: Any) -> _Text:
        return self._infix(">", other)

    def __ge__(self, other: Any) -> _Text:
        return self._infix(">=", other)

    def __eq__(self, other: object) -> Any:
        return self._infix("==", other)

    def __ne__(self, other: object) -> Any:
        return self._infix("!=", other)

    __hash__ = None  # type: ignore[assignment]


class _TextExpressions:
    """The vocabulary of expressions, as text: every function by its name."""

    def __getattr__(self, name: str) -> Callable[..., _Text]:
        def call(*operands: Any) -> _Text:
            dtype = next(x.dtype for x in operands if isinstance(x, _Text))
            return _Text(f"{name}({', '.join(map(_plain, operands))})", dtype)

        return call


def _plain(x: Any) -> str:
    return x.text if isinstance(x, _Text) else f"{x}"


class _Printer:
    """Kernels as loops over named values: x for inputs, a for values in memory."""

    def __init__(self, compiled: Compiled) -> None:
        self.compiled = compiled
        self.fused = compiled.fused
        self.names: dict[Node, str] = {
            node: f"x{k}" for k, node in enumerate(compiled.graph.inputs)
        }
        works = [*self.fused.works, *self.fused.last]
        for k, node in enumerate(self._made(works), start=1):
            self.names[node] = f"a{k}"
        for old, new in self.fused.state.items():
            self.names[new] = self.names[old]

    @staticmethod
    def _made(works: Iterable[Work]) -> list[Node]:
        return [node for work in works for node in made_by(work)]

    def text(self) -> str:
        """All kernels, in the order in which they run."""
        return "\n\n".join(self._work(work) for work in [*self.fused.works, *self.fused.last])

    def _work(self, work: Work) -> str:
        if isinstance(work, Kernel):
            return self._kernel(work)
        spec: Any = work.node.specs()
        operands = " and ".join(self._name(child) for child in work.node.inputs)
        lines = [
            f"# level {work.level}, {type(work).__name__.lower()} {work.node.op!r}",
            f"{self.names[work.node]}{list(spec.shape)} = {operands}",
        ]
        for step in work.epilogue if isinstance(work, Product) else ():
            index = own_index(spec.shape)
            lines.append(f"{self._element(step, index)} = {self._body(step, index, work)}")
        return "\n".join(lines)

    def _kernel(self, kernel: Kernel) -> str:
        outer = range(len(kernel.loops)) if kernel.outer is None else kernel.outer
        inner = [k for k in range(len(kernel.loops)) if k not in outer]
        ranges = ", ".join(f"{_LETTERS[k]} < {kernel.loops[k]}" for k in outer)
        sums = ", ".join(f"{_LETTERS[k]} < {kernel.loops[k]}" for k in inner)
        head = f"# level {kernel.level}, for each ({ranges})" + (f": Σ over {sums}" if sums else "")
        lines = [head]
        for node in kernel.steps:
            at = body_index(node, kernel)
            target = self._element(node, kernel.home[node])
            if isinstance(node.op, Reduction):
                sign = {"add": "Σ", "maximum": "max", "minimum": "min"}[node.op.combine]
                lines.append(f"{target} = {sign} {self._value(node.inputs[0], at, kernel)}")
            else:
                lines.append(f"{target} = {self._body(node, at, kernel)}")
        return "\n".join(lines)

    def _name(self, node: Node) -> str:
        op = "" if node.op is None or node in self.names else "ᵀ"
        source = node if node in self.names else base(node.inputs[0] if op else node)
        return self.names.get(source, "constant") + op

    def _element(self, node: Node, index: Index) -> str:
        name = self.names.get(base(node), "constant")
        return f"{name}[{', '.join(self._place(entry) for entry in index)}]"

    @staticmethod
    def _place(entry: Any) -> str:
        loop, first, step = entry
        if loop is None:
            return str(first)
        moved = _LETTERS[loop] if step == 1 else f"{step}{_LETTERS[loop]}"
        return moved if first == 0 else f"{first}+{moved}"

    def _value(self, node: Node, at: Index, work: Work) -> str:
        if node in self.names or (base(node) in self.names and not is_view(node)):
            spec: Any = node.specs()
            return self._element(node, at) if len(at) == len(spec.shape) else self._name(node)
        if node.op is None:
            return "constant"
        return self._body(node, at, work)

    def _body(self, node: Node, at: Index, work: Work) -> str:
        op: Any = node.op
        if is_view(node):
            return self._value(node.inputs[0], through(node, at), work)
        if hasattr(op, "value"):
            return f"{op.value}"
        if isinstance(op, TupleGetItem):
            return f"({self._value(node.inputs[0], at, work)})[{op.index}]"
        if not hasattr(op, "expression"):
            inner = ", ".join(self._value(*child, work) for child in children_of(node, at))
            return f"{op.name}({inner})"
        count = len(node.inputs) - op.scalars
        operands = [
            _Text(self._value(child, at if k < count else (), work), _dtype(child))
            for k, child in enumerate(node.inputs)
        ]
        result = op.expression(_TextExpressions(), *operands)
        return ", ".join(map(_plain, result)) if isinstance(result, tuple) else _plain(result)


def _dtype(node: Node) -> Any:
    spec: Any = node.specs()
    return spec.dtype
