"""Starting: time to import, and from the call that compiles to its first result."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .harness import problem
from .harness.figures import summary
from .harness.process import ROOT, Contestant, ContestantError, Process
from .harness.rounds import Effort, say
from .harness.table import duration, markdown
from .step import absent

IMPORTS = ("numpy", "needle", "torch", "jax")
LAZY = ("llvmlite", "tqdm", "click", "matplotlib", "safetensors")

_TIMED = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start, *[name for name in {lazy!r} if name in sys.modules])
"""


def measure(effort: Effort) -> dict[str, Any]:
    """Imports in turn, then compilations: each in a new process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = problem.write(folder / "problem.npz", batch=100, hidden=100)
        compiling: dict[str, Any] = {"rows": {}, "missing": {}}
        for row in _compilers(str(path)):
            say(f"  compiling: {row.name}")
            try:
                compiling["rows"][row.name] = _compile(row, folder, 1 if effort.quick else 3)
            except ContestantError as error:
                compiling["missing"][row.name] = str(error)[:300]
    return {"imports": _imports(2 if effort.quick else 9), "compiling": compiling}


def _imports(rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    loaded: dict[str, list[str]] = {}
    absent_here = set()
    for number in range(rounds + 1):  # the first round reads the files into the system's cache
        for name in IMPORTS:
            code = _TIMED.format(module=name, lazy=LAZY)
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode:
                absent_here.add(name)
                continue
            taken, *loaded[name] = done.stdout.split()
            if number:
                seconds[name].append(float(taken))
    return {
        name: {**summary(seconds[name]), "loads": loaded[name]}
        for name in IMPORTS
        if name not in absent_here
    }


def _compilers(path: str) -> list[Contestant]:
    common = {"task": "training", "path": path, "dropout": problem.DROPOUT}
    return [
        Contestant("Needle jit", "needle_mlp", {**common, "compiled": True}),
        Contestant("JAX jit", "jax_mlp", common),
        Contestant("PyTorch compile", "torch_mlp", {**common, "compiled": True, "fused": True}),
    ]


def _compile(row: Contestant, folder: Path, repetitions: int) -> dict[str, Any]:
    """Seconds to the first result with an empty cache, and with the one that this left behind."""
    seconds: dict[str, list[float]] = {"cold": [], "cached": []}
    for number in range(repetitions):
        cache = folder / f"{row.module}-{number}"
        for kind in ("cold", "cached"):
            contestant = Contestant(
                row.name, row.module, row.settings, row.threads, _caches_in(cache)
            )
            with Process(contestant) as process:
                seconds[kind].append(process.ask("first_result"))
    return {kind: summary(values) for kind, values in seconds.items()}


def _caches_in(folder: Path) -> dict[str, str]:
    """Variables that put each library's cache of compiled code into a folder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return {
        "NEEDLE_CACHE": os.fspath(folder),
        "TORCHINDUCTOR_CACHE_DIR": os.fspath(folder),
        "JAX_COMPILATION_CACHE_DIR": os.fspath(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Imports, and compilations."""
    imports = [
        [name, duration(row["median"]), duration(row["best"])]
        for name, row in result["imports"].items()
    ]
    compiling = [
        [name, duration(row["cold"]["median"]), duration(row["cached"]["median"])]
        for name, row in result["compiling"]["rows"].items()
    ]
    first = markdown(["compiling a step", "nothing cached", "cached"], compiling)
    return {
        "imports": markdown(["import", "median", "best"], imports),
        "compiling": "\n".join([first, "", *absent(result["compiling"]["missing"])]).rstrip(),
    }
