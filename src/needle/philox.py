"""Philox4x32-10: a random stream whose numbers depend on where they stand alone.

It is counter-based, so a number depends on nothing but the seed, which draw of the stream it
belongs to, and its place in that draw: the same eager and compiled, with any number of threads
(Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The layout,
which compiled programs reproduce:

- key = seed (low, high word); counter = (block low, block high, draw low, draw high). Every call
  that draws an array is one draw, whatever the array's size.
- A block is four 32-bit words; word ``i`` of a draw is word ``i % 4`` of block ``i // 4``.
- float32 uniform ``i`` = ``(word[i] >> 8) * 2**-24``;
  float64 uniform ``i`` = ``(long[i] >> 11) * 2**-53``, ``long[i] = word[2i] + 2**32 word[2i+1]``.
  Results in float64 are drawn with 53 bits, all others (float32, float16, bool) with 24.
- Normals ``2k`` and ``2k + 1`` = ``r cos a`` and ``r sin a``, ``r = sqrt(-2 log(u[2k] + eps))``,
  ``a = 2 pi u[2k+1]``, of uniforms u with that many bits, eps their spacing (Box & Muller 1958).
  Evaluated in float64, so a float32 normal is within 1 ulp (or 1e-15) of the formula.
- Integer ``i`` = ``low + long[i] % (high - low)``: a value is preferred over another by no more
  than ``(high - low) / 2**64``, relatively.
- A permutation sorts ``long[i]`` whose lowest bits are replaced by ``i``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import ArgumentError
from .streams import Array, Draw, Shape, bad_state, bounded, turn, unit_interval

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
_WORD = 0xFFFFFFFF
# Constants of the rounds are 0-d arrays: NumPy's ufuncs take them faster than scalars.
_LOW_WORD, _SHIFT, _M0, _M1 = (np.array(n, np.uint64) for n in (_WORD, 32, *MULTIPLIERS))
_CHUNK_BLOCKS = 4096  # the rounds' three work arrays then stay in the second-level cache
_DRAWS_AHEAD = 4  # small draws that are made at once, where draws of one size follow each other

Keys = tuple[tuple[Array, Array], ...]


def key_schedule(seed: int) -> Keys:
    """The pair of 32-bit keys of each Philox round, from a 64-bit seed."""
    words = np.array((seed & _WORD, seed >> 32), np.uint64)
    table = np.arange(ROUNDS, dtype=np.uint64)[:, None] * np.array(KEY_STEPS, np.uint64) + words
    table &= _LOW_WORD
    return tuple((row[0, ...], row[1, ...]) for row in table)


def philox4x32(counter: Sequence[int | Array], keys: Keys, out: Array) -> None:
    """Fill `out` with Philox4x32-10 blocks.

    Args:
        counter: four 32-bit words, each an int or an array (n,) with one value a block.
        keys: what `key_schedule` returns.
        out: (n, 4) uint32.

    Example:
        >>> import numpy as np
        >>> from needle.philox import key_schedule, philox4x32
        >>> block = np.empty((1, 4), np.uint32)
        >>> philox4x32((0, 0, 0, 0), key_schedule(0), block)
        >>> [f"{word:08x}" for word in block[0]]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    # Rows: words 0 and 2, words 1 and 3, and the products of words 2 and 0. 32-bit values live
    # in 64-bit lanes: NumPy has no widening multiply, and strided 32-bit views cost more.
    even, odd, product = (np.empty((2, len(out)), np.uint64) for _ in range(3))
    even0, even1 = even
    product0, product1 = product
    even[0], odd[0], even[1], odd[1] = counter
    multiply, shift, xor = np.multiply, np.right_shift, np.bitwise_xor
    for key0, key1 in keys:
        multiply(even1, _M1, product0)
        multiply(even0, _M0, product1)
        shift(product, _SHIFT, even)
        xor(even, odd, even)
        xor(even0, key0, even0)
        xor(even1, key1, even1)
        np.bitwise_and(product, _LOW_WORD, odd)
    out[:, 0], out[:, 1], out[:, 2], out[:, 3] = even0, odd[0], even1, odd[1]


class PhiloxStream:
    """A Philox4x32-10 stream of its own, that touches no global state.

    Args:
        seed: 0 <= seed < 2**64.
        draw: number of the next draw.

    Attributes:
        shared: whether it is drawn from in turns: the ambient one is.

    Raises:
        ArgumentError: a seed that is no integer in that range.

    Example:
        >>> from needle.philox import PhiloxStream
        >>> stream = PhiloxStream(0)
        >>> stream.uniform((2,), "float32").tolist()
        [0.3990464210510254, 0.8805201649665833]
        >>> stream.draw
        1
    """

    def __init__(self, seed: int, draw: int = 0) -> None:
        self.seed = _checked(seed, "seed")
        self.draw = draw
        self.shared = False
        self.keys = key_schedule(self.seed)
        self._made: dict[tuple[int, int, int], Array] = {}
        self._last = (-1, 0)  # number and blocks

    def reserve(self, count: int = 1) -> int:
        """Take the next `count` draw numbers without producing numbers; returns the first."""
        if self.shared:
            with turn:
                return self._reserve(count)
        return self._reserve(count)

    def _reserve(self, count: int) -> int:
        # No call and no backward jump between the two lines: CPython switches threads at neither.
        draw = self.draw
        self.draw = draw + count
        return draw

    def uniform(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        return self._uniforms(math.prod(shape), _is_double(dtype)).reshape(shape)

    def normal(self, shape: Shape = (), dtype: npt.DTypeLike = "float64") -> Array:
        size, double = math.prod(shape), _is_double(dtype)
        uniforms = self._uniforms(size + size % 2, double).astype(np.float64, copy=False)
        spacing = 2.0**-53 if double else 2.0**-24
        radius = np.sqrt(-2.0 * np.log(uniforms[0::2] + spacing))
        angle = 2.0 * np.pi * uniforms[1::2]
        normals = np.empty(uniforms.size, np.float64 if double else np.float32)
        normals[0::2] = radius * np.cos(angle)
        normals[1::2] = radius * np.sin(angle)
        return normals[:size].reshape(shape)

    def integers(self, low: int, high: int, size: Shape = ()) -> Array:
        return bounded(self._longs(math.prod(size)), low, high).reshape(size)

    def permutation(self, n: int) -> Array:
        bits = np.uint64(max(n - 1, 0).bit_length())
        keys = self._longs(n)
        keys >>= bits
        keys <<= bits
        keys |= np.arange(n, dtype=np.uint64)
        keys.sort()
        keys &= (np.uint64(1) << bits) - np.uint64(1)
        return keys.view(np.int64)

    def rounds(self, count: int, draws: Sequence[Draw]) -> list[Array]:
        turns = self.reserve(count * len(draws)) + len(draws) * np.arange(count, dtype=np.uint64)
        return [
            draw.from_longs(self._draws_of(turns + np.uint64(place), -(-draw.words // 4)))
            for place, draw in enumerate(draws)
        ]

    def get_state(self) -> dict[str, Any]:
        return {"stream": "philox", "seed": self.seed, "draw": self.draw}

    def set_state(self, state: dict[str, Any]) -> None:
        try:
            seed, draw = _checked(state["seed"], "seed"), _checked(state["draw"], "draw")
        except (KeyError, TypeError, ArgumentError) as error:
            raise bad_state("Philox", state, error) from error
        self.seed, self.draw, self.keys = seed, draw, key_schedule(seed)

    def _uniforms(self, size: int, double: bool) -> Array:
        if double:
            return unit_interval(self._longs(size))
        uniforms = np.empty(size, np.float32)
        for start, words in self._chunks(size):
            part = uniforms[start : start + words.size]
            words >>= np.uint32(8)
            part[...] = words[: part.size].view(np.int32)  # signed converts faster, and is equal
            part *= np.float32(2.0**-24)
        return uniforms

    def _longs(self, size: int) -> Array:
        longs = np.empty(size, np.uint64)
        for start, words in self._chunks(2 * size):
            part = longs[start // 2 : (start + words.size) // 2]
            part[...] = words.view("<u8")[: part.size]
        return longs

    def _chunks(self, size: int) -> Iterator[tuple[int, Array]]:
        """The next draw's words, at least `size`: (number of the first, words) a chunk."""
        draw = self.reserve()
        blocks = -(-size // 4)
        if 0 < blocks <= _CHUNK_BLOCKS // 2:
            yield 0, self._small_draw(draw, blocks)
            return
        for start in range(0, blocks, _CHUNK_BLOCKS):
            stop = min(start + _CHUNK_BLOCKS, blocks)
            words = np.empty((stop - start, 4), "<u4")
            block = np.arange(start & _WORD, (start & _WORD) + stop - start, dtype=np.uint64)
            philox4x32((block, start >> 32, draw & _WORD, draw >> 32), self.keys, words)
            yield 4 * start, words.reshape(-1)

    def _small_draw(self, draw: int, blocks: int) -> Array:
        """The words of a draw of few blocks.

        After a draw of as many blocks the next ones are made too: calling NumPy takes as long as
        its work, and what a draw gives depends on the seed and the numbers asked for alone.
        """
        wanted = self.seed, draw, blocks
        words = self._made.pop(wanted, None)
        if words is None:
            again = self._last == (draw - 1, blocks)
            count = min(_DRAWS_AHEAD, _CHUNK_BLOCKS // blocks) if again else 1
            made = self._draws_of(np.arange(count, dtype=np.uint64) + np.uint64(draw), blocks)
            ahead = {(self.seed, draw + i, blocks): row for i, row in enumerate(made.view("<u4"))}
            words = ahead.pop(wanted)
            self._made = ahead
        self._last = draw, blocks
        return words

    def _draws_of(self, numbers: Array, blocks: int) -> Array:
        """The first blocks of many draws at once, as longs (len(numbers), 2 * blocks)."""
        words = np.empty((len(numbers) * blocks, 4), "<u4")
        block = np.tile(np.arange(blocks, dtype=np.uint64), len(numbers))
        numbers = np.repeat(numbers, blocks)
        philox4x32((block, 0, numbers & _LOW_WORD, numbers >> _SHIFT), self.keys, words)
        return words.view("<u8").reshape(-1, 2 * blocks)


def _is_double(dtype: npt.DTypeLike) -> bool:
    return np.dtype(dtype) == np.float64


def _checked(number: int, name: str) -> int:
    try:
        value = operator.index(number)
    except TypeError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise ArgumentError(
            f"{name}: {number!r} is no integer from 0 to 2**64 - 1. Give one that is"
        )
    return value
