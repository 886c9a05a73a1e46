"""The pictures are PNG files of sensible size, whatever there is to draw."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from needle.training import plot_curves, plot_mistakes, plots

matplotlib = pytest.importorskip("matplotlib")


def read_png(path: Path) -> np.ndarray:
    image = matplotlib.image.imread(path)
    assert image.std() > 0.01, "nothing is drawn"
    return image


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_show_every_metric(tmp_path: Path, epochs: int) -> None:
    history = [
        {"epoch": e, "step": 10 * e, "lr": 0.1, "train_loss": 1 / e, "test_loss": 2 / e}
        for e in range(1, epochs + 1)
    ]
    plot_curves(history, tmp_path / "loss.png")
    plot_curves(
        [r | {"train_error": 0.1, "test_error": 0.2} for r in history], tmp_path / "two.png"
    )
    loss, two = read_png(tmp_path / "loss.png"), read_png(tmp_path / "two.png")
    assert two.shape[1] > 1.5 * loss.shape[1]


@pytest.mark.parametrize("losses", [(3.0, 2.0), (-2.0, -3.0), (1.0, -1.0), (91.0, 89.0)])
def test_curves_show_every_point_and_zero(
    tmp_path: Path, losses: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses such as a negative log-likelihood may be negative, and near to each other."""
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "_write", lambda figure, path: drawn.append(figure))
    history = [{"epoch": e, "train_loss": x, "test_loss": x} for e, x in enumerate(losses, 1)]
    plot_curves(history, tmp_path / "loss.png")
    low, high = drawn[0].axes[0].get_ylim()
    margin = 0.02 * (high - low)
    assert low <= 0 <= high
    assert all(low + margin < loss < high - margin for loss in losses)


@pytest.mark.parametrize("count", [0, 1, 12, 13])
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (5, 7, 3), (1, 9, 1), (1, 1, 1)])
def test_mistakes_of_any_number_and_kind(
    tmp_path: Path, count: int, shape: tuple[int, ...]
) -> None:
    images = np.random.rand(count, *shape)
    said, truth = np.arange(count), np.arange(count)[::-1]
    plot_mistakes(images, said, truth, tmp_path / "m.png", title=f"{count} mistakes")
    assert read_png(tmp_path / "m.png").shape[0] > 100


def test_a_relative_path_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plot_mistakes(np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), "m.png", title="none")
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


def test_without_matplotlib_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"plots need matplotlib. Install: pip install"):
        plot_curves([{"epoch": 1, "train_loss": 1.0}], tmp_path / "loss.png")
