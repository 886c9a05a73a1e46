"""What Python adds to a compiled call: its time, less that of the native program within."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .harness import problem
from .harness.figures import summary
from .harness.process import Contestant, Process
from .harness.rounds import Effort, say
from .harness.table import duration, markdown

CALLS = 400
STEP, INFERENCE = "MNIST step", "inference of one image"
WORK: dict[str, dict[str, Any]] = {
    STEP: {"task": "training", "dropout": problem.DROPOUT, "compiled": True},
    INFERENCE: {"task": "inference", "batch": 1, "compiled": True},
}


def measure(effort: Effort) -> dict[str, Any]:
    """Medians of single calls, in rounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = problem.write(Path(folder) / "problem.npz", batch=100, hidden=100)
        rows = {}
        for name, settings in WORK.items():
            for threads, count in ((1, "1 thread"), (2, "2 threads")):
                say(f"  {name}, {count}")
                row = Contestant(
                    f"{name}, {count}", "needle_mlp", {"path": str(path), **settings}, threads
                )
                rows[row.name] = _measured(row, effort.rounds)
        return {"rows": rows}


def _measured(row: Contestant, rounds: int) -> dict[str, Any]:
    with Process(row) as process:
        turns = [process.ask("parts_of_a_call", calls=CALLS) for _ in range(rounds)]
    return {part: summary([turn[part] for turn in turns]) for part in turns[0]}


def share(result: dict[str, Any], name: str) -> float:
    """Seconds that Python takes in a call, with as many threads as it takes the least."""
    rows = [row for title, row in result["rows"].items() if title.startswith(name)]
    return min(row["python"]["median"] for row in rows)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A line for each."""
    lines = [
        [name, *[duration(row[part]["median"]) for part in ("whole", "native", "python")]]
        for name, row in result["rows"].items()
    ]
    return {"calls": markdown(["a call", "whole", "native program", "Python"], lines)}
