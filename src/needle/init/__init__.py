"""Initialisers: names over the operators that create tensors and draw random numbers.

Every one takes `device=None`, `dtype="float32"` and `requires_grad=False` by keyword. Random
numbers come from the ambient stream (see `needle.random`): NumPy's global state, unless
`ndl.seed(n)` was called.
"""

from __future__ import annotations

from .basic import constant, one_hot, ones, ones_like, rand, randb, randn, zeros, zeros_like
from .scaled import kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform

__all__ = [
    "constant", "kaiming_normal", "kaiming_uniform", "one_hot", "ones", "ones_like", "rand",
    "randb", "randn", "xavier_normal", "xavier_uniform", "zeros", "zeros_like",
]  # fmt: skip
