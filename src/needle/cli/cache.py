"""`needle cache`: the compiled code that is kept on disk."""

from __future__ import annotations

import contextlib

import click

from .. import config
from ..native import cache as objects

OFF = "switched off (NEEDLE_CACHE=0, or there is no home folder)"


@click.group()
def cache() -> None:
    """Look after the compiled code that is kept on disk."""


@cache.command()
def clear() -> None:
    """Remove all of it; it is compiled again when it is needed."""
    folder = config.cache_dir()
    if folder is None:
        click.echo(f"the cache is {OFF}")
        return
    try:
        files, size = objects.clear()
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be read: {error.strerror}") from error
    click.echo(f"removed {files:,} files, {size:,} bytes from {folder}")


def contents() -> str:
    """Where the cache is, and what is in it."""
    folder = config.cache_dir()
    if folder is None:
        return OFF
    if objects.refused():
        return f"{folder}, not used: it has to be a folder of yours that nobody else may enter"
    sizes: list[int] = []
    try:
        for path in folder.glob(f"*{objects.SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                sizes.append(path.stat().st_size)
    except OSError as error:
        return f"{folder}, not used: {error.strerror}"
    return f"{folder}, {len(sizes):,} files, {sum(sizes):,} bytes"
