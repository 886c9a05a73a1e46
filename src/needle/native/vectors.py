"""A small builder of LLVM IR text: typed values, loops, loads and stores over explicit vectors.

A `Source` collects functions; a `Function` has arguments and a body; the body is a `Builder`, whose
methods append one instruction each and return its `Value`. Python numbers stand for constants of
the other operand's type. A scalar is made a vector by `splat`, never silently.

>>> from needle.native import llvm
>>> source = Source(llvm.host(lanes=8))
>>> f = source.function("double", {"x": PTR, "n": I64})
>>> b, (x, n) = f.body, f.arguments
>>> def body(i, mask):
...     v = b.load(x, F32.vector(8), i, mask=mask)
...     b.store(v + v, x, i, mask=mask)
>>> _ = b.vector_loop(0, n, 8, body)
>>> b.ret()
>>> print(source.text().count("fadd <8 x float>"))
2
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from .llvm import Host
from .memory import MemoryInstructions
from .values import F32, F64, I1, I8, I32, I64, PTR, VOID, Number, Operand, Type, Value

__all__ = [
    "F32", "F64", "I1", "I8", "I32", "I64", "PTR", "VOID", "Builder", "Function", "Loop", "Number",
    "Operand", "Source", "Type", "Value",
]  # fmt: skip

# LLVM's loop strength reduction looks for better addresses of all the loads and stores of a loop
# together. For more than these it takes a third of the time to compile and finds nothing faster, so
# they are counted by an index that comes out of an empty piece of assembler, which it leaves alone.
MOST_ADDRESSES = 8

Results = Sequence[Value] | None  # of a piece of code that may have none


class Source:
    """One module of IR text: functions, constants, and the declarations they need."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._functions: list[Function] = []
        self._globals: dict[str, None] = {}  # an ordered set: each line once
        self._shared: set[str] = set()  # names of functions

    def function(
        self,
        name: str,
        arguments: dict[str, Type],
        result: Type = VOID,
        *,
        internal: bool = False,
    ) -> Function:
        """Begin a function; an `internal` one is called in this module only."""
        body, linkage = Builder(self), "internal " if internal else ""
        listed = ", ".join(f"{kind} %{name}" for name, kind in arguments.items())
        head = f"define {linkage}{result} @{name}({listed}) nounwind {{\nentry:"
        values = [Value(body, f"%{name}", kind) for name, kind in arguments.items()]
        function = Function(body, values, head)
        self._functions.append(function)
        return function

    def shared(
        self,
        name: str,
        arguments: dict[str, Type],
        write: Callable[[Builder, list[Value]], Value | None],
        result: Type = VOID,
    ) -> str:
        """The name of a function that others call; `write` fills it where it is not there yet.

        What `write(builder, arguments)` gives is what the function returns.
        """
        if name not in self._shared:
            self._shared.add(name)
            function = self.function(name, arguments, result, internal=True)
            function.body.ret(write(function.body, function.arguments))
        return name

    def add(self, line: str) -> None:
        """Add top-level text (a global, a declaration, a function in IR) unless it is there."""
        self._globals[line] = None

    def text(self) -> str:
        """The module as IR text."""
        return "\n".join([*self._globals, *(f.text() for f in self._functions)]) + "\n"


@dataclass(frozen=True)
class Function:
    """A function: `arguments` are values, `body` is the builder that fills it."""

    body: Builder
    arguments: list[Value]
    head: str

    def text(self) -> str:
        """The function as IR text."""
        return "\n".join([self.head, *self.body.lines, "}"])


@dataclass
class Loop:
    """A counted loop while it is written: `index`, and `values` carried from turn to turn.

    Inside, `update(...)` gives the values of the next turn; afterwards `values` are the results.
    """

    index: Value
    values: tuple[Value, ...]
    next: tuple[Value, ...]

    def update(self, *values: Value) -> None:
        """Set what `values` will be in the next turn."""
        self.next = values


class Builder(MemoryInstructions):
    """Appends code to one function: instructions, branches and loops."""

    def ret(self, x: Value | None = None) -> None:
        """Return from the function."""
        self.lines.append(f"  ret {x!r}" if x else "  ret void")

    def label(self, hint: str) -> str:
        """A new name for a block."""
        self._count += 1
        return f"{hint}.{self._count}"

    def begin(self, block: str) -> None:
        """Continue in a new block, to which other blocks jump."""
        self.lines.append(f"{block}:")
        self._block = block

    def jump(self, block: str) -> None:
        """Go to a block."""
        self.lines.append(f"  br label %{block}")

    def phi(self, x: Value, block: str, y: Value, other: str) -> Value:
        """Give x when coming from `block`, y when coming from the other one."""
        return self.emit(x.type, f"phi {x.type} [ {x.text}, %{block} ], [ {y.text}, %{other} ]")

    def either(
        self,
        condition: Value,
        then: Callable[[], Results],
        otherwise: Callable[[], Results],
        *,
        unlikely: bool = False,
    ) -> tuple[Value, ...]:
        """Run `then` or `otherwise` (Python functions that append code); the results of that one.

        With `unlikely`, the code of `then` is laid out away from the straight path.
        """
        yes, no, end = self.label("then"), self.label("else"), self.label("end")
        weights = ', !prof !{!"branch_weights", i32 1, i32 4000}' if unlikely else ""
        self.lines.append(f"  br {condition!r}, label %{yes}, label %{no}{weights}")
        self.begin(yes)
        first = then() or ()
        yes_end = self._block
        self.jump(end)
        self.begin(no)
        second = otherwise() or ()
        no_end = self._block
        self.jump(end)
        self.begin(end)
        return tuple(self.phi(x, yes_end, y, no_end) for x, y in zip(first, second, strict=True))

    def when(self, condition: Value, then: Callable[[], object], *, unlikely: bool = False) -> None:
        """Run `then` only where the condition holds; it has no results."""

        def run() -> None:
            then()

        self.either(condition, run, lambda: None, unlikely=unlikely)

    @contextmanager
    def loop(
        self, start: Operand, stop: Operand, step: Operand = 1, carry: Sequence[Operand] = ()
    ) -> Generator[Loop]:
        """Count an i64 from start to stop (exclusive); `carry` are the values before turn one.

        >>> # with b.loop(0, n, carry=[0]) as loop: loop.update(loop.values[0] + ...)
        """
        head, body, end = self.label("loop"), self.label("body"), self.label("end")
        (index, *values), next_turn = self._begin_turns(head, [self.coerce(start, I64), *carry])
        place = len(self.lines)
        more = index < stop
        self.lines.append(f"  br {more!r}, label %{body}, label %{end}")
        self.begin(body)
        loop = Loop(index, tuple(values), tuple(values))
        yield loop
        following, counted = index + step, index
        if sum(" getelementptr " in line for line in self.lines[place:]) > MOST_ADDRESSES:
            counted = Value(self, f"{index.text}.count", I64)
            self.lines.insert(place, f'  {index.text} = call i64 asm "", "=r,0"({counted!r})')
        next_turn([counted, *values], [following, *loop.next])
        self.jump(head)
        self.begin(end)

    def repeat(
        self, body: Callable[..., tuple[Value, *tuple[Value, ...]]], carry: Sequence[Operand] = ()
    ) -> tuple[Value, ...]:
        """Run `body(*values)`, which returns whether to go on, and the next values; last values."""
        turn, end = self.label("turn"), self.label("end")
        values, next_turn = self._begin_turns(turn, carry)
        again, *following = body(*values)
        next_turn(values, following)
        self.lines.append(f"  br {again!r}, label %{turn}, label %{end}")
        self.begin(end)
        return tuple(following)

    def _begin_turns(
        self, block: str, carry: Sequence[Operand]
    ) -> tuple[list[Value], Callable[[Sequence[Value], Sequence[Value]], None]]:
        """Begin a block that another one will jump back to, with registers that change.

        The first time they are `carry`. What they are when the current block jumps back, the
        function says that is returned: their phis, at the head of the block, need to know.
        """
        first, before = [self.value(x) for x in carry], self._block
        self.jump(block)
        self.begin(block)
        place = len(self.lines)
        self._count += len(first)
        values = [Value(self, f"%.{self._count - i}", x.type) for i, x in enumerate(first)]

        def next_turn(registers: Sequence[Value], following: Sequence[Value]) -> None:
            self.lines[place:place] = [
                f"  {v.text} = phi {v.type} [ {a.text}, %{before} ], [ {z.text}, %{self._block} ]"
                for v, a, z in zip(registers, first, following, strict=True)
            ]

        return values, next_turn

    def vector_loop(
        self,
        start: Value | int,
        stop: Value | int,
        lanes: int,
        body: Callable[..., Results],
        carry: Sequence[Value] = (),
        unroll: int = 1,
    ) -> tuple[Value, ...]:
        """Run `body(index, mask, *carry)` over start...stop in vectors of `lanes`; last results.

        Whole vectors have mask None; a ragged end is one more run under a mask of the lanes that
        are there, if there are several. With `unroll`, that many bodies a turn, the carried values
        passing through: a reduction over several accumulators returns them rotated, so that its
        sums are independent.
        Where both bounds are known, loops and masks that are not needed are left out.
        """
        known = isinstance(start, int) and isinstance(stop, int)
        if not known:
            start, stop = self.coerce(start, I64), self.coerce(stop, I64)
        values, begin = tuple(carry), start
        for width in [lanes * unroll, lanes] if unroll > 1 else [lanes]:
            end = stop - ((stop - begin) & (width - 1)) if width > 1 else stop
            if not known or end != begin:
                values = self._turns(begin, end, width, lanes, body, values)
            begin = end
        if lanes == 1:
            return values
        rest = stop - begin

        def ragged() -> Results:
            if isinstance(rest, int):
                bits = ", ".join(f"i1 {int(lane < rest)}" for lane in range(lanes))
                mask = Value(self, f"<{bits}>", I1.vector(lanes))
            else:
                mask = self.first_lanes(rest, lanes)
            return body(self.coerce(begin, I64), mask, *values)

        if isinstance(rest, int):
            return tuple(ragged() or ()) if rest else values
        return self.either(rest > 0, ragged, lambda: values)

    def _turns(
        self,
        begin: Operand,
        end: Operand,
        width: int,
        lanes: int,
        body: Callable[..., Results],
        carry: tuple[Value, ...],
    ) -> tuple[Value, ...]:
        """Whole vectors from begin to end, `width // lanes` bodies a turn."""
        with self.loop(begin, end, width, carry) as loop:
            values: Sequence[Value] = loop.values
            for part in range(0, width, lanes):
                values = body(loop.index + part if part else loop.index, None, *values) or ()
            loop.update(*values)
        return loop.values
