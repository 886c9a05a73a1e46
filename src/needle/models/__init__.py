"""Networks that are ready to train."""

from __future__ import annotations

from .mlp_resnet import MLPResNet, ResidualBlock
from .summary import Summary, summary

__all__ = ["MLPResNet", "ResidualBlock", "Summary", "summary"]
