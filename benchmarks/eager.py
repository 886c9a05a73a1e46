"""Microseconds an operator, forward and with its gradient, at three sizes."""

from __future__ import annotations

from typing import Any

from .harness.figures import differences, group_size, summary
from .harness.process import Contestant, ContestantError
from .harness.rounds import Effort, Field, field_of, say
from .harness.table import duration, markdown
from .step import absent

SIZES = (1, 1_000, 1_000_000)
OPERATORS = ("add", "multiply", "add_scalar", "exp", "tanh", "relu", "sum", "bias", "logsumexp",
             "matmul")  # fmt: skip
TOLERANCE = 1e-4  # of a sum of float32 results


def contestants() -> list[Contestant]:
    """The columns of the table."""
    return [
        Contestant("Needle, 2 threads", "needle_operators", {}, 2),
        Contestant("NumPy by hand, 2 threads", "numpy_operators", {}, 2),
        Contestant("PyTorch, 1 thread", "torch_operators", {}, 1),
        Contestant("PyTorch, 2 threads", "torch_operators", {}, 2),
    ]


def measure(effort: Effort) -> dict[str, Any]:
    """Every operator at every size, forward and with its gradient."""
    rows: dict[str, Any] = {}
    with field_of(contestants()) as field:
        for operator in OPERATORS:
            say(f"  {operator}")
            for size in SIZES:
                for backward in (False, True):
                    field.ask("select", operator=operator, size=size, backward=backward)
                    results = field.ask("check")
                    for name, difference in _differences(results).items():
                        if not difference <= TOLERANCE:
                            message = f"{name}: {operator} of {size} differs by {difference:.2g}"
                            field.drop(name, ContestantError(message))
                    rows[f"{operator} {size} {backward}"] = _timed(field, effort)
        return {"rows": rows, "missing": dict(field.missing)}


def _differences(results: dict[str, list[float]]) -> dict[str, float]:
    return differences(results, results["NumPy by hand, 2 threads"])


def _timed(field: Field, effort: Effort) -> dict[str, Any]:
    """Fewer rounds than elsewhere: there are many cells."""
    sizes, seconds = {}, {}
    for name, process in field.processes.items():
        answer = process.ask("time", groups=3, size=2)
        sizes[name], seconds[name] = group_size(min(answer["seconds"]), effort.seconds / 4), []
    for _ in range(2 if effort.quick else 5):
        for name, process in field.processes.items():
            seconds[name] += process.ask("time", groups=5, size=sizes[name])["seconds"][1:]
    return {name: summary(values) for name, values in seconds.items()}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """One table a size: columns by contestant, forward / forward and backward."""
    found = {f"eager_{size}": _table(result["rows"], size) for size in SIZES}
    last = f"eager_{SIZES[-1]}"
    found[last] = "\n".join([found[last], "", *absent(result["missing"])]).rstrip()
    return found


def _table(rows: dict[str, Any], size: int) -> str:
    columns = [row.name for row in contestants()]

    def cell(operator: str, name: str) -> str:
        both = [rows[f"{operator} {size} {backward}"].get(name) for backward in (False, True)]
        return " / ".join(duration(part and part["median"]) for part in both)

    lines = [
        [operator, *(cell(operator, name) for name in columns)]
        for operator in OPERATORS
        if f"{operator} {size} True" in rows
    ]
    return markdown([f"{size:,} elements", *columns], lines)
