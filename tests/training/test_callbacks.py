"""What the callbacks leave on disk and on the screen."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.errors import ArgumentError, CheckpointError
from needle.training import (
    Checkpoint,
    CheckpointFolder,
    Checkpoints,
    MetricsFile,
    Progress,
    Trainer,
    error_rate,
)


def trainer_with(*callbacks: Any, **more: Any) -> Trainer:
    data = ndl.data.NDArrayDataset(np.eye(6, 3, dtype="float32"), np.arange(6) % 2)
    model = nn.Linear(3, 2)
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.25)
    more.setdefault("train_loader", ndl.data.DataLoader(data, 2))
    return Trainer(model, nn.SoftmaxLoss(), optimizer, callbacks=callbacks, **more)


def test_the_metrics_file_is_the_history(tmp_path: Path) -> None:
    trainer = trainer_with(MetricsFile(tmp_path / "run" / "metrics.jsonl"))
    trainer.fit(2)
    trainer.fit(3)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == trainer.history


def test_a_metric_may_be_any_one_number(tmp_path: Path) -> None:
    def metric(output: np.ndarray, target: np.ndarray) -> np.float32:
        return np.abs(output).mean(dtype=np.float32)  # json knows no NumPy numbers but float64

    callbacks = MetricsFile(tmp_path / "metrics.jsonl"), Checkpoints(tmp_path / "checkpoints")
    history = trainer_with(*callbacks, metrics={"size": metric}).fit(2)
    assert type(history[-1]["train_size"]) is float


def test_the_metrics_file_is_cut_back_to_the_history(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    trainer = trainer_with(MetricsFile(path))
    trainer.epoch, trainer.history = 1, [{"epoch": 1}]
    trainer.fit(1)
    assert path.read_text() == '{"epoch": 1}\n'


def test_a_full_disk_is_named() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'$"):
        MetricsFile("/dev/full").on_epoch(trainer_with(), {"epoch": 1})


def test_checkpoints_come_at_the_start_after_epochs_and_within(tmp_path: Path) -> None:
    callback = Checkpoints(tmp_path, every_steps=2, config={"width": 3})
    callback.folder.keep = 9
    trainer_with(callback).fit(2)
    names = ["epoch-0000", "epoch-0000-step-0000002", "epoch-0001", "epoch-0001-step-0000004"]
    names += ["epoch-0001-step-0000006", "epoch-0002"]
    assert [path.name for path in callback.folder.paths()] == names
    state = callback.folder.newest().state
    assert state["config"] == {"width": 3}
    assert state["threads"] == ndl.get_num_threads()
    assert state["versions"]["needle"] == ndl.__version__


def test_a_folder_with_later_checkpoints_is_not_written(tmp_path: Path) -> None:
    """The folder keeps the latest: those of a training that begins anew would be gone at once."""
    trainer_with(Checkpoints(tmp_path)).fit(5)
    kept = CheckpointFolder(tmp_path).paths()
    anew = trainer_with(Checkpoints(tmp_path))
    with pytest.raises(CheckpointError, match=r"epoch-0005 is ahead of .* at epoch 0. Restore it"):
        anew.fit(2)
    anew.restore(Checkpoint.read(kept[0]))
    with pytest.raises(CheckpointError, match=r"epoch-0005 is ahead of .* at epoch 3. Restore it"):
        anew.fit(4)
    assert CheckpointFolder(tmp_path).paths() == kept
    (kept[2] / "state.json").write_text("damaged")
    anew.restore(Checkpoint.read(kept[1]))
    anew.fit(6)
    assert CheckpointFolder(tmp_path).newest().state["epoch"] == 6


def test_a_training_that_is_refused_leaves_the_metrics_of_the_run_before(tmp_path: Path) -> None:
    files = MetricsFile(tmp_path / "metrics.jsonl"), Checkpoints(tmp_path / "checkpoints")
    trainer_with(*files).fit(2)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="is ahead"):
        trainer_with(*files).fit(2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before != b""


def test_checkpoints_say_what_they_need(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"every_steps=0. Give at least 1, or None"):
        Checkpoints(tmp_path, every_steps=0)
    batch = ndl.Tensor(np.eye(3)), ndl.Tensor([0, 1, 0])
    trainer = trainer_with(Checkpoints(tmp_path, every_steps=1), train_loader=[batch])
    with pytest.raises(ArgumentError, match=r"every_steps=1 needs a training loader with"):
        trainer.fit(1)


def test_progress_is_one_line_an_epoch_away_from_a_terminal() -> None:
    stream = io.StringIO()
    trainer = trainer_with(Progress(stream), metrics={"error": error_rate})
    trainer.fit(12)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12
    last = trainer.history[-1]
    metrics = f"loss {last['train_loss']:.4f} error {last['train_error']:6.2%}"
    assert lines[-1].startswith(f"epoch 12/12  train {metrics}  lr 0.25")
    assert lines[0].startswith("epoch  1/12  train loss")
    assert not math.isnan(trainer.samples_per_second)


def test_progress_without_an_output_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)  # what Python makes of a closed one
    assert len(trainer_with(Progress()).fit(2)) == 2


class Terminal(io.StringIO):
    """A stream that is a terminal's."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("installed", [True, False])
def test_a_terminal_shows_a_bar_where_tqdm_is_installed(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = Terminal()
    trainer_with(Progress(stream)).fit(2)
    assert ("| 0.00/6.00 [" in stream.getvalue()) is installed
    assert "epoch 2/2  train loss" in stream.getvalue()
