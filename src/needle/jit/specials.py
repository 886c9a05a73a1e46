"""Code of the operators that are no loop nest over an expression: draws, scatters, copies into parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph.node import Node
from ..native.values import F32, I8, I32, I64, Type, Value
from ..native.vectors import Builder
from ..ops.indexing import ScatterAdd
from ..ops.movement import Concatenate, Unslice
from ..ops.random import Bernoulli, Uniform
from ..random import KEY_STEPS, MULTIPLIERS, ROUNDS
from ..shapes import Shape
from .access import dense, own_index, size_of
from .fuse import Unsupported
from .scope import Memory, Scope
from .symbols import CODE, FLOAT32, Symbol, memory_type

BLOCKS_PER_CHUNK = 1024
"""Blocks of Philox (four numbers each) that one chunk draws."""


def is_drawn_here(node: Node) -> bool:
    """Whether a draw from Philox has native code; others are drawn by Python before the program runs."""
    spec: Any = node.specs()
    return isinstance(node.op, Bernoulli | Uniform) and spec.dtype.name in ("float32", "bool")


def draw_chunks(node: Node) -> int:
    """Chunks of a draw."""
    spec: Any = node.specs()
    return -(-size_of(spec.shape) // (4 * BLOCKS_PER_CHUNK))


def write_draw(b: Builder, node: Node, out: Value, state: Value, draw: int, bounds: list[Value]) -> None:
    """Draw chunks begin ... end - 1 of uniforms or Bernoulli numbers, laid out as `needle.random` says.

    Args:
        b: Builder of the function.
        node: The draw.
        out: Where the numbers go.
        state: Four i64: the low and high word of the seed, and the number of the first draw as two words.
        draw: How many draws of the program come before.
        bounds: Begin and end.
    """
    spec: Any = node.specs()
    size = size_of(spec.shape)
    lanes = b.host.lanes
    begin, end = (bound * BLOCKS_PER_CHUNK for bound in bounds)
    end = b.minimum(end, b.constant(-(-size // 4), I64))
    key = [b.load(state, I64, place) for place in (0, 1)]
    number = b.load(state, I64, 2) + draw

    def body(block: Value, mask: Value | None) -> tuple[()]:
        words = _philox(b, block, key, number, lanes)
        for part, word in enumerate(_interleaved(b, words)):
            first = block * 4 + part * lanes
            left = b.cast(b.constant(size, I64) - first, I32)
            there = b.compare(">", b.splat(left, lanes), b.iota(lanes))
            _store_drawn(b, node, word, out, first, there)
        return ()

    b.vector_loop(begin, end, lanes, body)


def _philox(b: Builder, block: Value, key: list[Value], number: Value, lanes: int) -> list[Value]:
    """Ten rounds of Philox4x32 (Salmon et al. 2011, section 3) on the blocks of the lanes, in 64-bit registers."""
    mask = 0xFFFFFFFF
    places = b.splat(block, lanes) + b.iota(lanes, I64)
    low = b.splat(b.binary("and", number, mask), lanes)
    high = b.splat(b.binary("lshr", number, 32), lanes)
    x = [b.binary("and", places, mask), b.binary("lshr", places, 32), low, high]
    keys = list(key)
    for _ in range(ROUNDS):
        p, q = x[0] * MULTIPLIERS[0], x[2] * MULTIPLIERS[1]
        k0, k1 = (b.splat(k, lanes) for k in keys)
        x = [
            b.binary("lshr", q, 32) ^ x[1] ^ k0,
            b.binary("and", q, mask),
            b.binary("lshr", p, 32) ^ x[3] ^ k1,
            b.binary("and", p, mask),
        ]
        keys = [b.binary("and", k + step, mask) for k, step in zip(keys, KEY_STEPS, strict=True)]
    return [b.cast(word, I32) for word in x]


def _interleaved(b: Builder, words: list[Value]) -> list[Value]:
    """Four vectors w[j][block] as four vectors in the order block 0 words 0-3, block 1 words 0-3, …"""
    lanes = words[0].type.lanes
    pairs = [b.shuffle(words[j], words[j + 1], range(2 * lanes)) for j in (0, 2)]
    parts = []
    for part in range(4):
        order = []
        for place in range(part * lanes, (part + 1) * lanes):
            block, word = divmod(place, 4)
            order.append(block + lanes * word if word < 2 else 2 * lanes + block + lanes * (word - 2))
        parts.append(b.shuffle(pairs[0], pairs[1], order))
    return parts


def _store_drawn(b: Builder, node: Node, word: Value, out: Value, first: Value, there: Value) -> None:
    op: Any = node.op
    uniform = b.cast(b.binary("lshr", word, 8), F32) * 2.0**-24
    if isinstance(op, Bernoulli):
        kept = b.compare("<=", uniform, float(np.float32(op.p)))
        if op.dtype == FLOAT32:
            b.store(b.cast(kept, F32), out, first, mask=there)
        else:
            b.store(b.cast(kept, I8), out, first, mask=there)
        return
    symbol = Symbol(b, uniform, FLOAT32) * (op.high - op.low) + op.low
    b.store(symbol.value, out, first, mask=there)


# -- copies ----------------------------------------------------------------------------------------------


def write_special(b: Builder, node: Node, pointers: dict[Any, Value]) -> None:
    """Scatter-add, concatenation, or writing into a slice of zeros."""
    op: Any = node.op
    spec: Any = node.specs()
    out = pointers[node]
    kind = memory_type(spec.dtype)
    if isinstance(op, Concatenate):
        start = 0
        axis = op.axis % len(spec.shape)
        for child in node.inputs:
            shape = child.specs().shape  # type: ignore[union-attr]
            offset = start * dense(spec.shape)[axis]
            _copy(b, child, out, offset, dense(spec.shape), pointers, spec.dtype)
            start += shape[axis]
        return
    _fill_zero(b, out, kind, size_of(spec.shape))
    if isinstance(op, Unslice):
        strides = [s * step for s, (_, _, step) in zip(dense(spec.shape), op.ranges, strict=True)]
        offset = sum(s * first for s, (first, _, _) in zip(dense(spec.shape), op.ranges, strict=True))
        _copy(b, node.inputs[0], out, offset, tuple(strides), pointers, spec.dtype)
        return
    assert isinstance(op, ScatterAdd)
    _scatter(b, node, pointers)


def _fill_zero(b: Builder, out: Value, kind: Type, size: int) -> None:
    lanes = b.host.lanes

    def body(place: Value, mask: Value | None) -> tuple[()]:
        b.store(b.constant(0, kind.vector(lanes)), out, place, mask=mask)
        return ()

    b.vector_loop(0, size, lanes, body)


def _copy(
    b: Builder, source: Node, out: Value, offset: int, strides: Shape, pointers: dict[Any, Value], dtype: Any
) -> None:
    """Copy a stored value to strided places."""
    spec: Any = source.specs()
    index = own_index(spec.shape)

    def element(scope: Scope) -> None:
        symbol = CODE.cast(scope.load(source, index), dtype)
        loops = iter(scope.loops)
        place: Any = offset
        for size, stride in zip(spec.shape, strides, strict=True):
            if size != 1:
                counter: Any = next(loops)
                place = counter * stride + place
        value = symbol.value if dtype.kind == "f" else b.cast(symbol.value, memory_type(dtype))
        b.store(value, out, place)

    _nest(b, [n for n in spec.shape if n != 1], Memory(pointers, set(pointers)), element)


def _nest(b: Builder, sizes: list[int], memory: Memory, element: Callable[[Scope], None]) -> None:
    def inside(scope: Scope, depth: int) -> None:
        if depth == len(sizes):
            element(scope)
            return
        with b.loop(0, sizes[depth]) as loop:
            inside(scope.inside(depth, loop.index), depth + 1)

    inside(Scope(b, memory, [None] * len(sizes)), 0)


def _scatter(b: Builder, node: Node, pointers: dict[Any, Value]) -> None:
    """Add slices one after the other: the order, and so the sums, are always the same."""
    values, places = node.inputs
    op: Any = node.op
    spec: Any = node.specs()
    values_spec: Any = values.specs()
    places_spec: Any = places.specs()
    if spec.dtype.kind != "f":
        raise Unsupported("scatter_add of integers")
    index = own_index(values_spec.shape)
    ndim = len(places_spec.shape)
    kind = memory_type(spec.dtype)

    def element(scope: Scope) -> None:
        at = index[op.axis : op.axis + ndim]
        place = scope.checked(scope.load(places, at), spec.shape[op.axis], negative=True)
        target: Any = place * dense(spec.shape)[op.axis]
        rest = [*index[: op.axis], *index[op.axis + ndim :]]
        axes = [k for k in range(len(spec.shape)) if k != op.axis]
        for entry, axis in zip(rest, axes, strict=True):
            if entry[0] is not None:
                target = scope.loops[entry[0]] * dense(spec.shape)[axis] + target  # type: ignore[operator]
        value = scope.load(values, index).to(spec.dtype)
        b.store(b.load(pointers[node], kind, target) + value, pointers[node], target)

    _nest(b, [n for n in values_spec.shape if n != 1], Memory(pointers, set(pointers)), element)
