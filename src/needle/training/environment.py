"""What a run depends on beside its options: versions, processor, BLAS, threads."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from .. import config
from ..native import llvm

DISTRIBUTION = "needle-dl"
PACKAGE = Path(__file__).parent.parent


def versions() -> dict[str, str]:
    """Versions that results depend on, by name."""
    return {
        "needle": _version(DISTRIBUTION) or "not installed",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
        "compiler": compiler(),
    }


def blas() -> str:
    """Name, version and processor family of the BLAS library NumPy calls."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    keys = ("internal_api", "version", "architecture")
    named = (" ".join(str(pool[key]) for key in keys if pool.get(key)) for pool in pools)
    return ", ".join(named) or "unknown"


def compiler() -> str:
    """What runs compiled steps: LLVM's version, and the vectors and processor it makes code for."""
    mode = config.jit_mode()
    if mode == "0":
        return "none (NEEDLE_JIT=0)"
    if mode == "numpy":
        return "NumPy (NEEDLE_JIT=numpy)"
    if reason := llvm.unavailable():
        return f"NumPy ({reason})"
    from llvmlite import binding  # loads LLVM: not at import time

    host, version = llvm.host(), ".".join(map(str, binding.llvm_version_info))
    return f"LLVM {version}, vectors of {host.lanes} floats, {host.cpu}"


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
    from importlib import metadata

    names = {*metadata.packages_distributions().get("needle", []), "needle"} - {DISTRIBUTION}
    distributions = [f"distribution {name}" for name in sorted(names) if _version(name)]
    folders = dict.fromkeys(Path(entry).resolve() for entry in sys.path)
    files = [folder / name for folder in folders for name in ("needle/__init__.py", "needle.py")]
    found = [
        file.parent if file.name == "__init__.py" else file for file in files if file.is_file()
    ]
    return distributions + [f"package {path}" for path in found if path != PACKAGE]


def _version(distribution: str) -> str | None:
    from importlib import metadata  # a tenth of the time that `import needle` takes

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
