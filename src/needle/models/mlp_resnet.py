"""The MLP ResNet: residual blocks of fully connected layers."""

from __future__ import annotations

from typing import Any

from .. import nn
from ..shapes import as_count


class ResidualBlock(nn.Sequential):
    """ReLU(x + norm(Linear(Dropout(ReLU(norm(Linear(x))))))).

    Args:
        dim: Features in and out.
        hidden_dim: Features inside.
        norm: Normalisation layer, called with the number of features.
        drop_prob: Probability of dropout.

    Example:
        >>> import needle as ndl
        >>> ndl.models.ResidualBlock(8, 4)(ndl.init.ones(2, 8)).shape
        (2, 8)
    """

    def __init__(
        self, dim: int, hidden_dim: int, norm: Any = nn.BatchNorm1d, drop_prob: float = 0.1
    ) -> None:
        inner = nn.Sequential(
            nn.Linear(dim, hidden_dim),
            norm(hidden_dim),
            nn.ReLU(),
            nn.Dropout(drop_prob),
            nn.Linear(hidden_dim, dim),
            norm(dim),
        )
        super().__init__(nn.Residual(inner), nn.ReLU())


class MLPResNet(nn.Sequential):
    """Linear, ReLU, residual blocks of half the width inside, Linear.

    Modules are made, and so their weights drawn, in the order in which they run.

    Args:
        dim: Input features.
        hidden_dim: Width.
        num_blocks: Number of residual blocks.
        num_classes: Outputs.
        norm: Normalisation layer, called with the number of features.
        drop_prob: Probability of dropout.

    Shape:
        Input (batch, dim), output (batch, num_classes).

    Example:
        >>> import needle as ndl
        >>> ndl.models.MLPResNet(784)(ndl.init.ones(2, 784)).shape
        (2, 10)
    """

    def __init__(
        self,
        dim: int,
        hidden_dim: int = 100,
        num_blocks: int = 3,
        num_classes: int = 10,
        norm: Any = nn.BatchNorm1d,
        drop_prob: float = 0.1,
    ) -> None:
        super().__init__(
            nn.Linear(dim, hidden_dim),
            nn.ReLU(),
            *[
                ResidualBlock(hidden_dim, hidden_dim // 2, norm, drop_prob)
                for _ in range(as_count(num_blocks, "MLPResNet", "num_blocks", 0))
            ],
            nn.Linear(hidden_dim, num_classes),
        )
