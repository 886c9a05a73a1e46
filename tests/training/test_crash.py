"""A run that is killed at any moment ends as one that was never killed, bit for bit."""

import functools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from needle.training import CheckpointFolder
from tests.training.images import write_images

ROOT = Path(__file__).parents[2]
Run = tuple[str, int]  # random stream, and threads of the compiled steps; with 0 they are eager
# One thread and two give the same bits, as a test shows: with both streams, and eager.
RUNS: list[Run] = [("numpy", 0), ("numpy", 2), ("philox", 0), ("philox", 1)]
# A moment is as good as another, so each part is here once.
FEW_RUNS: list[Run] = [("numpy", 0), ("philox", 2)]
RESULTS = ("final.safetensors", "metrics.jsonl")


def start(folder: Path, run: Run, *event: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.training.victim"]
    command += map(str, (folder, *run, *event))
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, run: Run, *event: int) -> int:
    process = start(folder, run, *event)
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Run], list[bytes]]:
    """The results of a run, which is made when they are first asked for."""

    @functools.cache
    def results(run: Run) -> list[bytes]:
        folder = tmp_path_factory.mktemp("uninterrupted")
        write_images(folder / "data")
        assert finish(folder, run) == 0
        return [(folder / name).read_bytes() for name in RESULTS]

    return results


def expect_same_end(folder: Path, expected: list[bytes]) -> None:
    assert [(folder / name).read_bytes() for name in RESULTS] == expected
    checkpoints = CheckpointFolder(folder / "checkpoints")
    assert checkpoints.newest(pytest.fail).state["epoch"] == 4
    # One above the number kept, where the last thing a killed process did was to write its last.
    assert len(checkpoints.paths()) <= 3
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.slow
def test_compiled_runs_end_alike_for_any_number_of_threads(
    uninterrupted: Callable[[Run], list[bytes]],
) -> None:
    for stream in ("numpy", "philox"):
        assert uninterrupted((stream, 1)) == uninterrupted((stream, 2))


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run[0]}-{run[1]}")
def test_a_run_killed_around_its_files_resumes_exactly(
    tmp_path: Path, run: Run, uninterrupted: Callable[[Run], list[bytes]]
) -> None:
    write_images(tmp_path / "data")
    draw = random.Random(str(run))
    kills = 0
    while finish(tmp_path, run, draw.randrange(4, 40)) != 0:
        kills += 1
    assert kills >= 3
    expect_same_end(tmp_path, uninterrupted(run))


@pytest.mark.slow
@pytest.mark.parametrize("run", FEW_RUNS, ids=lambda run: f"{run[0]}-{run[1]}")
def test_a_run_killed_at_random_moments_resumes_exactly(
    tmp_path: Path, run: Run, uninterrupted: Callable[[Run], list[bytes]]
) -> None:
    write_images(tmp_path / "data")
    for _ in range(3):
        process = start(tmp_path, run)
        wait_for_checkpoint_after(tmp_path, process)
        time.sleep(random.uniform(0, 0.05))
        process.kill()
        process.communicate()
    assert finish(tmp_path, run) == 0
    expect_same_end(tmp_path, uninterrupted(run))


def wait_for_checkpoint_after(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the process has written a checkpoint of its own, or is through."""
    before = set((folder / "checkpoints").glob("epoch-*"))
    while process.poll() is None and set((folder / "checkpoints").glob("epoch-*")) <= before:
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_last_checkpoint_costs_only_its_steps(
    tmp_path: Path, name: str, uninterrupted: Callable[[Run], list[bytes]]
) -> None:
    run = ("philox", 2)
    write_images(tmp_path / "data")
    assert finish(tmp_path, run, 45) == -signal.SIGKILL
    *_, last = CheckpointFolder(tmp_path / "checkpoints").paths()
    (last / name).write_bytes((last / name).read_bytes()[:-20])
    process = start(tmp_path, run)
    _, errors = process.communicate()
    assert f"checkpoint {last} is damaged: " in errors
    expect_same_end(tmp_path, uninterrupted(run))
