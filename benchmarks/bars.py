"""What Needle sets out to reach, against what was measured: ratios, and what a call must cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import calls, products
from .harness.figures import fastest, ratio
from .harness.table import markdown, significant
from .step import needle_and_peers, needle_rows

Parts = Mapping[str, Any]
PEERS_OF_INFERENCE = ("ONNX Runtime", "JAX jit")


@dataclass(frozen=True)
class Bar:
    """A figure that should be at least, or at most, `bar`.

    Args:
        text: what is compared.
        part: the part of the benchmarks that measures it.
        bar: the figure.
        at_least: whether more is better.
        measured: the figure from the part's result, None where a row is missing.
        unit: times, unless it is no ratio.
    """

    text: str
    part: str
    bar: float
    at_least: bool
    measured: Callable[[Any], float | None]
    unit: str = "×"

    def line(self, parts: Parts) -> list[str]:
        """A row of the table."""
        value = self.measured(parts[self.part]) if self.part in parts else None
        bar = f"{'≥' if self.at_least else '≤'} {self.bar:g}{self.unit}"
        if value is None:
            return [self.text, bar, "–", "not measured"]
        met = value >= self.bar if self.at_least else value <= self.bar
        return [self.text, bar, f"{significant(value)}{self.unit}", "yes" if met else "**no**"]


def peer_over_needle(rows: Parts) -> float | None:
    """Best peer's time by Needle's best row's."""
    ours, theirs = needle_and_peers(rows)
    return _quotient(rows, theirs, ours)


def _jit_over_floor(size: Parts) -> float | None:
    name = "Needle jit, 1 thread"
    if not _counts(size["rows"], name):
        return None
    return ratio(size["rows"][name]["median"], size["flops"] / size["hardware"]["peak"])


def _inference(rows: Parts) -> float | None:
    """Best of ONNX Runtime and JAX by Needle's best."""
    ours = fastest(rows, needle_rows(rows))
    theirs = fastest(rows, [name for name in rows if name.startswith(PEERS_OF_INFERENCE)])
    return _quotient(rows, theirs, ours)


def _memory(result: Parts) -> float | None:
    """Memory of the compiled MNIST training by the smallest peer's."""
    rows = result["rows"]
    _, theirs = needle_and_peers(rows)
    return _quotient(rows, "Needle jit, 2 threads", theirs)


def _loaded(result: Parts) -> float | None:
    return _quotient(result["loaded"], "Needle jit, threads by timing", "Needle jit, 1 thread")


def _eager_step(result: Parts) -> float | None:
    return _quotient(
        result["small"]["rows"], "Needle eager, 2 threads", "PyTorch eager, default Adam, 2 threads"
    )


def _loading(result: Parts) -> float | None:
    eager = fastest(result["rows"], [n for n in result["rows"] if n.startswith("Needle eager")])
    loading = result["loading"]
    return ratio(loading and loading["median"], eager and result["rows"][eager]["median"])


def _compiling(result: Parts, kind: str) -> float | None:
    row = result["compiling"]["rows"].get("Needle jit")
    return row and row[kind]["median"]


def _least_product(result: Parts) -> float | None:
    if "sweep" not in result:
        return None
    return min(least for rows in result.values() for least in products.ratios(rows).values())


def _least_step_product(result: Parts) -> float | None:
    return min(products.ratios(result["bars"]).values())


def _counts(rows: Parts, name: str | None) -> bool:
    """Whether a row is there; one of Needle's must also be what its name says."""
    return name in rows and (name in needle_rows(rows) or not name.startswith("Needle"))


def _quotient(rows: Parts, above: str | None, below: str | None) -> float | None:
    if not (_counts(rows, above) and _counts(rows, below)):
        return None
    return ratio(rows[above]["median"], rows[below]["median"])


BARS = (
    Bar("MNIST step: best peer / best Needle", "step", 4, True,
        lambda r: peer_over_needle(r["small"]["rows"])),
    Bar("MNIST step, one thread: Needle jit / FMA floor", "step", 1.35, False,
        lambda r: _jit_over_floor(r["small"])),
    Bar("batch 256, hidden 512: best peer / best Needle", "step", 1.4, True,
        lambda r: peer_over_needle(r["large"]["rows"])),
    Bar("MNIST step, eager, 2 threads: Needle / PyTorch with its default Adam", "step", 1, False,
        _eager_step),
    Bar("inference, batch 1: best of ONNX Runtime and JAX / Needle", "inference", 2, True,
        lambda r: _inference(r["1"]["rows"])),
    Bar("inference, batch 256: best of ONNX Runtime and JAX / Needle", "inference", 1.2, True,
        lambda r: _inference(r["256"]["rows"])),
    Bar("MNIST step: Python's share of a call", "calls", 8, False,
        lambda r: 1e6 * calls.share(r, calls.STEP), " µs"),
    Bar("inference, batch 1: Python's share of a call", "calls", 4, False,
        lambda r: 1e6 * calls.share(r, calls.INFERENCE), " µs"),
    Bar("compiling the MNIST step, nothing cached", "start", 1, False,
        lambda r: _compiling(r, "cold"), " s"),
    Bar("compiling the MNIST step, cached", "start", 0.15, False,
        lambda r: _compiling(r, "cached"), " s"),
    Bar("an epoch of MNIST: best peer / best Needle", "epoch", 4, True,
        lambda r: peer_over_needle(r["rows"])),
    Bar("loading an epoch's batches / eager epoch", "epoch", 0.1, False, _loading),
    Bar("peak memory of training: Needle jit / smallest peer", "memory", 0.5, False, _memory),
    Bar("one core busy: Needle jit / its one thread", "loaded", 1.25, False, _loaded),
    Bar("products of the steps: OpenBLAS / Needle, least", "products", 1, True,
        _least_step_product),
    Bar("all products: OpenBLAS / Needle, least", "products", 0.9, True, _least_product),
)  # fmt: skip


def table(parts: Parts) -> str:
    """All bars."""
    lines = [bar.line(parts) for bar in BARS]
    return markdown(["what", "bar", "measured", "reached"], lines)
