"""Fourth stage: kernels become functions of LLVM IR, one for each phase of the program.

Every function has the signature ``void f(ptr table, i64 begin, i64 end, i64 thread)`` and does the chunks
begin ... end - 1. Kernels that do the same with other memory share their code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..graph.node import Node
from ..native import matmul
from ..native.llvm import Host
from ..native.matmul_blocking import plan as cut
from ..native.values import F32, F64, I64, PTR, VOID, Type, Value
from ..native.vectors import Builder, Source
from ..ops.movement import Transpose
from ..shapes import Shape
from .access import own_index, size_of
from .fuse import (
    Fused,
    Kernel,
    Product,
    Special,
    Unsupported,
    Work,
    base,
    is_called,
    made_by,
    reads_of,
    sources,
    untransposed,
)
from .interpret import is_random
from .loops import Nest, structure, write
from .plan import Plan
from .scope import Memory, Scope
from .specials import draw_chunks, is_drawn_here, write_draw, write_special
from .symbols import Symbol

_ARGUMENTS = {"table": PTR, "begin": I64, "end": I64, "thread": I64}


@dataclass
class Call:
    """One function of the program: its name, its chunks, and the kernel it belongs to."""

    symbol: str
    chunks: int
    work: Work


@dataclass
class Emitted:
    """The code of a program.

    Attributes:
        ir: The module.
        stages: Calls that may run side by side, stage after stage; or an operator to call in Python.
        last: The stage that writes state in place.
    """

    ir: str
    stages: list[list[Call] | Special] = field(default_factory=list)
    last: list[Call] = field(default_factory=list)


def scratch_sizes(fused: Fused, host: Host) -> dict[Node, int]:
    """Bytes of scratch memory of each matrix product."""
    sizes = {}
    for work in fused.works:
        if isinstance(work, Product):
            shape = _Shape(work.node)
            itemsize = 4 if shape.product.kind == F32 else 8
            sizes[work.node] = cut(shape.product, host).scratch * itemsize * shape.batches
    return sizes


class Emitter:
    """Writes the module.

    Args:
        fused: The kernels.
        plan: The memory.
        host: The machine.
        status: Slot of the status word.
        draws: Slot of the state of the random stream.
        philox: Whether the stream is Philox, which code draws from itself.
    """

    def __init__(
        self, fused: Fused, plan: Plan, host: Host, status: int, draws: int, philox: bool
    ) -> None:
        self.fused = fused
        self.plan = plan
        self.source = Source(host)
        self.kernels = matmul.Kernels(self.source)
        self.status = status
        self.draws = draws
        self.philox = philox
        self.bodies: dict[Any, str] = {}
        self.count = 0
        order = [n for n in fused.graph.nodes if is_random(n)]
        self.draw_number = {node: k for k, node in enumerate(order)}

    def emit(self) -> Emitted:
        """The whole program."""
        result = Emitted("")
        levels: dict[int, list[Work]] = {}
        for work in self.fused.works:
            levels.setdefault(work.level, []).append(work)
        for level in sorted(levels):
            first: list[Call] = []
            second: list[Call] = []
            for work in levels[level]:
                calls = self._calls(work)
                first += calls[:1] if len(calls) > 1 else calls
                second += calls[1:]
            result.stages += [stage for stage in (first, second) if stage]
            result.stages += [w for w in levels[level] if isinstance(w, Special) and is_called(w.node)]
        result.last = [call for kernel in self.fused.last for call in self._calls(kernel)]
        result.ir = self.source.text()
        return result

    def _calls(self, work: Work) -> list[Call]:
        if isinstance(work, Kernel):
            return self._kernel(work)
        if isinstance(work, Product):
            return self._product(work)
        return self._special(work)

    def _name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    # -- loop nests --------------------------------------------------------------------------------------

    def _kernel(self, kernel: Kernel) -> list[Call]:
        nest = Nest(kernel, self.fused.stored, self.source.host)
        if not nest.chunks:
            return []
        keys = self._memory_of(kernel)
        body = self._body(nest, keys)
        name = self._name("kernel")
        b, table, begin, end = self._begin(name)
        items = [b.minimum(bound * nest.per_chunk, b.constant(nest.items, I64)) for bound in (begin, end)]
        b.call(body, VOID, *[self._pointer(b, table, key) for key in keys], *items)
        b.ret()
        return [Call(name, nest.chunks, kernel)]

    def _body(self, nest: Nest, keys: list[Any]) -> str:
        """The function with a kernel's loops, on pointers; one that does the same is used again."""
        places = {self._slot(key): place for place, key in enumerate(keys) if key != "status"}
        same = structure(nest, lambda node: places[self._slot(base(node))])
        if same in self.bodies:
            return self.bodies[same]
        scratch = Source(self.source.host)
        arguments = {f"p{place}": PTR for place in range(len(keys))}
        function = scratch.function("body", {**arguments, "first": I64, "stop": I64}, internal=True)
        *pointers, first, stop = function.arguments
        found = dict(zip(keys, pointers, strict=True))
        write(function.body, nest, self._with_twins(found), (first, stop))
        function.body.ret()
        self.bodies[same] = self._name("body")
        self.source.include(scratch, "body", self.bodies[same])
        return self.bodies[same]

    def _memory_of(self, work: Work) -> list[Any]:
        """What a kernel needs pointers to, in a fixed order, each slot once."""
        nodes = [*made_by(work), *sorted(sources(work, self.fused.stored), key=self._slot)]
        by_slot = {self._slot(node): node for node in reversed(nodes)}
        return [*dict.fromkeys(by_slot[self._slot(node)] for node in nodes), "status"]

    def _with_twins(self, found: dict[Any, Value]) -> dict[Any, Value]:
        """State is read and written through one pointer: both nodes lead to it."""
        by_slot = {self._slot(node): value for node, value in found.items() if node != "status"}
        twins = {node: by_slot[slot] for node, slot in self.plan.slot.items() if slot in by_slot}
        return {**twins, **found}

    def _slot(self, node: Node) -> int:
        return self.plan.slot[node]

    def _begin(self, name: str) -> tuple[Builder, Value, Value, Value]:
        function = self.source.function(name, _ARGUMENTS)
        table, begin, end, _ = function.arguments
        return function.body, table, begin, end

    def _pointer(self, b: Builder, table: Value, key: Any) -> Value:
        slot = self.status if key == "status" else self._slot(key)
        return b.load(table, PTR, slot)

    # -- matrix products ---------------------------------------------------------------------------------

    def _product(self, work: Product) -> list[Call]:
        shape = _Shape(work.node)
        index = own_index(shape.shapes[-1])
        reads = [r for step in work.epilogue for r in reads_of(step, index, self.fused.stored)]
        read = {base(node) for node, _ in reads}  # an operand of the product may be among them
        apart = {work.node, *(set(map(base, shape.operands)) - read)}
        keys = [key for key in self._memory_of(work) if key not in apart]
        further: dict[str, Type] = {f"p{place}": PTR for place in range(len(keys))}
        epilogue = self._epilogue(work, keys) if work.epilogue else None
        name = self._name("product")
        emitted = matmul.emit(self.kernels, shape.product, name, epilogue, further if epilogue else None)
        calls = []
        for phase in emitted.phases:
            wrapper = self._name("phase")
            b, table, begin, end = self._begin(wrapper)
            a, right = (self._pointer(b, table, base(node)) for node in shape.operands)
            c = self._pointer(b, table, work.node)
            slot = self.plan.scratch.get(work.node)
            scratch = b.load(table, PTR, slot) if slot is not None else b.load(table, PTR, self.status)
            extra = [self._pointer(b, table, key) for key in keys] if epilogue else []
            if shape.batches == 1:
                b.call(phase.symbol, VOID, a, right, c, scratch, *extra, begin, end)
                calls.append(Call(wrapper, phase.chunks, work))
            else:
                with b.loop(begin, end) as loop:
                    places = shape.batch_offsets(b, loop.index)
                    kind = shape.product.kind
                    moved = [b.offset(p, kind, o) for p, o in zip((a, right, c), places, strict=True)]
                    own = b.offset(scratch, kind, loop.index * emitted.scratch)
                    b.call(phase.symbol, VOID, *moved, own, b.constant(0, I64), b.constant(phase.chunks, I64))
                calls.append(Call(wrapper, shape.batches, work))
            b.ret()
        return calls

    def _epilogue(self, work: Product, keys: list[Any]) -> Any:
        node = work.node
        spec: Any = node.specs()
        index = own_index(spec.shape)

        def epilogue(b: Builder, sums: Value, row: Value, column: Value, mask: Value | None, *pointers: Value) -> Value:
            found = self._with_twins(dict(zip(keys, pointers, strict=True)))
            top = Scope(b, Memory(found, self.fused.stored), [row, None])
            inside = top.inside(1, column, sums.type.lanes, mask)
            inside.known[node, index] = Symbol(b, sums, spec.dtype)
            for step in work.epilogue:
                symbol = inside.body(step, index)
                inside.known[step, index] = symbol
                inside.store(step, symbol, index)
            return sums

        return epilogue

    # -- specials ----------------------------------------------------------------------------------------

    def _special(self, work: Special) -> list[Call]:
        node = work.node
        spec: Any = node.specs()
        if is_called(node) or (is_random(node) and not (self.philox and is_drawn_here(node))):
            return []
        if not size_of(spec.shape):
            return []
        name = self._name("special")
        b, table, begin, end = self._begin(name)
        if is_random(node):
            state = b.load(table, PTR, self.draws)
            write_draw(b, node, self._pointer(b, table, node), state, self.draw_number[node], [begin, end])
            chunks = draw_chunks(node)
        else:
            keys = self._memory_of(work)
            found = {key: self._pointer(b, table, key) for key in keys}
            twins = self._with_twins(found)
            for child in node.inputs:
                twins[child] = twins[base(child)]
            write_special(b, node, twins)
            chunks = 1
        b.ret()
        return [Call(name, chunks, work)]


class _Shape:
    """A matrix product as the native room describes it."""

    def __init__(self, node: Node) -> None:
        spec: Any = node.specs()
        kinds = {"float32": F32, "float64": F64}
        left, right = node.inputs
        dtypes = {child.specs().dtype.name for child in node.inputs}  # type: ignore[union-attr]
        if dtypes != {spec.dtype.name} or spec.dtype.name not in kinds:
            raise Unsupported(f"matmul of {' and '.join(sorted(dtypes))}")
        self.operands = [untransposed(left), untransposed(right)]
        a_shape, b_shape = left.specs().shape, right.specs().shape  # type: ignore[union-attr]
        flags = [isinstance(c.op, Transpose) and untransposed(c) is not c for c in (left, right)]
        self.batch: Shape = spec.shape[:-2]
        self.batches = size_of(self.batch)
        self.shapes = (a_shape, b_shape, spec.shape)
        self.product = matmul.Product(
            spec.shape[-2], spec.shape[-1], a_shape[-1], flags[0], flags[1], kinds[spec.dtype.name]
        )

    def batch_offsets(self, b: Builder, batch: Value) -> list[Value]:
        """Elements from the start of A, B and C to those of one batch."""
        totals = [b.constant(0, I64) for _ in self.shapes]
        rest = batch
        for axis in range(1, len(self.batch) + 1):
            size = self.batch[-axis]
            place = b.binary("urem", rest, size)
            rest = b.binary("udiv", rest, size)
            for k, shape in enumerate(self.shapes):
                outer = shape[:-2]
                if axis <= len(outer) and outer[-axis] != 1:
                    stride = size_of(shape[len(shape) - 2 - axis + 1 :])
                    totals[k] = totals[k] + place * stride
        return totals
