"""`DataLoader`: batches of a data set, in order or shuffled, resumable in mid-epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import random
from ..errors import ArgumentError, ShapeError, StateError
from ..philox import PhiloxStream
from ..shapes import as_count, as_int
from ..streams import Stream, turn
from ..tensor import Tensor
from .dataset import Dataset, as_array, collate, declares
from .prefetch import prefetched
from .transforms import all_own, drawing_from

Array = npt.NDArray[Any]
Batch = tuple[Tensor, ...]

_DRAWS_A_BATCH = 1 << 32  # more draws than one batch can make


@dataclass
class _Epoch:
    """One pass over the data: where its stream stood before it, what it drew, how far it is."""

    start: dict[str, Any]
    order: Array
    transform_seed: int | None  # of the transforms' draws, where the loader has a seed
    consumed: int = 0
    finished: bool = False


class DataLoader:
    """Iterates over batches of a data set; each batch is a tuple of tensors.

    Shuffling draws one permutation at each `iter()`, and nothing else is drawn there, in the
    constructor or in `next()` (by the loader itself: the data set's transforms draw when their
    batch is fetched). Iterators of one loader are independent. Batches need no gradient and keep
    the data set's dtypes.

    An exception of the data set gets a note that names the sample.

    Args:
        dataset: has `__getitem__` and `__len__`; see `Dataset`. Items are arrays, numbers, or
            tuples of them.
        batch_size: samples a batch; the last one may be shorter.
        shuffle: a new random order each epoch, instead of 0 … n-1.
        drop_last: leave out a last batch that is shorter.
        seed: the order and Needle's own transforms draw from a stream of the loader's own with
            this seed, and from no global state. Without it they draw from NumPy's global state,
            or from Needle's stream after `needle.seed(n)`.
        prefetch: batches to fetch ahead in a background thread. Only done where it cannot change
            a number: the data set is `pure`, and there are no transforms, or Needle's own and a
            seed. Worth it where fetching takes milliseconds while the training step runs in native
            code on a processor to spare; beside a step of Python code both get slower.

    Raises:
        ArgumentError: a batch size below 1 and the like.
        ShapeError: (in `next()`) items that make no batch, or a `batched` data set that does not
            return one row a sample.

    Example:
        >>> import needle as ndl, numpy as np
        >>> data = ndl.data.NDArrayDataset(np.arange(5.0), np.arange(5))
        >>> loader = ndl.data.DataLoader(data, batch_size=2, shuffle=True, seed=0)
        >>> len(loader)
        3
        >>> sorted(int(label) for _, y in loader for label in y.numpy())
        [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        seed: int | None = None,
        prefetch: int = 0,
    ) -> None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise ArgumentError(
                f"DataLoader: a {type(dataset).__name__} is no data set. "
                "Pass an object with __getitem__ and __len__"
            )
        self.dataset = dataset
        self.batch_size = as_count(batch_size, "DataLoader", "batch_size", 1)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.seed = None if seed is None else as_int(seed, "DataLoader", "seed")
        self.prefetch = as_count(prefetch, "DataLoader", "prefetch", 0)
        self._own_stream: Stream | None = None if seed is None else PhiloxStream(seed)
        self._epoch: _Epoch | None = None  # the one begun last
        self._resumed = False  # whether that one waits for its next iter()

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return self._batches_in(len(self.dataset))

    def __iter__(self) -> Iterator[Batch]:
        if self._epoch is None or not self._resumed:
            self._epoch = self._begin(self._own_stream or random.ambient_stream())
        self._resumed = False
        return self._run(self._epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the iterator made last stands, as plain JSON values.

        Another loader over the same data that is given this state goes on with the batches that
        were left, and then with the epochs that would have followed. Where batches draw from the
        ambient stream, the caller also keeps `needle.random.get_state()`.
        """
        epoch, own = self._epoch, self._own_stream
        if epoch is not None and not epoch.finished:
            return {**self._layout(), "stream": epoch.start, "batches": epoch.consumed}
        return {**self._layout(), "stream": own.get_state() if own else None, "batches": None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next `iter()` go on where `state_dict` was called; draws nothing.

        Raises:
            StateError: the state of a loader with other settings, or no loader's state.
        """
        layout = self._layout()
        if not _is_loader_state(state, layout):
            raise _bad_state(state, "is no loader's state")
        if wrong := [name for name, value in layout.items() if state[name] != value]:
            texts = [f"{name}={state[name]!r}, here {layout[name]!r}" for name in wrong]
            raise StateError(
                f"DataLoader.load_state_dict: the state was saved with {'; '.join(texts)}. "
                "Make the loader as it was"
            )
        if (state["batches"] or 0) > len(self):
            raise _bad_state(state, f"is no state within an epoch of {len(self)} batches")
        stream = None if state["stream"] is None else random.stream_from_state(state["stream"])
        self._epoch = None
        if stream is not None and state["batches"] is not None:
            self._epoch = self._begin(stream)
            self._epoch.consumed = state["batches"]
        self._resumed = self._epoch is not None
        if self._own_stream is not None and stream is not None:
            self._own_stream = stream

    def _layout(self) -> dict[str, Any]:
        return {
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": bool(self.shuffle),
            "drop_last": bool(self.drop_last),
            "seed": self.seed,
        }

    def _batches_in(self, samples: int) -> int:
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def _begin(self, stream: Stream) -> _Epoch:
        """Draw what an epoch needs beforehand."""
        n = len(self.dataset)
        with turn:  # another thread's draws come before or after
            start = stream.get_state()
            order = stream.permutation(n) if self.shuffle else np.arange(n)
            seed = None if self.seed is None else int(stream.integers(0, 1 << 63))
        return _Epoch(start, order, seed)

    def _run(self, epoch: _Epoch) -> Iterator[Batch]:
        fetch = self._fetcher(epoch)
        numbers = range(epoch.consumed, self._batches_in(len(epoch.order)))
        if self.prefetch and self._may_prefetch():
            batches = prefetched(fetch, numbers, self.prefetch)
        else:
            # Not map: a StopIteration of the data set would end it as if all had been fetched.
            batches = (fetch(number) for number in numbers)
        for batch in batches:
            epoch.consumed += 1
            yield batch
        epoch.finished = True

    def _fetcher(self, epoch: _Epoch) -> Callable[[int], Batch]:
        """A function from the number of a batch to the batch."""
        dataset, size, order = self.dataset, self.batch_size, epoch.order
        read = _read_together if declares(dataset, "batched") else _read_one_by_one

        def fetch(number: int) -> Batch:
            arrays = read(dataset, order[number * size : (number + 1) * size])
            return tuple([Tensor.wrap(array) for array in arrays])

        if epoch.transform_seed is None:
            return fetch
        stream = PhiloxStream(epoch.transform_seed)

        def fetch_seeded(number: int) -> Batch:
            # Each batch has draws of its own, so that it depends on nothing but its number.
            stream.draw = number * _DRAWS_A_BATCH
            with drawing_from(stream):
                return fetch(number)

        return fetch_seeded

    def _may_prefetch(self) -> bool:
        """Whether nothing that fetching runs can draw from a stream that others draw from."""
        dataset = self.dataset
        if not isinstance(dataset, Dataset) or not declares(dataset, "pure"):
            return False
        if type(dataset).apply_transforms is not Dataset.apply_transforms:
            return False
        transforms = dataset.transforms or ()
        return not transforms or (self.seed is not None and all_own(transforms))


def _bad_state(state: object, reason: str) -> StateError:
    return StateError(
        f"DataLoader.load_state_dict: {state!r:.200} {reason}. Give what state_dict returned"
    )


def _is_loader_state(state: object, layout: dict[str, Any]) -> bool:
    if not isinstance(state, dict) or set(state) != {*layout, "stream", "batches"}:
        return False
    batches = state["batches"]
    return batches is None or (isinstance(batches, int) and batches >= 0 and bool(state["stream"]))


def _read_together(dataset: Any, indices: Array) -> tuple[Array, ...]:
    try:
        items = dataset[indices]
    except Exception as error:
        samples = np.array2string(indices, threshold=20, max_line_width=1000)
        error.add_note(f"while fetching samples {samples}")
        raise
    fields = items if isinstance(items, (tuple, list)) else (items,)
    arrays = tuple([as_array(field, "DataLoader") for field in fields])
    if any(array.shape[:1] != indices.shape for array in arrays):
        raise ShapeError(
            f"DataLoader: fields of shapes {', '.join(str(array.shape) for array in arrays)} for "
            f"{len(indices)} samples. Return one row a sample, or leave out batched = True"
        )
    return arrays


def _read_one_by_one(dataset: Any, indices: Array) -> tuple[Array, ...]:
    items: list[Any] = []
    for index in indices.tolist():
        try:
            items.append(dataset[index])
        except Exception as error:
            error.add_note(f"while fetching sample {index}")
            raise
    return collate(items)
