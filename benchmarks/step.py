"""The MNIST step: forward, backward, Adam, dropout; two sizes of the MLP ResNet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from .harness import problem
from .harness.figures import fastest, overran, ratio
from .harness.process import Contestant, Process
from .harness.rounds import Effort, field_of, interleave, say
from .harness.table import duration, markdown, significant, times

SIZES = {
    "small": {"batch": 100, "hidden": 100},
    "large": {"batch": 256, "hidden": 512},
}
CHECKED_STEPS = 4
# Of a loss in float32 against float64, after so many steps. In the wide network some unit is within
# rounding of ReLU's kink, and Adam makes a whole step of the smallest difference.
TOLERANCES = {"small": 1e-5, "large": 3e-3}

HARDWARE = Contestant("hardware", "hardware", {})


def contestants(path: str, **common: Any) -> list[Contestant]:
    """Everyone who trains, each with 1 and 2 threads; `common` are settings of all."""
    rows: list[Contestant] = []

    def add(name: str, module: str, **settings: Any) -> None:
        environment = settings.pop("environment", {})
        settings = {"path": path, **common, **settings}
        rows.extend(
            Contestant(f"{name}, {count}", module, settings, threads, environment)
            for threads, count in ((1, "1 thread"), (2, "2 threads"))
        )

    add("Needle eager", "needle_mlp", compiled=False)
    add("Needle jit", "needle_mlp", compiled=True)
    add("NumPy by hand", "numpy_mlp")
    add("PyTorch eager, default Adam", "torch_mlp", fused=False, compiled=False)
    add("PyTorch eager, fused Adam", "torch_mlp", fused=True, compiled=False)
    alone = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}  # no helpers that outlive the compilation
    add("PyTorch compile, fused Adam", "torch_mlp", fused=True, compiled=True, environment=alone)
    add("JAX jit, donated", "jax_mlp")
    return rows


def trainings(path: str) -> list[Contestant]:
    """The rows of the table."""
    settings = {"task": "training", "dropout": problem.DROPOUT}
    needle = {"path": path, **settings, "compiled": True}
    stream = {**needle, "stream": "numpy"}
    return [
        *contestants(path, **settings),
        Contestant("Needle jit, threads by timing", "needle_mlp", needle),
        Contestant("Needle jit, NumPy's stream, 2 threads", "needle_mlp", stream, 2),
    ]


def reference(path: str) -> list[float]:
    """Losses of the first steps in float64, by hand."""
    settings = {"task": "training", "path": path, "dropout": 0.0, "dtype": "float64"}
    with Process(Contestant("float64", "numpy_mlp", settings, 1)) as process:
        return process.ask("check", steps=CHECKED_STEPS)


def measure(effort: Effort) -> dict[str, Any]:
    """Both sizes, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: _measure_size(effort, Path(folder) / f"{name}.npz", TOLERANCES[name], **size)
            for name, size in SIZES.items()
        }


def _measure_size(
    effort: Effort, path: Path, tolerance: float, *, batch: int, hidden: int
) -> dict[str, Any]:
    say(f"  batch {batch}, hidden {hidden}")
    problem.write(path, batch=batch, hidden=hidden)
    wanted = reference(str(path))
    hardware: list[dict[str, Any]] = []
    with field_of(trainings(str(path))) as field, Process(HARDWARE) as machine:
        differences = field.check(wanted, tolerance, steps=CHECKED_STEPS)
        rows = interleave(field, effort, lambda: hardware.append(machine.ask("measure")))
        missing = dict(field.missing)
    return {
        "rows": rows,
        "missing": missing,
        "differences": differences,
        "flops": problem.step_flops(batch, hidden),
        "hardware": hardware_summary(hardware),
    }


def hardware_summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Peak and hand-over as they were in most rounds, and the range of the hand-over."""
    barriers = [sample["barrier"] for sample in samples if sample["barrier"] is not None]
    return {
        "peak": median(sample["peak"] for sample in samples),
        "barrier": median(barriers) if barriers else None,
        "slowest_barrier": max(barriers, default=None),
        "approximate": any(sample["approximate"] for sample in samples),
    }


def needle_rows(rows: dict[str, Any]) -> list[str]:
    """Needle's rows that are what their names say."""
    return [name for name in rows if name.startswith("Needle") and not overran(rows[name])]


def needle_and_peers(rows: dict[str, Any]) -> tuple[str | None, str | None]:
    """Needle's fastest row, and the fastest of the libraries (NumPy by hand is none)."""
    # A peer that took more cores than it was given still has to be beaten; Needle may not.
    ours = fastest(rows, needle_rows(rows))
    peers = [name for name in rows if not name.startswith(("Needle", "NumPy"))]
    return ours, fastest(rows, peers)


def label(name: str, row: dict[str, Any]) -> str:
    """A row's name, with what a reader must know: that it is not what the name says."""
    remarks = []
    if overran(row):
        counted = "not counted: " if name.startswith("Needle") else ""
        remarks.append(f"{counted}kept {row['processors']:.1f} cores busy")
    if name.startswith("Needle jit") and row.get("executor") != "native":
        remarks.append(f"not native: {row.get('executor')}")
    return f"{name} ({'; '.join(remarks)})" if remarks else name


def tables(result: dict[str, Any]) -> dict[str, str]:
    """One table a size."""
    return {f"step_{name}": _table(size) for name, size in result.items()}


def _table(size: dict[str, Any]) -> str:
    rows, hardware = size["rows"], size["hardware"]
    floor = size["flops"] / hardware["peak"]
    _, peer = needle_and_peers(rows)
    best_peer = rows[peer]["median"] if peer else None
    lines = [
        [
            label(name, row),
            duration(row["median"]),
            duration(row["best"]),
            f"{row['processors']:.1f}",
            times(row["median"] / floor),
            times(ratio(best_peer, row["median"])),
        ]
        for name, row in rows.items()
    ]
    header = ["a step", "median", "best", "cores busy", "of the 1-core floor", "best peer / this"]
    return "\n\n".join([markdown(header, lines), footnote(size, floor)])


def footnote(size: dict[str, Any], floor: float) -> str:
    """What the machine could do meanwhile, and who is missing."""
    hardware = size["hardware"]
    kind = "NumPy's large matrix product, an approximation" if hardware["approximate"] else "FMA"
    text = (
        f"Floor: {size['flops'] / 1e6:.1f} MFLOP of matrix products take {duration(floor)} at one "
        f"core's {significant(hardware['peak'] / 1e9)} GFLOP/s ({kind}). Handing over between two "
        f"threads took {duration(hardware['barrier'])}, at worst "
        f"{duration(hardware['slowest_barrier'])}. Losses of {CHECKED_STEPS} steps without dropout "
        f"differ from float64's by at most {max(size['differences'].values(), default=0.0):.1g}."
    )
    return "\n".join([text, *absent(size["missing"])])


def absent(missing: dict[str, str]) -> list[str]:
    """A line for each contestant that could not take part."""
    return [f"- without {reason}" for reason in missing.values()]
