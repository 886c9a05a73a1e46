"""Checkpoint folders: what is written is read, and what is damaged is refused by name."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from needle import files
from needle.errors import ArgumentError, CheckpointError
from needle.training.checkpoint import Checkpoint, CheckpointFolder


def sample(epoch: int = 1, **more: Any) -> Checkpoint:
    return Checkpoint(
        {"0.weight": np.full((3, 2), epoch, np.float32), "1.running": np.arange(2.0)},
        {"t": np.array(epoch), "m.0": np.ones((2, 3)).T},
        {"epoch": epoch, "step": 10 * epoch, **more},
    )


def test_a_checkpoint_reads_back_as_written(tmp_path: Path) -> None:
    state = {"loss": 0.1 + 0.2, "random": {"key": [1, 2**63]}, "schedule": None}
    sample(**state).write(tmp_path / "c")
    result = Checkpoint.read(tmp_path / "c")
    np.testing.assert_equal(result.model, sample().model)
    np.testing.assert_equal(result.optimizer, sample().optimizer)
    assert {key: result.state[key] for key in state} == state
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_the_state_is_json_with_the_checksums_of_the_files(tmp_path: Path) -> None:
    sample().write(tmp_path / "c")
    state = json.loads((tmp_path / "c" / "state.json").read_text())
    assert set(state["files"]) == {"model.safetensors", "optimizer.safetensors"}
    assert state["format"] == 1


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_any_changed_byte_is_refused_by_name(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    sample().write(tmp_path / "c")
    intact_state = Checkpoint.read(tmp_path / "c").state
    damaged = bytearray((tmp_path / "c" / name).read_bytes())
    position = data.draw(st.integers(0, len(damaged) - 2))  # the last byte of JSON is white space
    damaged[position] ^= data.draw(st.integers(1, 255))
    (tmp_path / "c" / name).write_bytes(damaged)
    message = refusal(tmp_path / "c")
    if message is None:  # white space of JSON became other white space
        assert name == "state.json"
        assert Checkpoint.read(tmp_path / "c").state == intact_state
    else:
        assert str(tmp_path / "c") in message
        assert name in message


def refusal(path: Path) -> str | None:
    try:
        Checkpoint.read(path)
    except CheckpointError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("keep", [0, 10])
def test_truncated_and_missing_files_are_refused_by_name(
    tmp_path: Path, name: str, keep: int
) -> None:
    sample().write(tmp_path / "c")
    content = (tmp_path / "c" / name).read_bytes()
    (tmp_path / "c" / name).write_bytes(content[:keep])
    with pytest.raises(CheckpointError, match=rf"checkpoint .*c is damaged: .*{name}"):
        Checkpoint.read(tmp_path / "c")
    (tmp_path / "c" / name).unlink()
    with pytest.raises(CheckpointError, match=rf"no whole checkpoint: cannot read {name}: No such"):
        Checkpoint.read(tmp_path / "c")


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"checksum": 1}', "[" * 9999])
def test_a_state_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    sample().write(tmp_path / "c")
    (tmp_path / "c" / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"is damaged: state.json is not what was written"):
        Checkpoint.read(tmp_path / "c")


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("needle.training.checkpoint.FORMAT", 2)
    sample().write(tmp_path / "c")
    monkeypatch.setattr("needle.training.checkpoint.FORMAT", 1)
    with pytest.raises(CheckpointError, match=r"has format 2, this Needle reads up to 1\. Update"):
        Checkpoint.read(tmp_path / "c")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing is no whole checkpoint"):
        Checkpoint.read(tmp_path / "nothing")


def test_a_name_with_a_null_byte_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"write checkpoint .*: A path cannot hold a null"):
        Checkpoint({}, {}, {}).write("a\0b")
    with pytest.raises(CheckpointError, match=r"no whole checkpoint: cannot read .* null byte"):
        Checkpoint.read("a\0b")


def test_state_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"state of a checkpoint.*not JSON serializable"):
        sample(config={1, 2}).write(tmp_path / "c")
    config: dict[str, object] = {}
    config["itself"] = config
    with pytest.raises(ArgumentError, match=r"state of a checkpoint.*Circular reference"):
        sample(config=config).write(tmp_path / "c")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=rf"cannot write checkpoints to {path}: "):
            CheckpointFolder(path).add(sample(epoch=1))


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*c: No space left"):
        sample().write(tmp_path / "c")
    assert not list(tmp_path.iterdir())


def test_everything_is_synced_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        log.append("sync " + ("temporary" if name.startswith(files.TEMPORARY) else name))
        fsync(descriptor)

    def logged_replace(path: Path, target: Path) -> Path:
        log.append(f"rename to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    sample().write(tmp_path / "c")
    assert log == [
        "sync model.safetensors",
        "sync optimizer.safetensors",
        "sync state.json",
        "sync temporary",
        "rename to c",
        "sync " + tmp_path.name,
    ]


def test_the_last_checkpoints_stay(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    for epoch in (9, 10, 9999, 10000):
        folder.add(sample(epoch))
    assert [path.name for path in folder.paths()] == ["epoch-9999", "epoch-10000"]
    assert folder.newest().state["epoch"] == 10000


def test_checkpoints_within_an_epoch_come_after_its_beginning(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=9)
    folder.add(sample(1))
    folder.add(sample(1, step=15), mid_epoch=True)
    folder.add(sample(2))
    assert [path.name for path in folder.paths()] == [
        "epoch-0001",
        "epoch-0001-step-0000015",
        "epoch-0002",
    ]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=3)
    for epoch in (1, 2, 3):
        folder.add(sample(epoch))
    (tmp_path / "epoch-0003" / "model.safetensors").write_bytes(b"")
    (tmp_path / "epoch-0002" / "state.json").unlink()
    messages: list[str] = []
    assert folder.newest(messages.append).state["epoch"] == 1
    assert "epoch-0003 is damaged" in messages[0]
    assert "epoch-0002 is no whole checkpoint" in messages[1]
    with (
        pytest.warns(UserWarning, match="epoch-0003 is damaged"),
        pytest.warns(UserWarning, match="epoch-0002 is no whole checkpoint"),
    ):
        folder.newest()
    folder.add(sample(3))
    assert folder.newest().state["epoch"] == 3


def test_a_folder_without_a_whole_checkpoint_says_so(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"no usable checkpoint in .*none. Start a new run"):
        folder.newest()


def test_a_folder_that_cannot_be_read_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"^a+: cannot be read \(.* too long\). Give another"):
        CheckpointFolder("a" * 300).paths()


def test_leftovers_of_killed_processes_go_when_the_next_one_writes(tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123-epoch-0004").mkdir()
    (tmp_path / ".tmp-0123-epoch-0004" / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".tmp-4567-x").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    folder = CheckpointFolder(tmp_path)
    assert not folder.paths()
    assert len(list(tmp_path.iterdir())) == 3, "a reader deletes what another process is writing"
    folder.add(Checkpoint({}, {}, {"epoch": 1, "step": 1}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001", "notes.txt"]


def test_keeping_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="keep=0 would delete all"):
        CheckpointFolder(tmp_path, keep=0)
