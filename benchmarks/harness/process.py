"""The asking side of `harness.worker`: one process a contestant, stopped while others have a turn.

A library's idle threads may spin for milliseconds after its last call. A worker is therefore
stopped by a signal as soon as it has answered and continued when it is asked again: interleaved,
and undisturbed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]

# OpenBLAS is to choose its kernels by this processor, not by a stand-in; threads are set below.
_REMOVED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "XLA_FLAGS", "NPROC", "PJRT_NPROC")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class ContestantError(Exception):
    """A contestant could not be built, or not do what it was asked."""


@dataclass(frozen=True)
class Contestant:
    """A row of a table.

    Args:
        name: the row's label.
        module: module of `benchmarks.peers` that does the work.
        settings: arguments of its `build`.
        threads: how many the library may use; None leaves it to the library.
        environment: further variables of its process.
    """

    name: str
    module: str
    settings: dict[str, Any]
    threads: int | None = None
    environment: dict[str, str] = field(default_factory=dict)


def environment(contestant: Contestant) -> dict[str, str]:
    """The variables that a contestant's process sees."""
    variables = {
        name: value for name, value in os.environ.items() if name not in _REMOVED + _THREADS
    }
    threads = contestant.threads
    if threads is not None:
        variables |= dict.fromkeys(_THREADS, str(threads))
        variables |= dict.fromkeys(("NPROC", "PJRT_NPROC"), str(threads))  # read by XLA
    return variables | contestant.environment


class Process:
    """A running contestant.

    Raises:
        ContestantError: it could not be built, with its own message.
    """

    def __init__(self, contestant: Contestant) -> None:
        settings = {**contestant.settings, "threads": contestant.threads}
        command = ["-m", "benchmarks.harness.worker", contestant.module, json.dumps(settings)]
        self.name = contestant.name
        self.threads = contestant.threads
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment(contestant),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._answer()
        except ContestantError:
            self.close()
            raise

    def ask(self, method: str, /, **arguments: Any) -> Any:
        """The result of one of its methods.

        Raises:
            ContestantError: the method failed, or the process is gone.
        """
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps({"method": method, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ContestantError(f"{self.name}: the process is gone") from None
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._signal("SIGCONT")
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise ContestantError(f"{self.name}: the process ended with {self._process.wait()}")
        self._signal("SIGSTOP")
        answer = json.loads(line)
        if "error" in answer:
            raise ContestantError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))
