"""Pictures of a run: learning curves, and the test images it got wrong. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from typing import Any, Literal

import numpy as np

from ..files import resolved, write_file

TRAIN, TEST, WRONG = "#8da0b3", "#c2410c", "#b91c1c"
CELL, HEADER = 0.92, 0.5  # inches: an image with its frame, and the line above all
INK, GRID = "#1f2933", "#e4e7eb"


def plot_curves(history: Sequence[Mapping[str, Any]], path: str | PathLike[str]) -> None:
    """Draw each metric of the train and test set, epoch by epoch, as a PNG.

    Args:
        history: records as `Trainer.fit` returns them.
        path: the file to write.
    """
    keys = [key for record in history for key in record if key.startswith(("train_", "test_"))]
    names = list(dict.fromkeys(key.split("_", 1)[1] for key in keys))
    figure = _figure(max(4.6 * len(names), 4.6), 3.6, "constrained")
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
    width, height = CELL * columns, CELL * 1.3 * rows + HEADER
    figure = _figure(width, height)
    figure.text(0.5, 1 - 0.5 * HEADER / height, title, color=INK, ha="center", va="center")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left, bottom = CELL * (column + 0.07), height - HEADER - CELL * (1.3 * row + 1.04)
        side = 0.86 * CELL
        axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
        _draw_image(axes, image, f"said {said[index]}", f"is {truth[index]}")
    _write(figure, path)


def _draw_image(axes: Any, image: np.ndarray, above: str, below: str) -> None:
    grey = image[..., 0] if image.shape[2:] == (1,) else image
    axes.imshow(grey, cmap="gray_r", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.set_title(above, color=WRONG, fontsize=8, pad=2)
    axes.set_xlabel(below, color=INK, fontsize=8, labelpad=2)


def _draw_metric(axes: Any, history: Sequence[Mapping[str, Any]], name: str) -> None:
    scale, unit, digits = (100, " %", 2) if name == "error" else (1, "", 4)
    for part, color in (("train", TRAIN), ("test", TEST)):
        values = [scale * float(record.get(f"{part}_{name}", np.nan)) for record in history]
        if not np.isnan(values).all():
            epochs = [record["epoch"] for record in history]
            label = f"{part} {values[-1]:.{digits}f}{unit}"
            axes.plot(epochs, values, color=color, marker="o", markersize=3.5, label=label)
    axes.set_title(name + unit.replace(" ", ", "), loc="left", color=INK, fontsize=11)
    axes.set_xlabel("epoch", color=INK)
    axes.set_xlim(0.5, max(record["epoch"] for record in history) + 0.5)
    axes.update_datalim([(1, 0)])
    axes.autoscale_view(scalex=False)  # with a margin, so that no point is cut in half
    if axes.dataLim.y0 == 0:
        axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, labelcolor=INK)


def _figure(width: float, height: float, layout: Literal["constrained"] | None = None) -> Any:
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("plots need matplotlib. Install: pip install 'needle-dl[train]'")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")


def _write(figure: Any, path: str | PathLike[str]) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    write_file(resolved(path), buffer.getvalue())
