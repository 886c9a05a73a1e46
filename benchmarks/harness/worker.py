"""The process of one contestant: builds it, then does what it is asked, one JSON line each.

Run as `python -m benchmarks.harness.worker MODULE SETTINGS`, by `harness.process` only. Requests
are `{"method": …, "arguments": {…}}`, answers `{"result": …}` or `{"error": …}`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any


class Worker:
    """A contestant, and what can be asked of any."""

    def __init__(self, subject: Any) -> None:
        self.subject = subject

    def answer(self, method: str, arguments: dict[str, Any]) -> Any:
        """The worker's own methods come first, then the contestant's."""
        owner = self if method in ("time", "timed", "ran", "peak_memory") else self.subject
        return getattr(owner, method)(**arguments)

    def time(self, groups: int, size: int) -> dict[str, Any]:
        """Seconds a run in each group of `size` runs, and the processors used meanwhile."""
        seconds = []
        wall, processors = perf_counter(), process_time()
        for _ in range(groups):
            start = perf_counter()
            self.subject.run(size)
            seconds.append((perf_counter() - start) / size)
        used = (process_time() - processors) / (perf_counter() - wall)
        return {"seconds": seconds, "processors": used}

    def timed(self, method: str, **arguments: Any) -> dict[str, Any]:
        """One call of a contestant's method: its result, seconds and processors used."""
        wall, processors = perf_counter(), process_time()
        result = getattr(self.subject, method)(**arguments)
        seconds = perf_counter() - wall
        used = (process_time() - processors) / seconds
        return {"result": result, "seconds": seconds, "processors": used}

    def ran(self) -> str | None:
        """What executed the work, where a contestant can tell."""
        return self.subject.executor() if hasattr(self.subject, "executor") else None

    def peak_memory(self) -> int:
        """The most bytes of memory that this process has held at once."""
        status = Path("/proc/self/status")
        if status.exists():  # what getrusage says on Linux includes the parent before exec
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Serve until the requests end."""
    # Libraries print what they like: that goes to stderr, and the answers to what was stdout.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def attempt(action: Any, *arguments: Any) -> Any:
        try:
            result = action(*arguments)
        except Exception as error:  # whatever it is, the asker judges it
            message = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
            print(json.dumps({"error": message}), file=answers)
            return None
        shown = None if isinstance(result, Worker) else result
        print(json.dumps({"result": shown}), file=answers)
        return result

    def start() -> Worker:
        module = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
        return Worker(module.build(**json.loads(sys.argv[2])))

    worker = attempt(start)
    for line in sys.stdin if worker is not None else ():
        request = json.loads(line)
        attempt(worker.answer, request["method"], request["arguments"])


if __name__ == "__main__":
    main()
