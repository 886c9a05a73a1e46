"""`needle train`: the MLP ResNet on MNIST, or on any images in MNIST's format."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from ..errors import CheckpointError
from ..files import resolved, sole_writer
from ..nn import Module
from ..threads import get_num_threads, set_num_threads
from ..training import (
    Checkpoint,
    CheckpointFolder,
    Checkpoints,
    MetricsFile,
    Progress,
    Trainer,
    plot_curves,
    plot_mistakes,
)
from ..training.environment import versions
from .experiment import (
    LONGEST_WARMUP,
    OPTIMIZERS,
    SCHEDULES,
    Images,
    Options,
    build_trainer,
    default_folder,
    read_config,
)

RUNS = Path("runs")
NEWEST = "newest"
SHOWN_MISTAKES = 60
CHANGEABLE = ("data", "epochs", "threads")  # of a run that is resumed


class Finite(click.FloatRange):
    """A range of numbers; NaN and infinity, which no comparison keeps out, are in none."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Folder(click.Path):
    """The name of a folder; an empty one, as of a variable that is not set, names none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not str(value):
            self.fail("an empty name is no folder.", param, ctx)
        return super().convert(value, param, ctx)


@click.command(
    context_settings={"show_default": True},
    epilog="Exit codes: 0 done, 1 data, checkpoint or training error, 2 wrong usage, "
    "130 interrupted; the last checkpoint is then whole, go on with --resume.",
)
@click.option(
    "--data",
    type=Folder(),
    help="Folder with four gzipped IDX files named like MNIST's "
    "(Fashion-MNIST works).  [default: $NEEDLE_DATA, or data]",
)
@click.option("--epochs", type=click.IntRange(0), default=10)
@click.option("--batch-size", type=click.IntRange(1), default=100)
@click.option("--lr", type=Finite(0, min_open=True), default=0.001, help="Learning rate.")
@click.option("--weight-decay", type=Finite(0), default=0.001)
@click.option("--optimizer", type=click.Choice(list(OPTIMIZERS)), default="adam")
@click.option(
    "--hidden-dim", type=click.IntRange(2, 1_000_000), default=100, help="Width of the network."
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    default="constant",
    help="How the learning rate changes: not; along half a cosine to 0; to a tenth after "
    "each third of the training.",
)
@click.option(
    "--warmup",
    type=Finite(0, LONGEST_WARMUP),
    default=0.0,
    help="Epochs over which the learning rate grows linearly from 0.",
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads.  [default: BLAS decides, and compiled steps by timing]",
)
@click.option("--eager", is_flag=True, help="Run as written, without compiling.")
@click.option("--out", type=Folder(), help="Folder for the run.  [default: runs/<date-time>]")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=NEWEST,
    metavar="[RUN]",
    help="Go on with a run from its last checkpoint; without RUN with the newest in runs.",
)
@click.pass_context
def train(context: click.Context, out: Path | None, resume: str | None, **values: Any) -> None:
    """Train the MLP ResNet on labelled images.

    Writes checkpoints, metrics.jsonl, curves.png and mistakes.png into the run's folder.
    """
    _require("tqdm", "matplotlib")
    given = {
        name: value
        for name, value in values.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if resume is None:
        run = out or RUNS / f"{datetime.now():%Y-%m-%d-%H%M%S}"
        _start(run, values)
    elif out is not None:
        raise click.UsageError("--out names a new run, --resume an old one. Give one of them")
    elif not resume:
        raise click.BadParameter("an empty name is no folder.", param_hint="'--resume'")
    else:
        run = _newest_run() if resume == NEWEST else Path(resume)
        if not CheckpointFolder(run / "checkpoints").paths():
            raise CheckpointError(f"no checkpoint in {run}/checkpoints. Give the folder of a run")
        with _held(run):
            _resume(run, given)


def _start(run: Path, values: dict[str, Any]) -> None:
    _expect_no_run(run)
    values["data"] = str(resolved(values["data"] or default_folder()))
    options = Options(**values)
    if options.threads is not None:
        set_num_threads(options.threads)
    images = Images.read(Path(options.data))
    architecture = images.architecture(options.hidden_dim)
    trainer = build_trainer(options, images, architecture)
    with _held(run):
        _expect_no_run(run)  # another process may have trained there while the data was read
        _run(run, options, images, trainer, architecture)


def _expect_no_run(run: Path) -> None:
    if CheckpointFolder(run / "checkpoints").paths():
        raise click.UsageError(
            f"{run} holds a run already. Go on with it: --resume {run}; or give another --out"
        )


def _resume(run: Path, given: dict[str, Any]) -> None:
    folder = CheckpointFolder(run / "checkpoints")
    checkpoint = folder.newest(lambda message: click.echo(f"needle: {message}", err=True))
    options, architecture = read_config(checkpoint, run)
    recorded = asdict(options)
    if "data" in given:
        given["data"] = str(resolved(given["data"]))
    for name, value in given.items():
        if name not in CHANGEABLE and value != recorded[name]:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(
                f"{option} {value} differs from the run's {recorded[name]}. Leave it out, or "
                "start a new run"
            )
    options = replace(options, **given)
    if options.threads is not None:
        set_num_threads(options.threads)
    images = Images.read(Path(options.data))
    trainer = build_trainer(options, images, architecture)
    trainer.restore(checkpoint)
    click.echo(f"resumed after epoch {trainer.epoch}, step {trainer.step:,}")
    _warn_of_changes(checkpoint, options)
    _run(run, options, images, trainer, architecture)


@contextmanager
def _held(run: Path) -> Generator[None]:
    """The run's folder, made where it is missing, and in it no other process that trains."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(
            f"cannot make the folder {run}: {error.strerror}. Give another --out"
        ) from error
    with sole_writer(run):
        yield


def _run(
    run: Path, options: Options, images: Images, trainer: Trainer, architecture: dict[str, Any]
) -> None:
    config = {"options": asdict(options), "architecture": architecture}
    trainer.callbacks = [
        MetricsFile(run / "metrics.jsonl"),
        Checkpoints(run / "checkpoints", config=config),
        Progress(),  # last: what it reports is on disk
    ]
    _describe(options, images, trainer.model, architecture)
    started, first = perf_counter(), trainer.epoch
    try:
        trainer.fit(options.epochs)
    except KeyboardInterrupt:
        if CheckpointFolder(run / "checkpoints").paths():
            click.echo(f"\nstopped; go on with: needle train --resume {run}", err=True)
        raise
    _summarise(trainer, trainer.epoch - first, perf_counter() - started)
    if trainer.history:
        plot_curves(trainer.history, run / "curves.png")
        logits = trainer.predict(images.test_loader(options.batch_size))
        _draw_mistakes(run / "mistakes.png", images, logits)
    click.echo(f"{run}: {', '.join(sorted(path.name for path in run.iterdir()))}")


def _describe(
    options: Options, images: Images, model: Module, architecture: dict[str, Any]
) -> None:
    size = "×".join(map(str, architecture["shape"]))
    parameters = sum(p.numpy().size for p in model.parameters())
    click.echo(
        f"{len(images.train):,} training and {len(images.test):,} test images of {size}, "
        f"{architecture['classes']} classes, from {images.folder}\n"
        f"MLP ResNet with {parameters:,} parameters; {options.optimizer}, lr {options.lr:g} "
        f"({options.schedule}), weight decay {options.weight_decay:g}, batches of "
        f"{options.batch_size}, seed {options.seed}, threads {get_num_threads()}, "
        f"{'eager' if options.eager else 'compiled'}"
    )


def _summarise(trainer: Trainer, epochs: int, seconds: float) -> None:
    if not trainer.history:
        return
    last = trainer.history[-1]
    best = min(trainer.history, key=lambda record: record["test_error"])
    click.echo(
        f"{epochs} epoch{'' if epochs == 1 else 's'} in {seconds:.1f} s: "
        f"test error {last['test_error']:.2%}, loss {last['test_loss']:.4f} "
        f"(best error {best['test_error']:.2%} after epoch {best['epoch']})"
    )


def _draw_mistakes(path: Path, images: Images, logits: np.ndarray) -> None:
    truth, said = images.test.y, logits.argmax(axis=1)
    wrong = np.flatnonzero(said != truth)
    doubt = np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)  # 1 / probability
    shown = wrong[np.argsort(doubt[wrong])[:SHOWN_MISTAKES]]
    title = f"{len(wrong):,} of {len(truth):,} test images wrong ({len(wrong) / len(truth):.2%})"
    if len(shown) < len(wrong):
        title += f": the {len(shown)} it was surest about"
    plot_mistakes(images.test[shown][0], said[shown], truth[shown], path, title=title)


def _newest_run() -> Path:
    newest = max(RUNS.glob("*/checkpoints"), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise CheckpointError(f"no run with checkpoints in {RUNS}. Give its folder: --resume RUN")
    return newest.parent


def _warn_of_changes(checkpoint: Checkpoint, options: Options) -> None:
    recorded = {**checkpoint.state["versions"], "threads": checkpoint.state.get("threads")}
    now: dict[str, Any] = versions()
    if options.eager:  # compiled steps give the same bits for any number
        now["threads"] = get_num_threads()
    for name, value in now.items():
        before = recorded.get(name)
        if before != value:
            click.echo(
                f"needle: {name}: was {before}, is {value}. Results may differ in the last bits",
                err=True,
            )


def _require(*packages: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"training needs {' and '.join(missing)}. Install: pip install 'needle-dl[train]'"
        )
