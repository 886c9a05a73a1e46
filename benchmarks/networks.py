"""A training step of other networks than MNIST's: tiny, deep, recurrent, attentive, wide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .harness.networks import NETWORKS
from .harness.process import Contestant, ContestantError, Process
from .harness.rounds import Effort, field_of, interleave, say
from .harness.table import markdown
from .step import absent, label
from .summary import best_of_each

CHECKED_STEPS = 4
TOLERANCE = 1e-5  # of a loss in float32 against float64, after so many steps
ROUNDS, GROUPS = 7, 6  # at most: there are many networks

LIBRARIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Needle jit": ("needle_networks", {"compiled": True}),
    "PyTorch eager": ("torch_networks", {"compiled": False}),
    "PyTorch compile": ("torch_networks", {"compiled": True}),
    "JAX jit": ("jax_networks", {}),
}
# No helpers that outlive the compilation; others do not read it.
ENVIRONMENT = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


def contestants(network: str) -> list[Contestant]:
    """Each library with 1 and 2 threads."""
    return [
        Contestant(f"{library}, {count}", module, {"network": network, **settings}, threads,
                   ENVIRONMENT)
        for library, (module, settings) in LIBRARIES.items()
        for threads, count in ((1, "1 thread"), (2, "2 threads"))
    ]  # fmt: skip


def reference(network: str) -> tuple[str, list[float]]:
    """Whose, and losses of the first steps in float64, eagerly: Needle's where PyTorch is not."""
    settings = {"network": network, "compiled": False, "dtype": "float64"}
    try:
        return "PyTorch", _losses(Contestant("float64", "torch_networks", settings, 1))
    except ContestantError as error:
        say(f"  without {error}")
        return "Needle", _losses(Contestant("float64", "needle_networks", settings, 1))


def _losses(contestant: Contestant) -> list[float]:
    with Process(contestant) as process:
        return process.ask("check", steps=CHECKED_STEPS)


def measure(effort: Effort) -> dict[str, Any]:
    """One network after the other."""
    effort = replace(effort, rounds=min(effort.rounds, ROUNDS), groups=min(effort.groups, GROUPS))
    return {name: _measure_network(effort, name) for name in NETWORKS}


def _measure_network(effort: Effort, name: str) -> dict[str, Any]:
    say(f"  {NETWORKS[name].text}")
    whose, wanted = reference(name)
    with field_of(contestants(name), at_once=os.cpu_count() or 1) as field:
        differences = field.check(wanted, TOLERANCE, steps=CHECKED_STEPS)
        rows = interleave(field, effort)
        missing = dict(field.missing)
    return {"rows": rows, "missing": missing, "differences": differences, "reference": whose}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A row for each network, a column for each library."""
    lines = [
        [network.text, *best_of_each(result[name]["rows"], LIBRARIES)]
        for name, network in NETWORKS.items()
        if name in result
    ]
    table = markdown(["a step of", *LIBRARIES, "best peer / Needle"], lines)
    return {"networks": "\n".join([table, "", _note(result), *_remarks(result)])}


def _note(result: dict[str, Any]) -> str:
    """How well the results agreed."""
    largest = max(
        (part["differences"][row] for part in result.values() for row in part["rows"]), default=0.0
    )
    whose = " and ".join(sorted({part["reference"] for part in result.values()}))
    return (
        f"Losses of {CHECKED_STEPS} steps differ from those of {whose} in float64 by at most "
        f"{largest:.1g}; {TOLERANCE:g} is allowed."
    )


def _remarks(result: dict[str, Any]) -> Iterator[str]:
    """Rows that are not what their names say, and who is missing."""
    for name, part in result.items():
        for row, measured in part["rows"].items():
            if label(row, measured) != row:
                yield f"- {name}: {label(row, measured)}"
        for line in absent(part["missing"]):
            yield f"{line} ({name})"
