"""Training checkpoints: folders that are whole, or are not there.

::

    checkpoints/epoch-0003/
        model.safetensors       parameters and buffers
        optimizer.safetensors   moments and step counts
        state.json              epoch, step, random state, loader position, history, versions,
                                threads, SHA-256 of both files and of itself

A folder is written under a temporary name, synced and renamed; one that does not match its
checksums is refused by name. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, CheckpointError
from ..files import path_of, read_file, remove_folder, remove_leftovers, write_folder
from ..serialization import decode, encode
from ..shapes import as_int

FORMAT = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint folder holds.

    Example:
        >>> import numpy as np, tempfile
        >>> from pathlib import Path
        >>> from needle.training import Checkpoint
        >>> path = Path(tempfile.mkdtemp()) / "epoch-0001"
        >>> Checkpoint({"w": np.ones(2)}, {"t": np.array(7)}, {"epoch": 1}).write(path)
        >>> Checkpoint.read(path).state["epoch"]
        1
    """

    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]
    state: dict[str, Any]  # values that JSON can hold

    def write(self, path: str | PathLike[str]) -> None:
        """Write the folder `path`, replacing one of that name.

        Raises:
            ArgumentError: the state holds something that JSON cannot.
            CheckpointError: the folder cannot be written.
        """
        files = {MODEL: encode(self.model), OPTIMIZER: encode(self.optimizer)}
        state = {
            **self.state,
            "format": FORMAT,
            "files": {name: _sha256(data) for name, data in files.items()},
        }
        try:
            state["checksum"] = _checksum(state)
            files[STATE] = _one_entry_a_line(state).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ArgumentError(
                f"the state of a checkpoint holds what JSON cannot: {error}. Use numbers and text"
            ) from error
        try:
            write_folder(path_of(path), files)
        except OSError as error:
            raise CheckpointError(f"cannot write checkpoint {path}: {error.strerror}") from error

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Checkpoint:
        """Read the folder `path` and check every byte of it.

        Raises:
            CheckpointError: the folder is no checkpoint, is damaged, or comes from a newer Needle.
        """
        folder = Path(path)
        state = _read_state(folder)
        arrays: dict[str, dict[str, np.ndarray]] = {}
        for name in (MODEL, OPTIMIZER):
            data = _read_bytes(folder, name)
            if _sha256(data) != state["files"].get(name):
                raise CheckpointError(
                    f"checkpoint {folder} is damaged: the SHA-256 of {name} is not the one that "
                    f"{STATE} recorded. Use an earlier checkpoint"
                )
            arrays[name] = decode(data, str(folder / name))
        return cls(arrays[MODEL], arrays[OPTIMIZER], state)


class CheckpointFolder:
    """The checkpoints of one run, the last `keep` of them.

    Args:
        path: the folder; it is made when the first checkpoint is written.
        keep: how many checkpoints stay, at least 1.

    Example:
        >>> import numpy as np, tempfile
        >>> from needle.training import Checkpoint, CheckpointFolder
        >>> folder = CheckpointFolder(tempfile.mkdtemp(), keep=2)
        >>> for epoch in range(4):
        ...     path = folder.add(Checkpoint({}, {}, {"epoch": epoch, "step": 100 * epoch}))
        >>> [path.name for path in folder.paths()]
        ['epoch-0002', 'epoch-0003']
        >>> folder.newest().state["step"]
        300
    """

    def __init__(self, path: str | PathLike[str], keep: int = 3) -> None:
        self.path = Path(path)
        self.keep = as_int(keep, "CheckpointFolder", "keep")
        if self.keep < 1:
            raise ArgumentError(f"CheckpointFolder: keep={keep} would delete all. Keep at least 1")

    def paths(self) -> list[Path]:
        """The checkpoint folders, oldest first.

        Raises:
            CheckpointError: the folder cannot be read.
        """
        return [path for _, path in sorted(self._numbered())]

    def add(self, checkpoint: Checkpoint, *, mid_epoch: bool = False) -> Path:
        """Write a checkpoint under its epoch (and step, in the middle of one); drop the oldest.

        Only one process may write a folder at a time; what a killed one left half-written goes too.

        Raises:
            CheckpointError: the folder cannot be made or written.
        """
        name = f"epoch-{checkpoint.state['epoch']:04d}"
        if mid_epoch:
            name += f"-step-{checkpoint.state['step']:07d}"
        path = self.path / name
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
        except OSError as error:
            raise CheckpointError(
                f"cannot write checkpoints to {self.path}: {error.strerror}. Give another folder"
            ) from error
        checkpoint.write(path)
        for old in self.paths()[: -self.keep]:
            remove_folder(old)
        return path

    def newest(self, report: Callable[[str], None] = warnings.warn) -> Checkpoint:
        """The newest checkpoint that is whole; `report` is told of each damaged one passed over.

        Raises:
            CheckpointError: there is none.
        """
        for path in reversed(self.paths()):
            try:
                return Checkpoint.read(path)
            except CheckpointError as error:
                report(str(error))
        raise CheckpointError(f"no usable checkpoint in {self.path}. Start a new run")

    def ahead_of(self, epoch: int, step: int) -> Path | None:
        """The newest whole checkpoint from beyond this place in a training, if there is one."""
        ahead = [path for number, path in sorted(self._numbered()) if number > (epoch, step)]
        for path in reversed(ahead):
            with suppress(CheckpointError):
                Checkpoint.read(path)
                return path
        return None

    def _numbered(self) -> Iterator[tuple[tuple[int, int], Path]]:
        try:
            found = list(self.path.iterdir())  # unlike `glob`, it tells when it may not look
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be read ({error.strerror}). Give another folder"
            ) from error
        for path in found:
            if match := NAME.fullmatch(path.name):
                yield (int(match[1]), int(match[2] or 0)), path


def _one_entry_a_line(state: dict[str, Any]) -> str:
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in state.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _read_state(folder: Path) -> dict[str, Any]:
    data = _read_bytes(folder, STATE)
    try:
        state = json.loads(data)
        intact = _checksum(state) == state["checksum"] and isinstance(state["files"], dict)
        written = int(state["format"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        intact, written, state = False, FORMAT, {}
    if not intact:
        raise CheckpointError(
            f"checkpoint {folder} is damaged: {STATE} is not what was written. "
            "Use an earlier checkpoint"
        )
    if written > FORMAT:
        raise CheckpointError(
            f"checkpoint {folder} has format {written}, this Needle reads up to {FORMAT}. "
            "Update needle-dl"
        )
    return state


def _read_bytes(folder: Path, name: str) -> bytes:
    try:
        return read_file(folder / name)
    except OSError as error:
        raise CheckpointError(
            f"{folder} is no whole checkpoint: cannot read {name}: {error.strerror}"
        ) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checksum(state: dict[str, Any]) -> str:
    """SHA-256 of everything in `state` but the checksum itself."""
    rest = {key: value for key, value in state.items() if key != "checksum"}
    return _sha256(json.dumps(rest, sort_keys=True).encode())
