"""Code of copies into parts of a value: concatenations, and slices written into zeros.

Operands of one kind are copied by one loop, which finds each of them, and where its part begins,
among the numbers of the call::

    before                                       after

    %3 = Concatenate(axis=0) %0 %1 %2            for n < 2:  for i < 3, j < 5:
    of shapes (3, 5), (2, 5), (3, 5)                 y[begin[n] + i, j] = x[n][i, j]
                                                 for n < 1:  for i < 2, j < 5:  ...

So the code does not grow with the operands: LLVM takes a time for a block of code that grows with
the square of its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ...graph.node import Node
from ...native.values import Value
from ...native.vectors import Builder
from ...ops.slicing import Concatenate, Unslice
from ...shapes import Spec
from .access import Index, address, dense, loops_of, own_index, size_of, spec
from .memory import Memory
from .scope import Scope
from .symbols import CODE, DType, memory_type

Kind = tuple[Spec, tuple[int, ...], bool]
"""Of an operand: what it is, how many elements of the value along each axis lead from one of its
elements to the next, and whether it is added to what is there."""
Kinds = Mapping[Kind, Sequence[tuple[Node, int]]]
"""Operands by kind, each with the number of the element that its part of the value begins at."""


def copies(node: Node) -> Kinds:
    """The operands of a concatenation or an `Unslice`."""
    kinds: dict[Kind, list[tuple[Node, int]]] = {}
    strides = dense(spec(node).shape)
    for place, (child, begins, steps) in enumerate(_parts(node)):
        begin = sum([stride * first for stride, first in zip(strides, begins, strict=True)])
        added = place > 0 and isinstance(node.op, Unslice)
        kinds.setdefault((spec(child), steps, added), []).append((child, begin))
    return kinds


def _parts(node: Node) -> Iterator[tuple[Node, Sequence[int], tuple[int, ...]]]:
    """Each operand with the position that its part begins at, and the step, along each axis."""
    op, shape = node.op, spec(node).shape
    if isinstance(op, Unslice):
        for child, ranges in zip(node.inputs, op.slices, strict=True):
            yield child, [first for first, _, _ in ranges], tuple([step for *_, step in ranges])
        return
    assert isinstance(op, Concatenate)
    start, axis = 0, op.axis % len(shape)
    for child in node.inputs:
        yield child, [start if k == axis else 0 for k in range(len(shape))], (1,) * len(shape)
        start += spec(child).shape[axis]


def write_copies(
    b: Builder,
    node: Node,
    kinds: Kinds,
    memory: Memory,
    given: tuple[Callable[[Value], Value], Callable[[Value], Value]],
) -> None:
    """Append the loops over the operands.

    Args:
        b: Builder of the function.
        node: The operator.
        kinds: Its operands.
        memory: Where its value lies.
        given: Gives pointers, and the numbers of the call, by their places. There are two numbers
            for each operand: the place of its pointer, and where its part begins.
    """
    out, (shape, dtype), (pointer, number) = memory.pointer(node), spec(node), given
    if isinstance(node.op, Unslice):
        fill_zero(b, out, dtype, size_of(shape))
    first = 0
    for (_, steps, added), operands in kinds.items():
        with b.loop(first, first + len(operands)) as loop:
            source = pointer(number(loop.index * 2))
            part = b.offset(out, memory_type(dtype), number(loop.index * 2 + 1))
            _copy(b, memory, (operands[0][0], source), (node, part), steps, added)
        first += len(operands)


def _copy(
    b: Builder,
    memory: Memory,
    source: tuple[Node, Value],
    target: tuple[Node, Value],
    steps: Sequence[int],
    added: bool,
) -> None:
    """Copy a stored value into a part of another, or add it, with a step on each axis.

    Rows that stay together are copied in vectors.
    """
    (node, pointer), (whole, out) = source, target
    kind, dtype, index = spec(node).dtype, spec(whole).dtype, own_index(spec(node).shape)
    at = tuple([(loop, 0, step) for (loop, _, _), step in zip(index, steps, strict=True)])

    def element(scope: Scope) -> None:
        read = scope.elements.load(pointer, kind, *scope.element(node, index))
        symbol, place = CODE.cast(read, dtype), scope.element(whole, at)
        if added:
            symbol = scope.elements.load(out, dtype, *place) + symbol
        scope.elements.store(symbol, out, dtype, *place)

    visit(b, memory, node, whole, at, element)


def fill_zero(b: Builder, out: Value, dtype: DType, size: int) -> None:
    """Append a loop that writes zeros."""
    lanes = b.host.lanes
    zero = b.constant(0, memory_type(dtype).vector(lanes))

    def body(place: Value, mask: Value | None) -> None:
        b.store(zero, out, place, mask=mask)

    b.vector_loop(0, size, lanes, body)


def visit(
    b: Builder,
    memory: Memory,
    source: Node,
    target: Node,
    at: Index,
    element: Callable[[Scope], None],
) -> None:
    """Loops over what is read, one in another, and code for each element.

    Or for each vector along the last loop, if what is written lies along it, too.
    """
    sizes = loops_of(spec(source).shape)
    is_row = sizes and address(at, spec(target).shape, len(sizes))[1][-1] == 1
    lanes = b.host.lanes if is_row else 0

    def inside(scope: Scope, depth: int) -> None:
        if depth == len(sizes):
            element(scope)
            return
        width = lanes if depth == len(sizes) - 1 else 0

        def turn(counter: Value, mask: Value | None) -> None:
            inside(scope.inside(depth, counter, width, mask), depth + 1)

        b.vector_loop(0, sizes[depth], width or 1, turn)

    inside(Scope(b, memory, [None] * len(sizes)), 0)
