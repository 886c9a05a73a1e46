"""`Trainer`: the training loop, with metrics, checkpoints and exact resumption."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from .. import config, random
from ..context import no_grad
from ..errors import ArgumentError, NeedleError, NonFiniteError, StateError, TraceError
from ..jit import jit
from ..nn import Module
from ..optim import Optimizer, Schedule
from ..shapes import as_count
from ..tensor import Tensor
from .callback import Callback
from .checkpoint import Checkpoint
from .metrics import Averages, Metric, measured, require_batches
from .saved import counted, rate_of, record_of, restore_part, state_of

Batches = Iterable[Sequence[Tensor]]


class Trainer:
    """Trains a model on batches `(*inputs, target)` by `loss(model(*inputs), target)`.

    A step, forward to update, is one compiled program for each shape of batch, and so are
    evaluation and prediction; `jit` says what that means. What they do is in `train_step`,
    `eval_step` and `predict_step`, plain code that a subclass may override.

    Args:
        model: any module.
        loss: maps (output, target) to a scalar tensor, the mean over the batch.
        optimizer: holds the model's parameters.
        train_loader: gives the batches of an epoch each time it is iterated.
        test_loader: the same for what is evaluated after each epoch.
        schedule: its `step()` is called after each training step.
        metrics: functions of the arrays (output, target) of a batch, by name; `error_rate` for
            classification. The loss is always there.
        callbacks: called in this order.
        compile: False runs everything eagerly. The results differ in the last bits.

    Raises:
        ArgumentError: metrics is no dict, or has a "loss"; (in a step) the loss is no tensor of one
            element, or a metric no number.

    Example:
        >>> import needle as ndl, numpy as np
        >>> ndl.seed(0)
        >>> x = np.linspace(-1, 1, 64, dtype="float32").reshape(64, 1)
        >>> loader = ndl.data.DataLoader(ndl.data.NDArrayDataset(x, 3 * x), 16, shuffle=True)
        >>> model = ndl.nn.Linear(1, 1)
        >>> optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = ndl.training.Trainer(model, ndl.nn.MSELoss(), optimizer, loader)
        >>> history = trainer.fit(epochs=40)
        >>> sorted(history[-1]), history[-1]["train_loss"] < 1e-3
        (['epoch', 'lr', 'step', 'train_loss'], True)
        >>> ndl.seed(None)
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Optimizer,
        train_loader: Batches,
        test_loader: Batches | None = None,
        *,
        schedule: Schedule | None = None,
        metrics: Mapping[str, Metric] | None = None,
        callbacks: Sequence[Callback] = (),
        compile: bool = True,
    ) -> None:
        if isinstance(loss, type):
            raise ArgumentError(
                f"Trainer: loss is the class {loss.__name__}. Make a loss of it: {loss.__name__}()"
            )
        self.model = model
        self.loss = loss
        self.optimizer: Any = optimizer  # whatever else its rule has, there is `lr`
        self.train_loader = train_loader
        self.test_loader = test_loader
        self.schedule = schedule
        if not isinstance(metrics, Mapping | None):
            raise ArgumentError(
                f"Trainer: metrics is a {type(metrics).__name__}. Pass functions by name: "
                '{"error": error_rate}'
            )
        self.metrics = dict(metrics or {})
        if "loss" in self.metrics:
            raise ArgumentError("Trainer: a metric is called 'loss'. Give it another name")
        self.callbacks: Sequence[Callback] = callbacks
        self.compile = compile
        self.epochs = 0  # where `fit` will end
        self.epoch = 0  # whole epochs done
        self.step = 0  # steps done in all epochs
        self.lr: float | None = None  # the rate of the last step
        self.running = Averages()
        self._restored = False  # whether `running` is of the epoch that comes next
        self.history: list[dict[str, Any]] = []
        self.samples_per_second = math.nan  # of the last epoch's training, in this process

    def fit(self, epochs: int) -> list[dict[str, Any]]:
        """Train until `epochs` epochs are done in all, those of a restored checkpoint included.

        An epoch that an exception left, as Ctrl-C, begins again when `fit` is called again. Its
        steps stay done, and count.

        Returns:
            One record an epoch: epoch, step, lr, train_loss, test_loss and the other metrics with
            the same prefixes. Nothing in it depends on the time it took.

        Raises:
            ArgumentError: `epochs` is no integer ≥ 0.
            NonFiniteError: the mean training loss of an epoch is infinite or no number.
            TraceError: the step does something that a program could not repeat.
        """
        self.epochs = epochs = as_count(epochs, "fit", "epochs", 0)
        try:
            for callback in self.callbacks:
                callback.before_start(self)
            for callback in self.callbacks:
                callback.on_start(self)
            while self.epoch < epochs:
                self._train_epoch()
        finally:
            for callback in self.callbacks:
                callback.on_end(self)
        return self.history

    def train_step(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """Forward, backward and update on one batch.

        Returns:
            The output and the loss, detached from the graph.
        """
        *inputs, target = batch
        output = self.model(*inputs)
        loss = self._loss_of(output, target)
        loss.backward()
        self.optimizer.step()
        self.optimizer.reset_grad()
        return output.detach(), loss.detach()

    def eval_step(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the loss on one batch."""
        *inputs, target = batch
        output = self.model(*inputs)
        return output, self._loss_of(output, target)

    def predict_step(self, *inputs: Tensor) -> Tensor:
        """The output for one batch."""
        return self.model(*inputs)

    def evaluate(self, loader: Batches) -> dict[str, float]:
        """Mean loss and metrics over `loader`, in evaluation mode, without graphs.

        Returns:
            Means over the samples, by name: `loss` and the names given as `metrics`.
        """
        averages = Averages()
        with self._evaluation():
            for batch in loader:
                output, loss = self._run("eval_step", *_parts(batch))
                self._measure(averages, output, loss, batch[-1])
        return averages.means()

    def predict(self, loader: Batches) -> np.ndarray:
        """The model's outputs for all of `loader`, in evaluation mode, (samples, …).

        Args:
            loader: Gives batches `(*inputs, target)`, or `(input,)` where nobody knows the target.

        Raises:
            ArgumentError: a batch is an array or tensor alone.
        """
        with self._evaluation():
            batches = map(_parts, loader)
            outputs = [self._run("predict_step", *(b[:-1] or b)).numpy() for b in batches]
        require_batches(len(outputs))
        return np.concatenate(outputs)

    def checkpoint(self) -> Checkpoint:
        """Everything that decides how the training goes on, as it is now."""
        state = {
            "epoch": self.epoch,
            "step": self.step,
            "lr": self.lr,
            "history": list(self.history),
            "running": self.running.state_dict(),
            "schedule": state_of(self.schedule),
            "train_loader": state_of(self.train_loader),
            "test_loader": state_of(self.test_loader),
            "random": random.get_state(),
        }
        return Checkpoint(self.model.state_dict(), self.optimizer.state_dict(), state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`: `fit` ends as if it had never stopped, bit for bit.

        Raises:
            StateError: it belongs to another model, optimiser, schedule or loader.
        """
        state = checkpoint.state
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        try:
            self.epoch = counted(state, "epoch")
            self.step = counted(state, "step")
            self.lr = rate_of(state.get("lr"))  # older checkpoints do not say it
            self.history = [record_of(record) for record in state["history"]]
            self.running.load_state_dict(state["running"])
            self._restored = True
            restore_part(self.schedule, state["schedule"])
            restore_part(self.train_loader, state["train_loader"])
            restore_part(self.test_loader, state["test_loader"])
            random.set_state(state["random"])  # last: what comes before may draw
        except NeedleError:
            raise
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise StateError(
                f"restore: the checkpoint's state does not fit this trainer ({error}). "
                "Use the loaders and schedule it was written with"
            ) from error

    def _loss_of(self, output: Any, target: Tensor) -> Tensor:
        loss: object = self.loss(output, target)
        if not isinstance(loss, Tensor) or loss.size != 1:
            kind = type(loss).__name__
            found = f"{kind} of shape {loss.shape}" if isinstance(loss, Tensor) else kind
            raise ArgumentError(
                f"Trainer: the loss is a {found}. Return the mean over the batch, a tensor of one "
                "element"
            )
        return loss

    def _train_epoch(self) -> None:
        self.model.train()
        if not self._restored:
            self.running = Averages()
        self._restored = False
        started, done_before = perf_counter(), self.running.count
        for batch in self.train_loader:
            self.lr = float(self.optimizer.lr)
            output, loss = self._run("train_step", *_parts(batch))
            self._measure(self.running, output, loss, batch[-1])
            self.step += 1
            if self.schedule is not None:
                self.schedule.step()
            for callback in self.callbacks:
                callback.on_step(self)
        self.samples_per_second = (self.running.count - done_before) / (perf_counter() - started)
        self._finish_epoch()

    def _run(self, step: str, *batch: Tensor) -> Any:
        """One of the three steps, compiled or as written."""
        if not self.compile or config.jit_mode() == "0":
            return getattr(self, step)(*batch)
        try:
            return self._compiled((self.model, self.loss, self.optimizer), step, *batch)
        except TraceError as error:
            error.add_note("Trainer(..., compile=False) runs such a step eagerly")
            raise

    # No eager call to warm up: which steps run compiled must not depend on where this process took
    # up the training, or a resumed run would differ in the last bits. A step that makes state, as
    # the very first one does for most optimisers, is eager in every process; with one thread, so
    # that its bits, too, are the same for any number.
    @jit(warmup=0)
    def _compiled(self, state: tuple[Any, ...], step: str, *batch: Tensor) -> Any:
        """A step as a program, which finds what it changes through `state`."""
        with threadpool_limits(1, "blas"):
            return getattr(self, step)(*batch)

    def _finish_epoch(self) -> None:
        train = self.running.means()
        lr = float(self.optimizer.lr) if self.lr is None else self.lr
        if not math.isfinite(train["loss"]):
            raise NonFiniteError(
                f"fit: the mean training loss of epoch {self.epoch + 1} is {train['loss']}. "
                f"Lower the learning rate (now {lr:g}), clip the gradients, or look for NaN in the "
                "data"
            )
        test = {} if self.test_loader is None else self.evaluate(self.test_loader)
        self.running = Averages()
        self.epoch += 1
        record: dict[str, Any] = {"epoch": self.epoch, "step": self.step, "lr": lr}
        record |= {f"train_{name}": value for name, value in train.items()}
        record |= {f"test_{name}": value for name, value in test.items()}
        self.history.append(record)
        for callback in self.callbacks:
            callback.on_epoch(self, record)

    @contextmanager
    def _evaluation(self) -> Generator[None]:
        """Evaluation mode without graphs; then each layer is in the mode that it was in."""
        modes = [(module, module.training) for _, module in self.model.named_modules()]
        self.model.eval()
        try:
            with no_grad():
                yield
        finally:
            if modes[0][1]:
                self.model.train()  # which a model may define, and do more in it
            for module, mode in modes:
                module.training = mode

    def _measure(self, averages: Averages, output: Tensor, loss: Tensor, target: Tensor) -> None:
        values = {"loss": float(loss.numpy())} | measured(self.metrics, output, target)
        averages.add(values, target.shape[0])


def _parts(batch: Sequence[Tensor]) -> Sequence[Tensor]:
    """A batch, which is no tensor itself: that has rows for its parts."""
    if isinstance(batch, Tensor | np.ndarray):
        raise ArgumentError(
            f"Trainer: a batch is a {type(batch).__name__}. Pass batches (*inputs, target), or "
            "(input,) to predict: [(x,)] for one"
        )
    return batch
