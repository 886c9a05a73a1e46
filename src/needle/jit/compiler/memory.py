"""Where the code of a kernel finds stored values, and how it reads and writes their elements.

Code is given pointers to what it needs, each once and in a fixed order, so that work on other
memory can share it. For b[i] = a[i] * x[i]::

    the plan's table of pointers    pointers of the kernel

    slots  x 0, a 1, b 2            place 0: slot 2 (b), place 1: slot 0 (x), place 2: slot 1 (a)

A register is a number, or a vector of elements that may lie any distance apart::

    elements apart     code that reads those of 8 lanes

    0                  a load of one number, which stands for all lanes
    1                  a load of 8
    -1                 a load of 8, turned round
    2                  two loads of 8, and every second lane of both
    any other          a gather
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...graph.node import Node
from ...native.values import I64, Value
from ...native.vectors import Builder
from .access import address, spec
from .expression import Read, Stored, base
from .symbols import BOOL, DType, Symbol, memory_type


class Pointers:
    """The memory that some code is given pointers to, each slot once, in a fixed order.

    To a value that is only read, a pointer leads from the first element that is read on: so code
    that reads other slices of a value is shared.

    Args:
        slots: The place of each value in the plan's table of pointers.
        status: That of the word which code sets where an index is out of range.
        made: Values that the code stores.
        reads: What it reads, with the indices of the reads; () for all of a value.
        loops: How many loops the indices follow.

    Attributes:
        words: For each pointer its slot, and the bytes from the beginning of the value there to
            where it leads. The last one is that of the status word.
    """

    def __init__(
        self,
        slots: Mapping[Any, int],
        status: int,
        made: Iterable[Node],
        reads: Iterable[Read],
        loops: int,
    ) -> None:
        self._slots = slots
        self._starts: dict[Node, int] = {}
        written = dict.fromkeys([slots[node] for node in made])
        moves: dict[int, int] = {}
        for node, at in reads:
            source, (shape, dtype) = base(node), spec(node)
            first = 0 if slots[source] in written else address(at, shape, loops)[0]
            first = self._starts[source] = min(first, self._starts.get(source, first))
            moves[slots[source]] = first * dtype.itemsize
        given = [*dict.fromkeys([*written, *sorted(moves)]), status]
        self.words = [(slot, moves.get(slot, 0)) for slot in given]
        self._places = {slot: place for place, slot in enumerate(given)}

    def place(self, node: Node) -> int | None:
        """The number of the pointer to a value, None if there is none."""
        return self._places.get(self._slots.get(base(node), -1))

    def start(self, node: Node) -> int:
        """Number of the element that the pointer to a value leads to."""
        return self._starts.get(base(node), 0)


@dataclass(frozen=True)
class Memory:
    """Where the stored values of some code lie.

    Attributes:
        given: The memory that the code has pointers to.
        pointers: The pointers.
        stored: The nodes that are in memory.
    """

    given: Pointers
    pointers: Sequence[Value]
    stored: Stored

    def has(self, node: Node) -> bool:
        """Whether the code has a pointer to a value."""
        return self.given.place(node) is not None

    def pointer(self, node: Node) -> Value:
        """Where a stored value lies, from the element `given.start(node)` on."""
        place = self.given.place(node)
        assert place is not None
        return self.pointers[place]

    @property
    def status(self) -> Value:
        """Where the word lies that is set where an index is out of range."""
        return self.pointers[-1]


@dataclass(frozen=True)
class Elements:
    """Reads and writes elements where code is.

    Attributes:
        b: Where code is appended.
        lanes: Lanes of a vector, 0 for numbers.
        mask: The lanes that are there, None for all.
    """

    b: Builder
    lanes: int
    mask: Value | None

    def load(self, pointer: Value, dtype: DType, index: Value | int, stride: int) -> Symbol:
        """The element of a number; in vectors also those that follow, so far apart."""
        if self.lanes and stride == -1:
            return self._reversed(pointer, dtype, index)
        if self.lanes and stride == 2 and self.mask is None:
            return self._every_second(pointer, dtype, index)
        if self.lanes and stride not in (0, 1):
            return self.gather(pointer, dtype, self.spread(index, stride))
        lanes, mask = (self.lanes, self.mask) if stride else (0, None)
        value = self.b.load(pointer, memory_type(dtype).vector(lanes), index, mask=mask)
        return self._symbol(value, dtype)

    def _reversed(self, pointer: Value, dtype: DType, index: Value | int) -> Symbol:
        """The element of a number, and those before it: a vector that is turned round."""
        b, lanes = self.b, self.lanes
        around = range(lanes - 1, -1, -1)
        mask = None if self.mask is None else b.shuffle(self.mask, None, around)
        value = b.load(pointer, memory_type(dtype).vector(lanes), index + (1 - lanes), mask=mask)
        return self._symbol(b.shuffle(value, None, around), dtype)

    def _every_second(self, pointer: Value, dtype: DType, index: Value | int) -> Symbol:
        """The element of a number, and every second one after it, from two whole vectors.

        The other one begins where the first ends, so that it ends with the last element needed.
        """
        b, lanes, kind = self.b, self.lanes, memory_type(dtype).vector(self.lanes)
        first, other = (b.load(pointer, kind, index + ahead) for ahead in (0, lanes - 1))
        picked = [*range(0, lanes, 2), *range(lanes + 1, 2 * lanes, 2)]
        return self._symbol(b.shuffle(first, other, picked), dtype)

    def gather(self, pointer: Value, dtype: DType, places: Value) -> Symbol:
        """The elements of a vector of numbers."""
        kind = memory_type(dtype).vector(self.lanes)
        return self._symbol(self.b.gather(pointer, kind, places, self.mask), dtype)

    def store(
        self, symbol: Symbol, pointer: Value, dtype: DType, index: Value | int, stride: int
    ) -> None:
        """Write the element of a number, and in vectors those that follow."""
        b, value = self.b, symbol.to(dtype)
        if dtype.kind != "f":
            value = b.cast(value, memory_type(dtype))
        if not (self.lanes and stride):  # what was read for vectors holds one number in all lanes
            value = b.extract(value, 0) if value.type.lanes else value
            b.store(value, pointer, index)
            return
        value = value if value.type.lanes else b.splat(value, self.lanes)
        if stride == 1:
            b.store(value, pointer, index, mask=self.mask)
        else:
            b.scatter(value, pointer, self.spread(index, stride), self.mask)

    def spread(self, index: Value | int, stride: int) -> Value:
        """The number of an element, and of those that follow, as a vector."""
        lanes = self.b.iota(self.lanes, I64) * stride
        first = index if isinstance(index, Value) else self.b.constant(index, I64)
        return self.b.splat(first, self.lanes) + lanes

    def _symbol(self, value: Value, dtype: DType) -> Symbol:
        """What was read as it is held in registers."""
        if dtype == BOOL:
            value = self.b.compare("!=", value, 0)
        elif dtype.kind in "iu":
            value = self.b.cast(value, I64, unsigned=dtype.kind == "u")
        return Symbol(self.b, value, dtype)
