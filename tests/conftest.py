"""What every test runs under: fixed seeds, no display, a cache of its own, a hypothesis profile.

`HYPOTHESIS_PROFILE` chooses the profile: `ci`, the default, always tries the same cases; `fuzz`,
set by `make fuzz`, tries thousands of new ones.
"""

import gc
import os
import shutil
import tempfile

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


def pytest_collection_finish():
    """Collecting, and counting what is alive, need not go through thousands of tests each time."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)
