"""`needle eval`: loss and error of a checkpoint on a test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ..errors import CheckpointError
from ..training import Checkpoint, CheckpointFolder
from .experiment import Images, build_trainer, read_config
from .train import Folder


@click.command("eval", short_help="Test a run or a checkpoint on the test images.")
@click.argument("checkpoint", type=Folder())
@click.option(
    "--data",
    type=Folder(),
    help="Folder with the IDX files.  [default: that of the training]",
)
@click.option("--eager", is_flag=True, help="Run as written, without compiling.")
def evaluate(checkpoint: Path, data: Path | None, eager: bool) -> None:
    """Test CHECKPOINT, or the last one in the folder of a run, on the test images."""
    loaded = _read(checkpoint)
    options, architecture = read_config(loaded, checkpoint)
    images = Images.read(data or Path(options.data))
    trainer = build_trainer(replace(options, eager=eager), images, architecture)
    trainer.model.load_state_dict(loaded.model)
    result = trainer.evaluate(images.test_loader(options.batch_size))
    click.echo(
        f"test loss {result['loss']:.4f} error {result['error']:.2%}  ({len(images.test):,} images "
        f"from {images.folder}; trained for {loaded.state['epoch']} epochs)"
    )


def _read(path: Path) -> Checkpoint:
    if not (path / "checkpoints").is_dir():
        if not (path / "state.json").exists():
            raise CheckpointError(
                f"{path} is neither a run nor a checkpoint. Name a folder such as runs/RUN, or "
                "runs/RUN/checkpoints/epoch-0001"
            )
        return Checkpoint.read(path)
    folder = CheckpointFolder(path / "checkpoints")
    return folder.newest(lambda message: click.echo(f"needle: {message}", err=True))
