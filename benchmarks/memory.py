"""The most memory that a training process holds: the data set as bytes, a part of an epoch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from .epoch import BATCH, HIDDEN
from .harness import problem
from .harness.figures import ratio
from .harness.process import Contestant, ContestantError, Process
from .harness.rounds import Effort, say
from .harness.table import markdown, significant, times
from .step import absent, contestants, needle_and_peers

STEPS = 200


def measure(effort: Effort) -> dict[str, Any]:
    """A new process for each contestant and repetition."""
    repetitions = 1 if effort.quick else 3
    rows: dict[str, Any] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = problem.write(folder / "problem.npz", batch=BATCH, hidden=HIDDEN, batches=1)
        problem.mnist_files(folder)
        for row in contestants(str(path), task="epoch", data=name, batch=BATCH):
            say(f"  {row.name}")
            try:
                peaks = [_peak(row) for _ in range(repetitions)]
                rows[row.name] = {"median": median(peaks), "best": min(peaks)}
            except ContestantError as error:
                missing[row.name] = str(error)[:300]
    return {"rows": rows, "missing": missing}


def _peak(row: Contestant) -> int:
    with Process(row) as process:
        process.ask("epoch", batches=STEPS)
        return process.ask("peak_memory")


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Peak resident memory in MB."""
    rows = result["rows"]
    _, peer = needle_and_peers(rows)
    best_peer = rows[peer]["median"] if peer else None
    lines = [
        [
            name,
            f"{significant(row['median'] / 1e6)} MB",
            times(ratio(row["median"], best_peer)),
        ]
        for name, row in rows.items()
    ]
    table = markdown(["training process", "peak memory", "of the smallest peer"], lines)
    return {"memory": "\n".join([table, "", *absent(result["missing"])]).rstrip()}
