"""The MNIST step while another process keeps one core busy."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .harness import problem
from .harness.figures import ratio
from .harness.process import Contestant
from .harness.rounds import Effort, field_of, interleave, say
from .harness.table import duration, markdown, times
from .step import SIZES, absent, contestants, label

_LEFT_OUT = ("Needle eager", "NumPy", "PyTorch eager, default", "PyTorch compile")

_BURN = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
while True:
    pass
"""


@contextmanager
def busy_core() -> Generator[None]:
    """A process that computes on the last processor all the time, bound to it where possible."""
    burner = subprocess.Popen([sys.executable, "-c", _BURN])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


def measure(effort: Effort) -> dict[str, Any]:
    """Everyone undisturbed, then beside the busy core."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(problem.write(Path(folder) / "problem.npz", **SIZES["small"]))
        settings = {"task": "training", "dropout": problem.DROPOUT}
        everyone = [
            row for row in contestants(path, **settings) if not row.name.startswith(_LEFT_OUT)
        ]
        free = Contestant(
            "Needle jit, threads by timing", "needle_mlp",
            {**settings, "path": path, "compiled": True},
        )  # fmt: skip
        with field_of([*everyone, free]) as field:
            say("  undisturbed")
            quiet = interleave(field, effort)
            say("  one core busy")
            with busy_core():
                loaded = interleave(field, effort)
            missing = dict(field.missing)
    return {"quiet": quiet, "loaded": loaded, "missing": missing, "cores": os.cpu_count()}


def one_thread(name: str) -> str:
    """The row of the same library with one thread."""
    return f"{name.rpartition(', ')[0]}, 1 thread"


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Medians with and without the load."""
    quiet, loaded = result["quiet"], result["loaded"]
    lines = []
    for name, row in loaded.items():
        alone = loaded.get(one_thread(name), {}).get("median")
        lines.append(
            [
                label(name, row),
                duration(quiet[name]["median"]),
                duration(row["median"]),
                times(ratio(row["median"], alone)),
            ]
        )
    header = ["a step", "undisturbed", "one core busy", "of its 1 thread, core busy"]
    table = markdown(header, lines)
    note = f"{result['cores']} cores, one of them busy."
    return {"loaded": "\n".join([table, "", note, *absent(result["missing"])])}
