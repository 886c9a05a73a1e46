"""Code of the operators that are no loop nest over an expression.

Draws from Philox, which are shared out in chunks of blocks of four numbers; and scatters, which add
one slice after the other so that sums are always the same. `copies.py` has copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...graph.node import Node
from ...graph.op import Op
from ...native.values import F32, I8, I32, I64, Value
from ...native.vectors import Builder
from ...ops.indexing import ScatterAdd
from ...ops.random import Bernoulli, Uniform
from ...philox import KEY_STEPS, MULTIPLIERS, ROUNDS
from .access import FIXED, dense, own_index, size_of, spec
from .copies import fill_zero, visit
from .expression import UnsupportedError
from .memory import Memory
from .scope import Scope
from .symbols import BOOL, FLOAT32, Symbol

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


# -- scatters --------------------------------------------------------------------------------------


def write_scatter(b: Builder, node: Node, memory: Memory) -> None:
    """Append a scatter-add: slices are added one after the other, rows in vectors.

    The order, and so the sums, are always the same.

    Args:
        b: Builder of the function.
        node: The operator.
        memory: Where values lie.
    """
    op, (values, places), (shape, dtype) = node.op, node.inputs, spec(node)
    assert isinstance(op, ScatterAdd)
    if dtype.kind != "f":
        raise UnsupportedError("scatter_add of integers")
    index, end = own_index(spec(values).shape), op.axis + len(spec(places).shape)
    at = (*index[: op.axis], FIXED, *index[end:])
    out = memory.pointer(node)
    fill_zero(b, out, dtype, size_of(shape))

    def element(scope: Scope) -> None:
        where = scope.load(places, index[op.axis : end])
        along = scope.checked(where, shape[op.axis], negative=True) * dense(shape)[op.axis]
        first, stride = scope.element(node, at)
        old = scope.elements.load(out, dtype, along + first, stride)
        new = old + scope.load(values, index)
        scope.elements.store(new, out, dtype, along + first, stride)

    visit(b, memory, values, node, at, element)
