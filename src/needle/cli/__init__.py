"""The command line: `needle train`, `needle eval`, `needle info`, `needle cache`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from ..errors import NeedleError

try:
    import click
except ModuleNotFoundError:
    sys.exit("needle: the command line needs click. Install it: pip install 'needle-dl[train]'")

from .cache import cache
from .evaluate import evaluate
from .info import info
from .train import train

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 data, checkpoint or training error, 2 wrong usage, "
    "130 interrupted.",
)
@click.version_option(package_name="needle-dl", prog_name="needle")
def commands() -> None:
    """Train, evaluate and inspect Needle's networks."""


for command in (train, evaluate, info, cache):
    commands.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave the process with the exit code that says how it went."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors become one line on standard error and an exit code."""
    try:
        # What overflows shows in the losses; NumPy would warn once more, and of our own lines.
        with np.errstate(all="ignore"):
            return commands.main(arguments, prog_name="needle", standalone_mode=False) or OK
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        return _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except NeedleError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_of_system(error))
    except MemoryError as error:
        return _fail(f"out of memory. Use a smaller --hidden-dim or --batch-size. {error}".rstrip())


def _of_system(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return (
        f"{error.filename}: cannot be read or written ({error.strerror}). "
        "Check the path, who may write there, and the space on the disk"
    )


def _fail(message: str) -> int:
    click.echo(f"needle: {message}", err=True)
    return FAILED
