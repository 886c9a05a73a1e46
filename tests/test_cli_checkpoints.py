"""`needle train --resume` and `needle eval` on checkpoints that are whole but say nonsense."""

import math
import re
from pathlib import Path

import pytest

from needle.cli import run
from needle.training import Checkpoint, CheckpointFolder
from tests.training.images import write_images


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder / "data")
    command = f"train --data {folder}/data --out {folder}/run --epochs 1 --batch-size 10"
    assert run(command.split()) == 0
    return folder / "run/checkpoints/epoch-0001"


def errors_on(checkpoint: Checkpoint, command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says of a run whose only checkpoint is the given one."""
    folder = Path("bad/checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write(folder / "epoch-0001")
    capsys.readouterr()
    assert run([*command.split(), "bad"]) == 1
    return capsys.readouterr().err


NONSENSE = [
    ("config", None),
    ("config options data", None),
    ("config options lr", math.nan),
    ("config options lr", 10**400),
    ("config options optimizer", "best"),
    ("config options optimizer", []),
    ("config options warmup", "a"),
    ("config options warmup", 1e308),
    ("config options unknown", 1),
    ("config architecture", "a"),
    ("config architecture", {}),
    ("config architecture classes", None),
    ("epoch", None),
    ("versions", []),
    ("history", [{}]),
    ("history", [{"epoch": 1, "test_loss": 0.5}]),
    ("history", [{"epoch": math.nan, "test_loss": 0.5, "test_error": 0.5}]),
    ("history", [{"epoch": 1, "test_loss": 0.5, "test_error": 10**400}]),
]


@pytest.mark.parametrize("command", ["eval", "train --resume"])
@pytest.mark.parametrize(("path", "value"), NONSENSE)
def test_nonsense_is_one_line(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    path: str,
    value: object,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint.read(trained)
    inside = checkpoint.state
    *outer, name = path.split()
    for key in outer:
        inside = inside[key]
    inside[name] = value
    message = r"needle: bad was not written by this version's `needle train` \(\w+: .*\n"
    assert re.fullmatch(message, errors_on(checkpoint, command, capsys))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"random": {"numpy": None, "philox": {"stream": "philox", "seed": 0, "draw": -1}}},
         r"set_state: .* is no state of a Philox stream"),
        ({"epoch": -(10**30)},
         r"restore: the checkpoint's state does not fit this trainer \(epoch -1"),
        ({"running": {"count": math.inf, "sums": {}}},
         "restore: the checkpoint's state does not fit this trainer"),
        ({"running": {"count": 1, "sums": {"loss": "a"}}},
         "restore: the checkpoint's state does not fit this trainer"),
    ],
)  # fmt: skip
def test_a_state_that_says_nonsense_is_one_line(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: dict[str, object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint.read(trained)
    checkpoint.state.update(change)
    said = errors_on(checkpoint, "train --resume", capsys)
    assert re.fullmatch(f"needle: {message}.*\n", said)


@pytest.mark.parametrize("name", ["test_error", "train_loss"])
def test_a_large_integer_in_the_history_is_a_number(
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint.read(trained)
    checkpoint.state["history"][0][name] = 10**30
    CheckpointFolder("large/checkpoints").add(checkpoint)
    assert run(["train", "--resume", "large"]) == 0
    assert capsys.readouterr().err == ""
    assert Path("large/curves.png").exists()
