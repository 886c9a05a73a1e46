"""Optimisers and learning-rate schedules."""

from __future__ import annotations

from .. import hints
from .optimizer import Optimizer
from .rules import SGD, Adam, AdamW
from .schedule import CosineLR, Schedule, StepLR

__all__ = ["SGD", "Adam", "AdamW", "CosineLR", "Optimizer", "Schedule", "StepLR"]

hints.give(__name__, hints.OPTIM)
