"""`needle …` as a process: signals, a terminal, two of them at once, packages that are missing."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from needle.cli import run
from needle.cli.experiment import Images
from needle.training import CheckpointFolder
from tests.training.images import write_images

RESUME = ("train", "--resume", "run", "--epochs")
Process = subprocess.Popen[bytes]
Start = Callable[..., Process]
Interrupt = Callable[[Process], tuple[bytes, bytes]]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEEDLE_DATA", raising=False)


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts `needle` with these arguments; none goes on after the test."""
    with contextlib.ExitStack() as stack:

        def started(*arguments: str, stdout: int = subprocess.PIPE) -> Process:
            command = [sys.executable, "-m", "needle", *arguments]
            process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield started


def wait_for_epoch(number: int, process: Process) -> None:
    """Until the run has a checkpoint of this epoch, or of a later one: old ones are removed."""
    first = f"epoch-{number:04}"
    while not any(path.name >= first for path in Path("run/checkpoints").glob("epoch-*")):
        assert process.poll() is None
        time.sleep(0.01)


def test_two_processes_do_not_write_one_run(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(Path("data"))
    process = start("train", "--epochs", "100000", "--out", "run")
    wait_for_epoch(2, process)
    assert run([*RESUME, "5"]) == 1
    assert capsys.readouterr().err == (
        "needle: another process is writing to run. Wait for its end, or use another folder\n"
    )
    process.kill()
    process.communicate()
    assert run([*RESUME, "5"]) == 0


def test_a_run_that_another_process_made_meanwhile_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(Path("data"))
    read = Images.read

    def read_slowly(folder: Path) -> Images:
        monkeypatch.setattr(Images, "read", read)
        assert run(["train", "--epochs", "4", "--out", "run"]) == 0
        return read(folder)

    monkeypatch.setattr(Images, "read", read_slowly)
    assert run(["train", "--epochs", "1", "--out", "run"]) == 2
    assert "run holds a run already. Go on with it: --resume run" in capsys.readouterr().err
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 4


def test_the_command_line_names_what_is_missing() -> None:
    for package, message in (
        ("click", "needle: the command line needs click. Install it: pip install"),
        ("tqdm", "needle: training needs tqdm. Install: pip install 'needle-dl[train]'"),
    ):
        code = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "from needle.cli import main\nmain(['train'])"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert result.stderr.startswith(message)


def test_control_c_leaves_a_whole_checkpoint(start: Start, control_c: Interrupt) -> None:
    write_images(Path("data"), train=2000)
    process = start("train", "--epochs", "1000", "--out", "run")
    wait_for_epoch(2, process)
    _, text = control_c(process)
    assert process.returncode == 130
    assert text.decode().strip() == "stopped; go on with: needle train --resume run"
    folder = CheckpointFolder("run/checkpoints")
    assert folder.newest(pytest.fail).state["epoch"] >= 2
    epoch = folder.newest().state["epoch"]
    assert run([*RESUME, str(epoch + 1)]) == 0


@pytest.mark.parametrize("columns", [100, 0])  # 0: a terminal that does not know its size
def test_a_terminal_shows_a_progress_bar(start: Start, columns: int) -> None:
    write_images(Path("data"), train=2000)  # the bar is drawn every tenth of a second
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, columns))
    process = start("train", "--epochs", "1", "--batch-size", "1", stdout=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says so when the other side is closed
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    _, text = process.communicate(timeout=20)
    assert (process.returncode, text) == (0, b"")
    assert re.search(r"\repoch 1/1: +\d+%\|.*loss \d\.\d{4}\]", shown.decode())
    assert "samples/s" in shown.decode()
    assert "\nepoch 1/1  train loss" in shown.decode().replace("\r", "\n")
