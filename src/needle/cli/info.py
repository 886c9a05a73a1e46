"""`needle info`: what to put into a bug report."""

from __future__ import annotations

import click

from ..threads import get_num_threads
from ..training.environment import PACKAGE, foreign_packages, processor, versions
from .cache import contents


@click.command(short_help="Show versions, compiler, processor, threads and cache.")
def info() -> None:
    """Show versions, BLAS, compiler, processor, threads and the cache of compiled code."""
    rows = {**versions(), "threads": get_num_threads()}
    rows |= {"processor": processor(), "package": PACKAGE, "cache": contents()}
    for name, value in rows.items():
        click.echo(f"{name:10} {value}")
    for other in foreign_packages():
        click.echo(
            f"needle: another package has this name: {other}. `import needle` may find it first; "
            "remove it from this environment or path",
            err=True,
        )
