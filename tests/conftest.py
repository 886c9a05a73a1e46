"""What every test runs under: fixed seeds, no display, a cache of its own, a hypothesis profile.

`HYPOTHESIS_PROFILE` chooses the profile: `ci`, the default, always tries the same cases; `fuzz`,
set by `make fuzz`, tries thousands of new ones.
"""

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")

# Before needle is imported, and for the processes that tests start: the user's cache of compiled
# code is neither relied on nor filled.
CACHE = os.environ["NEEDLE_CACHE"] = tempfile.mkdtemp(prefix="needle-tests-")

import needle as ndl

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=100)
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=5_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _seeds():
    """No test depends on how many numbers the ones before it drew, or on their stream."""
    np.random.seed(0)
    yield
    ndl.seed(None)


@pytest.fixture
def control_c() -> Iterator[Callable[["subprocess.Popen[Any]"], tuple[Any, Any]]]:
    """A function that interrupts a process started in this test; returns its output and errors.

    A background job of a shell ignores Ctrl-C, and so do the processes that it starts: not here.
    """

    def interrupt(process: "subprocess.Popen[Any]") -> tuple[Any, Any]:
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=60)
        finally:
            process.kill()  # where it went on; a process that has ended it leaves alone

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield interrupt
    signal.signal(signal.SIGINT, before)


def pytest_collection_finish():
    """Collecting, and counting what is alive, need not go through thousands of tests each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)
