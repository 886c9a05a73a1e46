"""Markdown tables, and their places in a README."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def significant(x: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent.

    >>> significant(0.012345), significant(123456.0), significant(2.5)
    ('0.0123', '123456', '2.50')
    """
    if x == 0 or x != x or x in (float("inf"), float("-inf")):
        return str(x)
    places = digits - len(str(int(abs(x)))) if abs(x) >= 1 else digits + _leading_zeros(abs(x))
    return f"{x:.{max(0, places)}f}"


def _leading_zeros(x: float) -> int:
    count = 0
    while x < 0.1:
        x, count = x * 10, count + 1
    return count


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.0000345), duration(0.00193), duration(7.5), duration(None)
    ('34.5 µs', '1.93 ms', '7.50 s', '–')
    """
    if seconds is None:
        return "–"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{significant(seconds * factor)} {unit}"
    return f"{significant(seconds * 1e9)} ns"


def times(ratio: float | None) -> str:
    """A ratio such as 4.2×.

    >>> times(4.2), times(None)
    ('4.20×', '–')
    """
    return "–" if ratio is None else f"{significant(ratio)}×"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns after the first are aligned to the right.

    >>> print(markdown(["a", "b"], [["x", "1"], ["y", "23"]]))
    | a |  b |
    |:--|---:|
    | x |  1 |
    | y | 23 |
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
    )
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])


def filled(document: str, tables: dict[str, str]) -> str:
    r"""A document with the text between `<!-- table: NAME -->` and `<!-- end -->` replaced.

    Raises:
        KeyError: a table has no place in the document.

    >>> filled("<!-- table: a -->\nold\n<!-- end -->", {"a": "new"})
    '<!-- table: a -->\nnew\n<!-- end -->'
    """
    places = {match[2] for match in _PLACE.finditer(document)}
    if missing := set(tables) - places:
        raise KeyError(f"no place for {', '.join(sorted(missing))}: write <!-- table: NAME -->")

    def replaced(match: re.Match[str]) -> str:
        return f"{match[1]}{tables[match[2]]}\n{match[3]}" if match[2] in tables else match[0]

    return _PLACE.sub(replaced, document)
