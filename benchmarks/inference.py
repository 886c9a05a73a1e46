"""Inference of the MLP ResNet: from an array of images to an array of logits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .harness import problem
from .harness.figures import ratio
from .harness.process import Contestant, Process
from .harness.rounds import Effort, field_of, interleave, say
from .harness.table import duration, markdown, times
from .step import absent, label, needle_and_peers

BATCHES = (1, 256)
HIDDEN = 100
TOLERANCE = 1e-4  # of the mean absolute logit


def contestants(path: str, batch: int) -> list[Contestant]:
    """The rows of the table."""
    rows: list[Contestant] = []

    def add(name: str, module: str, **settings: Any) -> None:
        settings = {"task": "inference", "path": path, "batch": batch, **settings}
        rows.extend(
            Contestant(f"{name}, {count}", module, settings, threads)
            for threads, count in ((1, "1 thread"), (2, "2 threads"))
        )

    add("Needle eager", "needle_mlp", compiled=False)
    add("Needle jit", "needle_mlp", compiled=True)
    add("NumPy by hand", "numpy_mlp")
    add("ONNX Runtime", "onnx_mlp")
    add("JAX jit", "jax_mlp")
    add("PyTorch eager", "torch_mlp", compiled=False)
    add("PyTorch compile", "torch_mlp", compiled=True)
    return rows


def measure(effort: Effort) -> dict[str, Any]:
    """Both batch sizes, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        problem.write(path, batch=max(BATCHES), hidden=HIDDEN, batches=1)
        return {str(batch): _measure_batch(effort, str(path), batch) for batch in BATCHES}


def _measure_batch(effort: Effort, path: str, batch: int) -> dict[str, Any]:
    say(f"  batch {batch}")
    settings = {"task": "inference", "path": path, "batch": batch}
    with Process(Contestant("reference", "numpy_mlp", settings, 1)) as process:
        wanted = np.array(process.ask("check"))
    with field_of(contestants(path, batch)) as field:
        scale = np.abs(wanted).mean()
        for name, logits in field.ask("check").items():
            difference = float(np.abs(np.array(logits) - wanted).max() / scale)
            if not difference <= TOLERANCE:
                field.drop(name, ValueError(f"{name}: logits differ by {difference:.2g}"))
        rows = interleave(field, effort)
        return {"rows": rows, "missing": dict(field.missing)}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """One table a batch size."""
    return {f"inference_{batch}": _table(part) for batch, part in result.items()}


def _table(part: dict[str, Any]) -> str:
    rows = part["rows"]
    _, peer = needle_and_peers(rows)
    best_peer = rows[peer]["median"] if peer else None
    lines = [
        [
            label(name, row),
            duration(row["median"]),
            duration(row["best"]),
            f"{row['processors']:.1f}",
            times(ratio(best_peer, row["median"])),
        ]
        for name, row in rows.items()
    ]
    header = ["a call", "median", "best", "cores busy", "best peer / this"]
    return "\n".join([markdown(header, lines), "", *absent(part["missing"])]).rstrip()
