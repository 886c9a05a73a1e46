"""Matrix products as functions of IR that a program calls.

`emit` appends to a module the functions for one product. All have the signature::

    void f(ptr a, ptr b, ptr c, ptr scratch, <further arguments>, i64 begin, i64 end)

and do the chunks `begin` ... `end` - 1 of a phase. The chunks of a phase are independent; a phase
begins when the one before has ended. Which chunks there are follows from the shape, so the result
is the same to the bit however they are shared out. Batches are calls with other pointers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .matmul_blocking import blocking
from .matmul_finish import Epilogue
from .matmul_loops import write_phases
from .matmul_product import Blocking, Product
from .vectors import Source, Type

__all__ = ["Epilogue", "Phase", "Product", "emit"]

FLOP_COST, PACK_COST = 0.01, 0.25
"""About the nanoseconds that an operation takes, and that packing an element takes."""


@dataclass(frozen=True)
class Phase:
    """A function, the number of chunks it has, and about the nanoseconds that one takes.

    One that `packs` a factor (0: A, 1: B) needs no other; one that `adds` does so with the sums of
    parts. With `even_rows`, chunk c makes the rows c * m // chunks ... of C. `part` says for people
    what it does, unless it is the whole product.
    """

    symbol: str
    chunks: int
    cost: float
    packs: int | None = None
    part: str = ""
    even_rows: bool = False
    adds: bool = False


def emit(
    source: Source,
    product: Product,
    name: str,
    epilogue: Epilogue | None = None,
    further: Mapping[str, Type] | None = None,
) -> list[Phase]:
    """Append the functions of `product`: `name`, and what comes before and after it.

    B may have to be packed first (`name.pack`). At the end parts of K are added up, or C turned
    over, if it was computed as C^T (`name.sum`). They need `Blocking.scratch` elements of memory.

    `epilogue(b, acc, row, col, mask, *further)` is called while the code is written. It gets the
    builder, a vector of sums, the row and column (i64) of its first lane in C, the mask of the
    lanes that are there (None: all), and the values of the further arguments. It returns the
    vector to store. The memory it loads from must not overlap C.
    """
    cut = blocking(product, source.host)
    steps = phases(cut, name)
    if steps:
        write_phases(source, cut, name, dict(further or {}), epilogue)
    return steps


def phases(cut: Blocking, name: str = "") -> list[Phase]:
    """The phases of a product, in order; none where C is empty."""
    if not cut.chunks:
        return []
    packed = 0 if cut.swap else 1
    parts = f"k in {cut.parts} parts" if cut.parts > 1 else ""
    last = "turns c over" if cut.turned else "adds parts"

    def phase(step: str, chunks: int, cost: float, part: str, **further: Any) -> Phase:
        return Phase(name + step, chunks, cost / max(chunks, 1), part=part, **further)

    pack, add = PACK_COST * cut.packed_b_size, PACK_COST * cut.sums_size
    found = [
        phase(".pack", cut.pack_chunks, pack, f"packs {'ab'[packed]}", packs=packed),
        phase("", cut.chunks, FLOP_COST * cut.product.flop, parts, even_rows=cut.even_rows),
        phase(".sum", cut.last.count, add, last, even_rows=not cut.turned, adds=True),
    ]
    return [phase for phase in found if phase.chunks]
