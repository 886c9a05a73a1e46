"""A whole epoch of MNIST, shuffling and loading of batches included; and the loading alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .harness import problem
from .harness.figures import ratio, summary
from .harness.process import ContestantError
from .harness.rounds import Effort, Field, conditions, field_of, say
from .harness.table import duration, markdown, times
from .step import absent, contestants, label, needle_and_peers

BATCH, HIDDEN = 100, 100
ROUNDS = 5
QUICK_BATCHES = 60
WARM_UP_BATCHES = 20


def measure(effort: Effort) -> dict[str, Any]:
    """Every contestant's epochs in turn."""
    batches = QUICK_BATCHES if effort.quick else 60_000 // BATCH
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = problem.write(folder / "problem.npz", batch=BATCH, hidden=HIDDEN, batches=1)
        problem.mnist_files(folder)
        rows = contestants(str(path), task="epoch", data=name, batch=BATCH)
        with field_of(rows) as field:
            field.ask("epoch", batches=WARM_UP_BATCHES)
            measured = _rounds(field, 2 if effort.quick else ROUNDS, batches)
            return {"batches": batches, **measured, "missing": dict(field.missing)}


def _rounds(field: Field, rounds: int, batches: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in field.processes}
    processors: dict[str, list[float]] = {name: [] for name in field.processes}
    losses: dict[str, list[float]] = {name: [] for name in field.processes}
    loading: list[float] = []
    for number in range(rounds):
        say(f"  round {number + 1} of {rounds}")
        names = list(field.processes)
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            process = field.processes[name]
            try:
                done = process.ask("timed", method="epoch", batches=batches)
            except ContestantError as error:
                field.drop(name, error)
                continue
            seconds[name].append(done["seconds"])
            processors[name].append(done["processors"])
            losses[name].append(done["result"])
            if name == "Needle eager, 1 thread":
                alone = process.ask("timed", method="loading", batches=batches)
                loading.append(alone["seconds"])
    rows = {
        name: {
            **summary(seconds[name]),
            **conditions(process, processors[name]),
            "first_loss": losses[name][0],
        }
        for name, process in field.processes.items()
    }
    return {"rows": rows, "loading": summary(loading) if loading else None}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Epochs, with the loading alone as the last line."""
    rows = result["rows"]
    _, peer = needle_and_peers(rows)
    best_peer = rows[peer]["median"] if peer else None
    lines = [
        [
            label(name, row),
            duration(row["median"]),
            duration(row["best"]),
            f"{row['first_loss']:.3f}",
            times(ratio(best_peer, row["median"])),
        ]
        for name, row in rows.items()
    ]
    if (loading := result["loading"]) is not None:
        lines.append(
            [
                "Needle's loading alone",
                duration(loading["median"]),
                duration(loading["best"]),
                "–",
                "–",
            ]
        )
    header = [f"{result['batches']} steps", "median", "best", "loss of the 1st", "best peer / this"]
    return {"epoch": "\n".join([markdown(header, lines), "", *absent(result["missing"])]).rstrip()}
