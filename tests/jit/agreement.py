"""When compiled and eager results agree: same shapes and dtypes, values but for rounding."""

import numpy as np

# Where sums are long or functions steep, rounding errors add up: a multiple of the dtype's spacing.
ROUNDING = {2: 4e-3, 4: 2e-6, 8: 1e-13}


def expect_agreement(ours, theirs, length=1, scale=1.0):
    """Two arrays agree.

    Args:
        ours, theirs: The arrays; `theirs` is what NumPy says.
        length: Of the longest sum behind an element.
        scale: Of the numbers that were summed; where they cancel, errors remain.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if theirs.dtype.kind != "f":
        np.testing.assert_array_equal(ours, theirs)
        return
    tolerance = ROUNDING[theirs.dtype.itemsize] * max(length, 1) ** 0.5
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale)
