"""What every test runs under: a fixed NumPy seed, no display, and a hypothesis profile.

`HYPOTHESIS_PROFILE` chooses the profile: `ci`, the default, always tries the same cases; `fuzz`,
set by `make fuzz`, tries thousands of new ones.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("MPLBACKEND", "Agg")

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
def _numpy_seed():
    """No test depends on how many numbers the ones before it drew."""
    np.random.seed(0)
