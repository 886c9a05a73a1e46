"""`needle …` as a user runs it: output, files, exit codes, one line for each error."""

import errno
import importlib
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import needle as ndl
from needle import files
from needle.cli import run
from needle.training import Checkpoint, CheckpointFolder
from tests.training.images import write_images

TRAIN = importlib.import_module("needle.cli.train")  # its name in the package is the command's

LINE = re.compile(
    r"epoch 1/2  train loss \d\.\d{4} error +\d+\.\d\d%  test loss \d\.\d{4} error +\d+\.\d\d%  "
    r"lr 0.001  [\d,]+ samples/s"
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEEDLE_DATA", raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and the finished run `run`."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder / "data")
    assert needle(f"train --data {folder}/data --out {folder}/run --epochs 2 --batch-size 10") == 0
    return folder


def needle(line: str) -> int:
    """Run a command, without the pictures that end a training: they take longer than it does."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plot_curves", "plot_mistakes"):
            patch.setattr(TRAIN, name, lambda *_, **__: None)
        return run(line.split())


def errors(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `needle info` shows, by name."""
    assert needle("info") == 0
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


def read_metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_training_writes_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("data"))
    assert run(["train", "--epochs", "2", "--batch-size", "10"]) == 0
    (run_folder,) = Path("runs").iterdir()
    assert sorted(path.name for path in run_folder.iterdir()) == [
        "checkpoints",
        "curves.png",
        "metrics.jsonl",
        "mistakes.png",
    ]
    output = capsys.readouterr()
    assert output.err == ""
    first, second, *epochs, summary, files = output.out.splitlines()
    assert "110 training and 40 test images of 6×5×1, 3 classes" in first
    assert "parameters; adam, lr 0.001 (constant), weight decay 0.001, batches of 10" in second
    assert len(epochs) == 2
    assert LINE.fullmatch(epochs[0])
    assert re.match(r"2 epochs in [\d.]+ s: test error \d+\.\d\d%, loss", summary)
    assert files.startswith(f"{run_folder}: checkpoints, curves.png")
    pictures = [(run_folder / name).read_bytes() for name in ("curves.png", "mistakes.png")]
    assert run(["train", "--resume", "--epochs", "3"]) == 0
    again = [(run_folder / name).read_bytes() for name in ("curves.png", "mistakes.png")]
    assert again[0] != pictures[0]
    assert again[1] != pictures[1]


def test_metrics_are_one_json_object_a_line(trained: Path) -> None:
    records = read_metrics(trained / "run")
    assert [record["epoch"] for record in records] == [1, 2]
    assert list(records[0]) == [
        "epoch",
        "step",
        "lr",
        "train_loss",
        "train_error",
        "test_loss",
        "test_error",
    ]


def test_checkpoints_hold_what_the_training_depends_on(trained: Path) -> None:
    folder = CheckpointFolder(trained / "run/checkpoints")
    assert [path.name for path in folder.paths()] == ["epoch-0000", "epoch-0001", "epoch-0002"]
    state = folder.newest().state
    assert set(state["versions"]) == {"needle", "python", "numpy", "blas", "compiler"}
    assert state["threads"] >= 1
    assert state["config"]["options"]["batch_size"] == 10
    assert state["config"]["architecture"] == {"shape": [6, 5, 1], "hidden_dim": 100, "classes": 3}


def test_the_seed_decides_the_run(trained: Path) -> None:
    command = f"train --data {trained}/data --epochs 2 --batch-size 10"
    assert needle(f"{command} --out again") == 0
    assert needle(f"{command} --out other --seed 1") == 0
    expected = (trained / "run/metrics.jsonl").read_bytes()
    assert Path("again/metrics.jsonl").read_bytes() == expected
    assert Path("other/metrics.jsonl").read_bytes() != expected


@pytest.mark.parametrize(
    "options",
    [
        "--optimizer sgd --lr 0.1 --threads 1 --batch-size 7",
        "--optimizer adamw --schedule cosine --warmup 1 --eager",
        "--schedule step --hidden-dim 8 --weight-decay 0",
    ],
)
def test_every_kind_of_training_runs_and_resumes(trained: Path, options: str) -> None:
    command = f"train --data {trained}/data {options}"
    assert needle(f"{command} --epochs 3 --out whole") == 0
    newest = Path("whole/checkpoints/epoch-0003")
    expected = newest.joinpath("model.safetensors").read_bytes()
    shutil.rmtree(newest)
    assert needle("train --resume whole") == 0
    assert newest.joinpath("model.safetensors").read_bytes() == expected


def test_resume_takes_up_the_newest_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained / "run", "runs/old")
    time.sleep(0.02)
    shutil.copytree(trained / "run", "runs/new")
    os.utime("runs/new/checkpoints")
    assert needle("train --resume --epochs 3") == 0
    assert "resumed after epoch 2, step 22" in capsys.readouterr().out
    assert len(Path("runs/new/metrics.jsonl").read_text().splitlines()) == 3
    assert len(Path("runs/old/metrics.jsonl").read_text().splitlines()) == 2


def test_resume_of_a_finished_run_changes_nothing(trained: Path) -> None:
    shutil.copytree(trained / "run", "run")
    before = Path("run/metrics.jsonl").read_bytes()
    assert needle("train --resume run") == 0
    assert Path("run/metrics.jsonl").read_bytes() == before


def test_resume_passes_over_a_damaged_checkpoint(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", "run")
    expected = Path("run/checkpoints/epoch-0002/model.safetensors").read_bytes()
    Path("run/checkpoints/epoch-0002/model.safetensors").write_bytes(expected[:-1])
    assert needle("train --resume run") == 0
    output = capsys.readouterr()
    assert "needle: checkpoint run/checkpoints/epoch-0002 is damaged" in output.err
    assert "resumed after epoch 1" in output.out
    assert Path("run/checkpoints/epoch-0002/model.safetensors").read_bytes() == expected
    assert Path("run/metrics.jsonl").read_bytes() == (trained / "run/metrics.jsonl").read_bytes()


def test_resume_says_when_versions_changed(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", "run")
    path = Path("run/checkpoints/epoch-0002")
    checkpoint = Checkpoint.read(path)
    checkpoint.state["versions"]["numpy"] = "1.0"
    checkpoint.write(path)
    assert needle("train --resume run") == 0
    assert f"needle: numpy: was 1.0, is {np.__version__}. Results may differ" in errors(capsys)


def test_resume_says_when_threads_changed_if_they_matter(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"train --data {trained}/data --epochs 1 --threads 1"
    other = "--epochs 2 --threads 2"
    before = ndl.get_num_threads()
    try:
        assert needle(f"{command} --out compiled") == 0
        assert needle(f"train --resume compiled {other}") == 0
        assert errors(capsys) == ""
        assert needle(f"{command} --out eager --eager") == 0
        assert needle(f"train --resume eager {other}") == 0
        assert "needle: threads: was 1, is 2. Results may differ" in errors(capsys)
        assert needle(f"{command} --epochs 2 --out whole") == 0
    finally:
        ndl.set_num_threads(before)
    model = "checkpoints/epoch-0002/model.safetensors"
    assert Path("compiled", model).read_bytes() == Path("whole", model).read_bytes()


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("train --data nowhere", 1, r"needle: .*nowhere: train-images-idx3-ubyte.gz.*not there"),
        ("train --resume nowhere", 1, r"needle: no checkpoint in nowhere/checkpoints"),
        ("train --resume", 1, r"needle: no run with checkpoints in runs"),
        ("eval nowhere", 1, r"needle: nowhere is neither a run nor a checkpoint. Name"),
        ("train --resume a --out b", 2, r"--out names a new run, --resume an old one"),
        ("train --epochs -1", 2, r"Invalid value for '--epochs'"),
        ("train --lr 0", 2, r"Invalid value for '--lr'"),
        ("train --lr nan", 2, r"Invalid value for '--lr': nan is not a finite number"),
        ("train --weight-decay inf", 2, r"'--weight-decay': inf is not a finite number"),
        ("train --warmup 1e999", 2, r"Invalid value for '--warmup'"),
        ("train --warmup nan", 2, r"Invalid value for '--warmup': nan is not a finite number"),
        ("train --hidden-dim 1000000000000", 2, r"Invalid value for '--hidden-dim'"),
        ("train --out=", 2, r"Invalid value for '--out': an empty name is no folder"),
        ("train --data=", 2, r"Invalid value for '--data': an empty name is no folder"),
        ("train --resume=", 2, r"Invalid value for '--resume': an empty name is no folder"),
        ("train --data loop", 1, r"needle: loop: cannot be read or written \(Too many levels of "),
        (
            "train --out " + 300 * "a",
            1,
            r"needle: a*/checkpoints: cannot be .* too long\)",
        ),
        ("eval nowhere --data=", 2, r"Invalid value for '--data': an empty name is no folder"),
        ("train --optimizer best", 2, r"'best' is not one of 'adam', 'adamw', 'sgd'"),
        ("train --unknown", 2, r"No such option"),
        ("unknown", 2, r"No such command 'unknown'"),
        ("eval", 2, r"Missing argument"),
    ],
)
def test_errors_are_named_and_have_an_exit_code(
    command: str,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    Path("loop").symlink_to("loop")
    assert needle(command) == code
    text = errors(capsys)
    assert re.search(message, text)
    assert "Traceback" not in text
    if code == 1:
        assert len(text.splitlines()) == 1


def test_a_run_is_not_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert needle(f"train --out {trained}/run") == 2
    assert f"{trained}/run holds a run already. Go on with it: --resume" in errors(capsys)


def test_a_size_beyond_all_memory_is_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise MemoryError("Unable to allocate 402. GiB")

    monkeypatch.setattr("needle.cli.experiment.build_model", fail)
    assert needle(f"train --data {trained}/data --out huge") == 1
    assert errors(capsys) == (
        "needle: out of memory. Use a smaller --hidden-dim or --batch-size. "
        "Unable to allocate 402. GiB\n"
    )
    assert not Path("huge").exists()


def test_options_of_a_resumed_run_cannot_change(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert needle(f"train --resume {trained}/run --batch-size 10") == 0
    assert needle(f"train --resume {trained}/run --batch-size 20") == 2
    assert "--batch-size 20 differs from the run's 10" in errors(capsys)


@pytest.mark.parametrize("options", ["--optimizer sgd --lr 1e300", "--lr 1e308 --eager"])
def test_a_diverging_training_stops_with_one_line(
    trained: Path, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert needle(f"train --data {trained}/data --out bad {options}") == 1
    assert re.fullmatch(r"needle: fit: the mean training loss.*Lower the .*\n", errors(capsys))


def test_a_file_that_cannot_be_written_is_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("blocked").write_text("a file")
    assert needle(f"train --data {trained}/data --out blocked") == 1
    expected = "needle: cannot make the folder blocked: File exists. Give another --out\n"
    assert errors(capsys) == expected


def test_an_empty_name_is_no_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", ""]) == 2
    assert "Invalid value for 'CHECKPOINT': an empty name is no folder" in errors(capsys)


def test_a_full_disk_is_one_line_that_names_the_file(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() does: without a name

    monkeypatch.setattr(files, "write_synced", full)
    assert needle(f"train --data {trained}/data --out full") == 1
    assert errors(capsys) == (
        "needle: full/metrics.jsonl: cannot be read or written (No space left on device). "
        "Check the path, who may write there, and the space on the disk\n"
    )


def test_eval_repeats_the_last_result(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = read_metrics(trained / "run")[-1]
    expected = f"test loss {last['test_loss']:.4f} error {last['test_error']:.2%}"
    for name in ("run", "run/checkpoints/epoch-0002"):
        assert needle(f"eval {trained}/{name}") == 0
        assert expected in capsys.readouterr().out


def test_eval_on_other_data(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("fewer"), test=7, classes=2)
    assert needle(f"eval {trained}/run --data fewer") == 0
    assert "(7 images from fewer" in capsys.readouterr().out
    write_images(Path("more"), classes=5)
    assert needle(f"eval {trained}/run --data more") == 1
    assert "more: 5 classes, the model knows 3" in errors(capsys)


def test_eval_refuses_checkpoints_of_other_programs(capsys: pytest.CaptureFixture[str]) -> None:
    Checkpoint({}, {}, {"epoch": 1}).write("mine")
    assert needle("eval mine") == 1
    assert "mine was not written by this version's `needle train`" in errors(capsys)


def test_info_shows_what_results_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    shown = rows(capsys)
    expected = ["needle", "python", "numpy", "blas", "compiler", "threads", "processor", "package"]
    assert list(shown) == [*expected, "cache"]
    assert shown["numpy"] == np.__version__
    assert re.fullmatch(r"LLVM \d+\.\d+\.\d+, vectors of (4|8|16) floats, \S+", shown["compiler"])


def test_info_says_what_runs_compiled_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("needle.native.llvm.unavailable", lambda: "llvmlite is not installed")
    assert rows(capsys)["compiler"] == "NumPy (llvmlite is not installed)"
    monkeypatch.setenv("NEEDLE_JIT", "numpy")
    assert rows(capsys)["compiler"] == "NumPy (NEEDLE_JIT=numpy)"
    monkeypatch.setenv("NEEDLE_JIT", "0")
    assert rows(capsys)["compiler"] == "none (NEEDLE_JIT=0)"


def test_the_cache_is_shown_and_cleared(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEEDLE_CACHE", "objects")
    assert rows(capsys)["cache"] == "objects, 0 files, 0 bytes"
    assert needle(f"eval {trained}/run") == 0
    capsys.readouterr()
    sizes = [path.stat().st_size for path in Path("objects").iterdir()]
    content = f"{len(sizes)} files, {sum(sizes):,} bytes"
    assert sum(sizes) > 0
    assert rows(capsys)["cache"] == f"objects, {content}"
    assert needle("cache clear") == 0
    assert capsys.readouterr().out == f"removed {content} from objects\n"
    assert not list(Path("objects").iterdir())


def test_a_cache_that_is_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    off = "switched off (NEEDLE_CACHE=0, or there is no home folder)"
    monkeypatch.setenv("NEEDLE_CACHE", "0")
    assert needle("cache clear") == 0
    assert capsys.readouterr().out == f"the cache is {off}\n"
    assert rows(capsys)["cache"] == off


def test_a_cache_whose_files_come_and_go_or_cannot_be_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEEDLE_CACHE", "objects")
    Path("objects").mkdir(mode=0o700)
    Path("objects/removed-meanwhile.o").symlink_to("nowhere")
    Path("objects/there.o").write_bytes(b"1234")
    assert rows(capsys)["cache"] == "objects, 1 files, 4 bytes"

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", refused)
        shown = rows(capsys)
    assert shown["cache"] == "objects, not used: Permission denied"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refused)
        assert needle("cache clear") == 1
    assert "objects cannot be read: Permission denied" in capsys.readouterr().err


def test_a_cache_that_others_may_enter_is_shown_as_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("open").mkdir()
    Path("open").chmod(0o755)
    Path("file").write_bytes(b"1234")
    Path("own").mkdir(mode=0o700)
    Path("link").symlink_to("own")
    for name in ("open", "file", "link"):
        monkeypatch.setenv("NEEDLE_CACHE", name)
        refusal = f"{name}, not used: it has to be a folder of yours that nobody else may enter"
        assert rows(capsys)["cache"] == refusal
    for name in ("own", "not-there-yet"):
        monkeypatch.setenv("NEEDLE_CACHE", name)
        assert rows(capsys)["cache"] == f"{name}, 0 files, 0 bytes"


def test_an_eager_run_stays_eager(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"train --data {trained}/data --epochs 2 --batch-size 10 --out run --eager"
    assert needle(command) == 0
    assert ", eager\n" in capsys.readouterr().out
    for ours, theirs in zip(read_metrics(Path("run")), read_metrics(trained / "run"), strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.02)
    assert needle("train --resume run --epochs 3") == 0
    assert ", eager\n" in capsys.readouterr().out
    assert needle(f"train --resume {trained}/run --eager") == 2
    assert "--eager True differs from the run's False" in errors(capsys)
    expected = f"error {read_metrics(Path('run'))[-1]['test_error']:.2%}"
    for flag in ("", "--eager"):
        assert needle(f"eval run {flag}") == 0
        assert expected in capsys.readouterr().out


def test_info_notices_another_needle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "python/needle").mkdir(parents=True)
    (tmp_path / "python/needle/__init__.py").touch()
    dist = tmp_path / "site/needle-0.5.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: needle\nVersion: 0.5\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.syspath_prepend(str(tmp_path / "python"))
    assert needle("info") == 0
    text = errors(capsys)
    assert f"another package has this name: package {tmp_path}/python/needle" in text
    assert "another package has this name: distribution needle" in text


def test_info_does_not_take_its_own_command_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needle").write_text("#!/usr/bin/env python")  # started as bin/needle, which Python
    monkeypatch.syspath_prepend(str(tmp_path))  # puts the folder of on its path
    assert needle("info") == 0
    assert errors(capsys) == ""


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert needle("--version") == 0
    assert capsys.readouterr().out == f"needle, version {ndl.__version__}\n"


def test_no_epochs_make_a_run_that_can_go_on(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert needle(f"train --data {trained}/data --epochs 0 --out run") == 0
    assert capsys.readouterr().out.endswith("run: checkpoints, metrics.jsonl\n")
    assert needle("train --resume run --epochs 1") == 0


@pytest.mark.parametrize("command", ["", "train", "eval", "info", "cache", "cache clear"])
def test_help_works(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert needle(f"{command} --help") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "Usage: needle" in output
    if command in ("", "train"):
        assert "Exit codes: 0 done, 1 data, checkpoint or training error, 2 wrong usage" in output


def test_control_c_before_the_first_checkpoint_does_not_point_to_one(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("needle.training.MetricsFile.on_start", interrupt)
    assert needle(f"train --data {trained}/data --out early") == 130
    assert errors(capsys).strip() == ""
