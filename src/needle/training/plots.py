"""Pictures of a run: learning curves, and the test images it got wrong. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_file

TRAIN, TEST, WRONG = "#8da0b3", "#c2410c", "#b91c1c"
INK, GRID = "#1f2933", "#e4e7eb"


def plot_curves(history: Sequence[Mapping[str, Any]], path: str | PathLike[str]) -> None:
    """Draw each metric of the train and test set, epoch by epoch, as a PNG.

    Args:
        history: records as `Trainer.fit` returns them.
        path: the file to write.
    """
    names = list(
        dict.fromkeys(
            key.split("_", 1)[1]
            for record in history
            for key in record
            if key.startswith(("train_", "test_"))
        )
    )
    figure = _figure(max(4.6 * len(names), 4.6), 3.6)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        _draw_metric(axes, history, name)
    _write(figure, path)


def plot_mistakes(
    images: np.ndarray,
    said: np.ndarray,
    truth: np.ndarray,
    path: str | PathLike[str],
    *,
    title: str = "",
    columns: int = 12,
) -> None:
    """Draw images with what the model said and the truth, as a PNG.

    Args:
        images: (n, height, width) or (n, height, width, channels).
        said: (n,) class indices the model gave.
        truth: (n,) class indices that were right.
        path: the file to write.
        title: a line above.
        columns: images in a row, at most.
    """
    columns = min(columns, max(len(images), 6))
    rows = max(1, -(-len(images) // columns))
    figure = _figure(0.92 * columns, 1.16 * rows + 0.9)
    figure.suptitle(title, color=INK, fontsize=11)
    for index, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(image.squeeze(), cmap="gray_r", interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(GRID)
        axes.set_title(f"said {said[index]}", color=WRONG, fontsize=8, pad=2)
        axes.set_xlabel(f"is {truth[index]}", color=INK, fontsize=8, labelpad=2)
    _write(figure, path)


def _draw_metric(axes: Any, history: Sequence[Mapping[str, Any]], name: str) -> None:
    scale, unit, digits = (100, " %", 2) if name == "error" else (1, "", 4)
    for part, color in (("train", TRAIN), ("test", TEST)):
        values = [scale * record.get(f"{part}_{name}", np.nan) for record in history]
        if not np.isnan(values).all():
            epochs = [record["epoch"] for record in history]
            label = f"{part} {values[-1]:.{digits}f}{unit}"
            axes.plot(epochs, values, color=color, marker="o", markersize=3.5, label=label)
    axes.set_title(name + unit.replace(" ", ", "), loc="left", color=INK, fontsize=11)
    axes.set_xlabel("epoch", color=INK)
    axes.set_xlim(0.5, max(record["epoch"] for record in history) + 0.5)
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, labelcolor=INK)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def _write(figure: Any, path: str | PathLike[str]) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_file(Path(path).resolve(), buffer.getvalue())
