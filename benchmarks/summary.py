"""The README's table: Needle's best row beside the best of each library, from the same results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .harness.figures import fastest, ratio
from .harness.networks import NETWORKS
from .harness.table import duration, markdown, times
from .step import needle_rows

Rows = Mapping[str, Any]
LIBRARIES = ("Needle", "PyTorch", "JAX", "ONNX Runtime")


def table(results: Mapping[str, Any]) -> str:
    """Medians of what was measured, and the machine."""
    parts = {name: item["result"] for name, item in results.items()}
    lines = [[text, *best_of_each(rows, LIBRARIES)] for text, rows in _measured(parts)]
    header = ["median of", *LIBRARIES, "best of them / Needle"]
    first = next(iter(results.values()))
    machine, date = first["machine"], first["date"]
    packages = ", ".join(
        f"{name} {machine['packages'][name]}" for name in ("torch", "jax", "onnxruntime")
        if name in machine["packages"]
    )  # fmt: skip
    note = f"{machine['processor']}, {machine['cores']} cores, {date}; {packages}."
    return f"{markdown(header, lines)}\n\n{note}"


def _measured(parts: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    if "step" in parts:
        yield "a training step, batch 100, width 100", parts["step"]["small"]["rows"]
        yield "a training step, batch 256, width 512", parts["step"]["large"]["rows"]
    for name, network in NETWORKS.items():
        if name in parts.get("networks", {}):
            yield f"a training step, {network.text}", parts["networks"][name]["rows"]
    if "epoch" in parts:
        yield "an epoch of MNIST, loading included", parts["epoch"]["rows"]
    if "inference" in parts:
        yield "inference, one image", parts["inference"]["1"]["rows"]
        yield "inference, 256 images", parts["inference"]["256"]["rows"]


def best_of_each(rows: Rows, libraries: Iterable[str]) -> list[str]:
    """The median of each library's fastest row, and the peers' least by Needle's."""
    ours = needle_rows(dict(rows))
    counted = [name for name in rows if name in ours or not name.startswith("Needle")]
    medians: dict[str, float | None] = {}
    for library in libraries:
        best = fastest(rows, [name for name in counted if name.startswith(library)])
        medians[library] = rows[best]["median"] if best else None
    theirs = [m for name, m in medians.items() if m and not name.startswith("Needle")]
    needle = next(median for name, median in medians.items() if name.startswith("Needle"))
    won = times(ratio(min(theirs, default=None), needle))
    return [*map(duration, medians.values()), won]
