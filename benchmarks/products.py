"""Matrix products of one thread against OpenBLAS: `matmul`'s shapes, in a process of their own."""

from __future__ import annotations

from statistics import median
from typing import Any

from .harness.process import Contestant, Process
from .harness.rounds import Effort, say
from .harness.table import duration, markdown, times

WORST = 8  # of the sweep are listed


def measure(effort: Effort) -> dict[str, Any]:
    """The shapes of the steps, and unless in a hurry all others."""
    with Process(Contestant("products", "products", {}, threads=1)) as process:
        groups = ["bars"] if effort.quick else ["bars", "sweep"]
        result: dict[str, Any] = {}
        for group in groups:
            say(f"  {group}")
            names = process.ask("names", group=group)
            result[group] = {name: process.ask("product", group=group, name=name) for name in names}
    return result


def ratios(rows: dict[str, Any]) -> dict[str, float]:
    """OpenBLAS's time by Needle's: above 1 Needle is faster."""
    return {name: row["openblas"] / row["needle"] for name, row in rows.items()}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The steps' products, and the worst of the sweep."""
    found = {"products_bars": _table(result["bars"], len(result["bars"]))}
    if "sweep" in result:
        found["products_sweep"] = _table(result["sweep"], WORST)
    return found


def _table(rows: dict[str, Any], listed: int) -> str:
    faster = ratios(rows)
    chosen = sorted(rows, key=faster.__getitem__)[:listed]
    lines = [
        [
            name,
            duration(rows[name]["needle"]),
            duration(rows[name]["openblas"]),
            times(faster[name]),
        ]
        for name in chosen
    ]
    note = (
        f"{len(rows)} products; OpenBLAS / Needle: least {times(min(faster.values()))}, "
        f"median {times(median(faster.values()))}, most {times(max(faster.values()))}."
    )
    return "\n\n".join([markdown(["product", "Needle", "OpenBLAS", "faster"], lines), note])
