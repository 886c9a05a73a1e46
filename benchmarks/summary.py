"""The README's table: Needle's best row beside the best of each library, from the same results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .harness.figures import fastest, ratio
from .harness.table import duration, markdown, times
from .step import needle_rows

Rows = Mapping[str, Any]
LIBRARIES = ("PyTorch", "JAX", "ONNX Runtime")


def table(results: Mapping[str, Any]) -> str:
    """Medians of what was measured, and the machine."""
    parts = {name: item["result"] for name, item in results.items()}
    lines = [_line(text, rows) for text, rows in _measured(parts)]
    header = ["median of", "Needle", *LIBRARIES, "best of them / Needle"]
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
        yield "a training step, batch 100, width 100", parts["step"]["seed"]["rows"]
        yield "a training step, batch 256, width 512", parts["step"]["large"]["rows"]
    if "epoch" in parts:
        yield "an epoch of MNIST, loading included", parts["epoch"]["rows"]
    if "inference" in parts:
        yield "inference, one image", parts["inference"]["1"]["rows"]
        yield "inference, 256 images", parts["inference"]["256"]["rows"]


def _line(text: str, rows: Rows) -> list[str]:
    best = {"Needle": fastest(rows, needle_rows(dict(rows)))}
    for library in LIBRARIES:
        best[library] = fastest(rows, [name for name in rows if name.startswith(library)])
    medians = {who: rows[name]["median"] if name else None for who, name in best.items()}
    theirs = [medians[library] for library in LIBRARIES if medians[library] is not None]
    won = times(ratio(min(theirs, default=None), medians["Needle"]))
    return [text, *[duration(medians[who]) for who in ("Needle", *LIBRARIES)], won]
