"""Training: the loop, its metrics, checkpoints and pictures."""

from .callback import Callback
from .callbacks import Checkpoints, MetricsFile, Progress
from .checkpoint import Checkpoint, CheckpointFolder
from .metrics import Averages, error_rate
from .plots import plot_curves, plot_mistakes
from .trainer import Trainer

__all__ = [
    "Averages", "Callback", "Checkpoint", "CheckpointFolder", "Checkpoints", "MetricsFile",
    "Progress", "Trainer", "error_rate", "plot_curves", "plot_mistakes",
]  # fmt: skip
