"""Epilogues: what is computed over a matrix product while its result is in the cache.

A value joins where it follows the elements of the product one by one, be it as another shape with
the same columns. A product of (2, 3, k) and (k, 4) has 6 rows, and so have the values over it, if
all that they read goes on from batch to batch as from row to row::

    before: the values                     after: for each vector of sums, at (row, column)

    y[i, j, k] = p[i, j, k] + b[k]         y[row, column] = sums + b[column]
    z[i, j, k] = y[i, j, k] * x[i, j, k]   z[row, column] = y * x[row, column]
    w[i, j, k] = y[i, j, k] * m[i]         not here: the batch is no number that the code has
"""

from __future__ import annotations

from ...graph.kinds import Reduction
from ...graph.node import Node
from ...native.values import Value
from ...native.vectors import Builder
from ...shapes import Shape
from .access import address, loops_of, own_index, size_of, spec
from .expression import Step, Stored, base, is_one_product
from .kernels import Product
from .memory import Memory, Pointers
from .merging import Accesses
from .scope import Scope
from .symbols import Symbol


def loops_around(work: Product) -> Shape:
    """The loops of an epilogue: that over the columns is the last; rows are one with batches."""
    return loops_of(spec(next(iter(work.steps))).shape)


def row_loop(work: Product) -> int | None:
    """The loop over the rows of a product, None if they are those of several batches."""
    return 0 if work.steps and len(loops_around(work)) == 2 else None


def fits(node: Node, work: Product, stored: Stored) -> bool:
    """Whether a value can be computed over a product and the epilogue that it has, row by row."""
    shape, whole = spec(node).shape, spec(work.node).shape
    loops = loops_of(shape)
    if isinstance(node.op, Reduction) or not is_one_product(work.node):
        return False
    if len(loops) < 2 or shape[-1] == 1 or (work.steps and loops != loops_around(work)):
        return False
    if shape[-1] != whole[-1] or size_of(shape) != size_of(whole):
        return False
    index = own_index(shape)
    home = address(index, shape, len(loops))
    for source, at in stored.reads(node, index):
        if base(source) in work.made and address(at, spec(source).shape, len(loops)) != home:
            return False
    return _goes_on(node, stored, loops)


def _goes_on(node: Node, stored: Stored, loops: Shape) -> bool:
    """Whether all loops over rows and batches can be one."""
    index = own_index(spec(node).shape)
    accesses = Accesses(loops, [Step(node, index, index)], stored)
    return all(accesses.are_one(k, k + 1) for k in range(len(loops) - 2))


def write_epilogue(
    work: Product,
    given: Pointers,
    stored: Stored,
    b: Builder,
    sums: Value,
    row: Value,
    column: Value,
    mask: Value | None,
    *pointers: Value,
) -> Value:
    """Append the epilogue of a product for one vector of its sums, and give what C gets.

    Args:
        work: The product.
        given: The memory that it has pointers to.
        stored: The nodes that are in memory.
        b: Builder of the function.
        sums: The vector.
        row, column: Where in C its first lane lies.
        mask: The lanes that are there, None for all.
        pointers: What the epilogue reads and writes.
    """
    count = len(loops_around(work))
    top = Scope(b, Memory(given, pointers, stored), [None] * (count - 2) + [row, None])
    inside = top.inside(count - 1, column, sums.type.lanes, mask)
    made = {work.node: Symbol(b, sums, spec(work.node).dtype)}
    for node, step in work.steps.items():
        for read in stored.read_by([step]):
            if base(read[0]) in made:
                inside.known[read] = made[base(read[0])]
        made[node] = inside.body(node, step.at)
        inside.store(node, made[node], step.home)
    return sums
