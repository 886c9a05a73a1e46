"""What the results were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .process import ROOT
from .table import markdown

PACKAGES = ("needle-dl", "numpy", "llvmlite", "torch", "jax", "jaxlib", "onnxruntime")


def description() -> dict[str, Any]:
    """Processor, system and versions."""
    return {
        "commit": commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def commit() -> str | None:
    """The commit that was measured, with a + where files of the library differ from it."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return None if done.returncode else done.stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    return name and name + ("+" if git("status", "--porcelain", "--", "src") else "")


def load() -> float | None:
    """Processes that wanted to run in the last minute, on average; None where not known."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def table(results: dict[str, Any]) -> str:
    """Where and when each part was measured."""
    lines = []
    for name, item in results.items():
        machine = item["machine"]
        lines.append(
            [
                name,
                item["date"],
                machine["commit"] or "–",
                f"{machine['processor']}, {machine['cores']} cores",
                f"{item['load_before']}",
                ", ".join(f"{p} {v}" for p, v in machine["packages"].items() if v),
            ]
        )
    return markdown(["part", "date", "commit", "machine", "load before", "versions"], lines)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
