"""What a run depends on beside its options: versions, processor, BLAS, threads."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

DISTRIBUTION = "needle-dl"
PACKAGE = Path(__file__).parent.parent


def versions() -> dict[str, str]:
    """Versions that results depend on, by name."""
    try:
        needle = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        needle = "not installed"
    return {
        "needle": needle,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
    }


def threads() -> int:
    """How many threads matrix products use."""
    return max((pool["num_threads"] for pool in _blas_pools()), default=1)


def set_threads(count: int | None) -> None:
    """Use so many threads for matrix products; None leaves it to BLAS."""
    if count is not None:
        threadpoolctl.threadpool_limits(count, "blas")


def blas() -> str:
    """Name, version and processor family of the BLAS library NumPy calls."""
    return (
        ", ".join(
            " ".join(
                str(pool[key])
                for key in ("internal_api", "version", "architecture")
                if pool.get(key)
            )
            for pool in _blas_pools()
        )
        or "unknown"
    )


def processor() -> str:
    """The processor's model and how many cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


def foreign_packages() -> list[str]:
    """Whatever else is called `needle` here: distributions, and packages on the import path."""
    names = {*metadata.packages_distributions().get("needle", []), *_installed("needle")}
    distributions = [f"distribution {name}" for name in sorted(names - {DISTRIBUTION})]
    folders = dict.fromkeys(Path(entry).resolve() for entry in sys.path)
    candidates = [folder / name for folder in folders for name in ("needle", "needle.py")]
    return distributions + [
        f"package {path}"
        for path in candidates
        if path != PACKAGE and (path.is_file() or (path / "__init__.py").exists())
    ]


def _installed(name: str) -> list[str]:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return []
    return [name]


def _blas_pools() -> list[dict[str, Any]]:
    return [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
