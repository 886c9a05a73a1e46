"""Measure, and write the tables of the READMEs: `make bench`, `python benchmarks/run.py`.

run.py                    everything; keeps results.json and the tables of the READMEs up to date
run.py step inference     these parts only
run.py --quick            a look in a few minutes: prints the tables and writes nothing
run.py --tables           write the README's tables again from results.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[0] = str(HERE.parent)  # run as a file or as a module: the package is found

from benchmarks import (  # noqa: E402
    bars,
    calls,
    eager,
    epoch,
    inference,
    loaded,
    memory,
    networks,
    products,
    start,
    step,
    summary,
)
from benchmarks.harness import machine  # noqa: E402
from benchmarks.harness.rounds import FULL, QUICK, Effort, say  # noqa: E402
from benchmarks.harness.table import filled  # noqa: E402

PARTS: dict[str, Any] = {
    "step": step,
    "networks": networks,
    "inference": inference,
    "calls": calls,
    "epoch": epoch,
    "memory": memory,
    "start": start,
    "loaded": loaded,
    "eager": eager,
    "products": products,
}
RESULTS, README = HERE / "results.json", HERE / "README.md"
FRONT = HERE.parent / "README.md"


def measure(names: list[str], effort: Effort) -> dict[str, Any]:
    """Results of the parts, by name; each says when and how busy the machine was."""
    results: dict[str, Any] = {}
    for name in names:
        say(f"{name}: {PARTS[name].__doc__.splitlines()[0]}")
        before, began = machine.load(), time.perf_counter()
        result = PARTS[name].measure(effort)
        minutes = (time.perf_counter() - began) / 60
        say(f"  {minutes:.1f} minutes; load before {before}")
        results[name] = {
            "result": result,
            "machine": machine.description(),
            "load_before": before,
            "date": time.strftime("%Y-%m-%d"),
            "quick": effort.quick,
        }
    return results


def tables(results: dict[str, Any]) -> dict[str, str]:
    """Every table that can be made of the results, by the name of its place in the README."""
    parts = {name: item["result"] for name, item in results.items()}
    found = {"bars": bars.table(parts), "machine": machine.table(results)}
    for name, result in parts.items():
        found |= PARTS[name].tables(result)
    return found


def write(results: dict[str, Any]) -> None:
    """Keep the results, and bring the tables of both READMEs up to date."""
    _replace(RESULTS, json.dumps(results, indent=1) + "\n")
    _replace(README, filled(README.read_text(encoding="utf-8"), tables(results)))
    front = {"summary": summary.table(results)}
    _replace(FRONT, filled(FRONT.read_text(encoding="utf-8"), front))


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main() -> None:
    """Read the options and do as they say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few rounds; nothing is written")
    parser.add_argument("--tables", action="store_true", help="only write the tables again")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if options.tables:
        write(known)
        return
    effort = QUICK if options.quick else FULL
    results = measure(options.parts or list(PARTS), effort)
    for name, text in tables(results).items():
        print(f"\n{name}\n\n{text}")
    if not options.quick:
        write({**known, **results})


if __name__ == "__main__":
    main()
