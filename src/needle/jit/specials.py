"""Code of the operators that are no loop nest over an expression.

Draws from Philox, which are shared out in chunks of blocks of four numbers; scatters, which add one
slice after the other so that sums are always the same; and copies into parts of a value::

    before                                    after

    %2 = Concatenate(axis=0) %0 %1            for i < 3, j < 5:  y[i, j] = x0[i, j]
                                              for i < 2, j < 5:  y[3 + i, j] = x1[i, j]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from ..graph.node import Node
from ..graph.op import Op
from ..native.values import F32, I8, I32, I64, Value
from ..native.vectors import Builder
from ..ops.indexing import ScatterAdd
from ..ops.random import Bernoulli, Uniform
from ..ops.slicing import Concatenate, Unslice
from ..philox import KEY_STEPS, MULTIPLIERS, ROUNDS
from .access import FIXED, Index, address, dense, loops_of, own_index, size_of, spec
from .expression import UnsupportedError
from .memory import Memory
from .scope import Scope
from .symbols import BOOL, CODE, FLOAT32, DType, Symbol, memory_type

BLOCKS_PER_CHUNK = 1024
"""Blocks of Philox (four numbers each) that one chunk draws."""


def is_drawn_here(node: Node) -> bool:
    """Whether a draw from Philox has native code; Python draws others before the program runs."""
    return isinstance(node.op, Bernoulli | Uniform) and spec(node).dtype in (FLOAT32, BOOL)


def draw_chunks(size: int) -> int:
    """Chunks of a draw of so many numbers; they are even ones."""
    return -(-size // (4 * BLOCKS_PER_CHUNK))


def write_draw(
    b: Builder, op: Op, size: int, out: Value, state: Value, draw: Value, bounds: Sequence[Value]
) -> None:
    """Append a draw of uniforms or Bernoulli numbers, laid out as `needle.philox` says.

    Args:
        b: Builder of the function.
        op: The draw.
        size: How many numbers.
        out: Where they go.
        state: Words of the seed, low and high, and the number of the program's first draw.
        draw: How many draws of the program come before.
        bounds: First chunk and end.
    """
    lanes, blocks, chunks = b.host.lanes, -(-size // 4), draw_chunks(size)
    vectors = -(-blocks // lanes)
    begin, end = (b.binary("udiv", bound * vectors, chunks) * lanes for bound in bounds)
    end = b.minimum(end, b.constant(blocks, I64))
    keys = _round_keys(b, [b.load(state, I64, place) for place in (0, 1)], lanes)
    number = b.load(state, I64, 2) + draw

    def body(block: Value, mask: Value | None) -> None:
        words = _philox(b, block, keys, number, lanes)
        for part, word in enumerate(_interleaved(b, words)):
            first, there = block * 4 + part * lanes, None
            if mask is not None or size % 4:
                left = b.cast(b.constant(size, I64) - first, I32)
                there = b.compare(">", b.splat(left, lanes), b.iota(lanes))
            _store_drawn(b, op, word, out, first, there)

    b.vector_loop(begin, end, lanes, body)


def _round_keys(b: Builder, key: list[Value], lanes: int) -> list[list[Value]]:
    """Both words of the key of each round, in all lanes."""
    keys: list[list[Value]] = []
    for _ in range(ROUNDS):
        keys.append([b.splat(word, lanes) for word in key])
        key = [word + step for word, step in zip(key, KEY_STEPS, strict=True)]
    return keys


def _philox(
    b: Builder, block: Value, keys: list[list[Value]], number: Value, lanes: int
) -> list[Value]:
    """Ten rounds of Philox4x32 (Salmon et al. 2011, section 3) on the blocks of the lanes.

    Words of 32 bits are the lower halves of lanes of 64, where their products fit. What is in the
    upper halves does not matter: the processor's multiplication leaves them out, as the end does.
    """
    low, high = b.splat(number, lanes), b.splat(b.binary("lshr", number, 32), lanes)
    places = b.splat(block, lanes) + b.iota(lanes, I64)
    x = [places, b.binary("lshr", places, 32), low, high]
    for k0, k1 in keys:
        factors = zip((x[0], x[2]), MULTIPLIERS, strict=True)
        p, q = (b.binary("and", word, 0xFFFFFFFF) * factor for word, factor in factors)
        x = [b.binary("lshr", q, 32) ^ x[1] ^ k0, q, b.binary("lshr", p, 32) ^ x[3] ^ k1, p]
    return [b.cast(word, I32) for word in x]


def _interleaved(b: Builder, words: list[Value]) -> list[Value]:
    """Vectors w[word][block] as vectors in the order of blocks, each with its words 0 ... 3."""
    lanes = words[0].type.lanes
    pairs = [b.shuffle(words[j], words[j + 1], range(2 * lanes)) for j in (0, 2)]
    order = [place // 4 + lanes * (place % 4) for place in range(4 * lanes)]
    parts = [order[start : start + lanes] for start in range(0, 4 * lanes, lanes)]
    return [b.shuffle(pairs[0], pairs[1], part) for part in parts]


def _store_drawn(
    b: Builder, op: Op, word: Value, out: Value, first: Value, there: Value | None
) -> None:
    """Turn words into numbers (the upper 24 bits are a float32 in [0, 1)) and store them."""
    bits = b.binary("lshr", word, 8)
    if isinstance(op, Bernoulli):
        kept = b.compare("<=", bits, math.floor(float(np.float32(op.p)) * 2.0**24))
        b.store(b.cast(kept, F32 if op.dtype == FLOAT32 else I8), out, first, mask=there)
        return
    assert isinstance(op, Uniform)
    uniform = b.cast(bits, F32) * 2.0**-24
    symbol = Symbol(b, uniform, FLOAT32) * (op.high - op.low) + op.low
    b.store(symbol.value, out, first, mask=there)


# -- copies ----------------------------------------------------------------------------------------


def special_key(node: Node) -> tuple[Hashable, list[int]]:
    """What the code of an operator follows from beside shapes, and the numbers that it is given.

    Copies into slices of zeros share their code wherever the slices begin.
    """
    op = node.op
    if not isinstance(op, Unslice):
        return id(node) if op is None or op.key is None else op.key, []
    strides = dense(spec(node).shape)
    begins = [
        sum([s * first for s, (first, _, _) in zip(strides, ranges, strict=True)])
        for ranges in op.slices
    ]
    return (Unslice, *[step for ranges in op.slices for _, _, step in ranges]), begins


def write_special(b: Builder, node: Node, memory: Memory, number: Callable[[int], Value]) -> None:
    """Append a scatter-add, a concatenation, or copies into slices of zeros.

    Args:
        b: Builder of the function.
        node: The operator.
        memory: Where values lie.
        number: Gives the numbers of `special_key`.
    """
    op = node.op
    shape, dtype = spec(node)
    if isinstance(op, Concatenate):
        start, axis = 0, op.axis % len(shape)
        for child in node.inputs:
            begin = b.constant(start * dense(shape)[axis], I64)
            _copy(b, memory, child, node, begin, [1] * len(shape))
            start += spec(child).shape[axis]
        return
    _fill_zero(b, memory.pointer(node), dtype, size_of(shape))
    if isinstance(op, Unslice):
        for place, (child, ranges) in enumerate(zip(node.inputs, op.slices, strict=True)):
            steps = [step for _, _, step in ranges]
            _copy(b, memory, child, node, number(place), steps, add=place > 0)
        return
    assert isinstance(op, ScatterAdd)
    _scatter(b, memory, node, op)


def _fill_zero(b: Builder, out: Value, dtype: DType, size: int) -> None:
    lanes = b.host.lanes
    zero = b.constant(0, memory_type(dtype).vector(lanes))

    def body(place: Value, mask: Value | None) -> None:
        b.store(zero, out, place, mask=mask)

    b.vector_loop(0, size, lanes, body)


def _copy(
    b: Builder,
    memory: Memory,
    source: Node,
    target: Node,
    begin: Value,
    steps: Sequence[int],
    *,
    add: bool = False,
) -> None:
    """Copy a stored value into another, or add it, from an element on, with a step on each axis.

    Rows that stay together are copied in vectors.
    """
    dtype, index = spec(target).dtype, own_index(spec(source).shape)
    at = tuple([(loop, 0, step) for (loop, _, _), step in zip(index, steps, strict=True)])
    out = b.offset(memory.pointer(target), memory_type(dtype), begin)

    def element(scope: Scope) -> None:
        symbol = CODE.cast(scope.load(source, index), dtype)
        place = scope.element(target, at)
        if add:
            symbol = scope.elements.load(out, dtype, *place) + symbol
        scope.elements.store(symbol, out, dtype, *place)

    _visit(b, memory, source, target, at, element)


def _scatter(b: Builder, memory: Memory, node: Node, op: ScatterAdd) -> None:
    """Add slices one after the other: the order, and so the sums, are always the same.

    Rows are added in vectors.
    """
    values, places = node.inputs
    shape, dtype = spec(node)
    if dtype.kind != "f":
        raise UnsupportedError("scatter_add of integers")
    index, end = own_index(spec(values).shape), op.axis + len(spec(places).shape)
    at = (*index[: op.axis], FIXED, *index[end:])
    out = memory.pointer(node)

    def element(scope: Scope) -> None:
        where = scope.load(places, index[op.axis : end])
        along = scope.checked(where, shape[op.axis], negative=True) * dense(shape)[op.axis]
        first, stride = scope.element(node, at)
        old = scope.elements.load(out, dtype, along + first, stride)
        new = old + scope.load(values, index)
        scope.elements.store(new, out, dtype, along + first, stride)

    _visit(b, memory, values, node, at, element)


def _visit(
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
