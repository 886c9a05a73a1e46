"""The trainer against a training written out in NumPy, and what it promises to its callers."""

import gc
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.errors import ArgumentError, NonFiniteError, StateError
from needle.tensor import Tensor
from needle.training import Callback, Checkpoint, Trainer, error_rate

X = np.random.RandomState(2).rand(50, 3).astype("float32")
Y = (X.sum(axis=1) > 1.5).astype("uint8")


class Recorder(Callback):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_start(self, trainer: Trainer) -> None:
        self.calls.append("start")

    def on_step(self, trainer: Trainer) -> None:
        self.calls.append(trainer.step)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        self.calls.append(f"epoch {record['epoch']}")

    def on_end(self, trainer: Trainer) -> None:
        self.calls.append("end")


def loader(batch_size: int = 20, *, shuffle: bool = False) -> ndl.data.DataLoader:
    return ndl.data.DataLoader(ndl.data.NDArrayDataset(X, Y), batch_size, shuffle=shuffle)


def trainer_of(model: nn.Module, lr: float = 0.5, **more: Any) -> Trainer:
    optimizer = ndl.optim.SGD(model.parameters(), lr=lr)
    more.setdefault("train_loader", loader())
    return Trainer(model, nn.SoftmaxLoss(), optimizer, **more)


def softmax_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


def test_a_training_equals_one_written_out() -> None:
    model = nn.Linear(3, 2)
    state = model.state_dict()
    weight, bias = (np.float64(state[name]) for name in ("weight", "bias"))
    trainer = trainer_of(model, test_loader=loader(7), metrics={"error": error_rate})
    history = trainer.fit(3)
    for record in history:
        losses, wrong = [], 0
        for start in range(0, 50, 20):
            x, y = np.float64(X[start : start + 20]), Y[start : start + 20]
            logits = x @ weight + bias
            losses.extend(softmax_loss(logits, y))
            wrong += (logits.argmax(1) != y).sum()
            out_grad = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(2)[y]
            weight = weight - 0.5 * x.T @ out_grad / len(y)
            bias = bias - 0.5 * out_grad.mean(0, keepdims=True)
        assert record["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert record["train_error"] == pytest.approx(wrong / 50)
        test = softmax_loss(X @ weight + bias, Y)
        assert record["test_loss"] == pytest.approx(test.mean(), rel=1e-4)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert [record["step"] for record in history] == [3, 6, 9]
    np.testing.assert_allclose(model.state_dict()["weight"], weight, rtol=1e-4)


def test_fit_counts_the_epochs_that_are_done() -> None:
    trainer = trainer_of(nn.Linear(3, 2))
    trainer.fit(2)
    assert len(trainer.fit(3)) == 3
    assert len(trainer.fit(1)) == 3


def test_callbacks_are_called_in_order() -> None:
    recorder = Recorder()
    trainer_of(nn.Linear(3, 2), callbacks=[recorder]).fit(2)
    assert recorder.calls == ["start", 1, 2, 3, "epoch 1", 4, 5, 6, "epoch 2", "end"]


def test_callbacks_are_told_of_the_end_when_training_fails() -> None:
    class Stop(Callback):
        def on_step(self, trainer: Trainer) -> None:
            raise KeyboardInterrupt

    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(nn.Linear(3, 2), callbacks=[recorder, Stop()]).fit(2)
    assert recorder.calls == ["start", 1, "end"]


def test_evaluation_leaves_the_model_alone_and_in_its_mode() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    trainer = trainer_of(model)
    before = model.state_dict()
    for training in (True, False):
        model.train() if training else model.eval()
        stream = np.random.get_state()[1].copy()
        first, second = trainer.evaluate(loader()), trainer.evaluate(loader())
        assert first == second
        assert model.training is training
        assert np.array_equal(np.random.get_state()[1], stream)
    np.testing.assert_equal(model.state_dict(), before)
    assert trainer.predict(loader(7)).shape == (50, 2)


def test_the_model_trains_in_training_mode_after_an_evaluation() -> None:
    modes = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            modes.append(self.training)
            return x

    trainer_of(nn.Sequential(nn.Linear(3, 2), Spy()), test_loader=loader(50)).fit(2)
    assert modes == [True] * 3 + [False] + [True] * 3 + [False]


def test_a_model_may_have_several_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return self.linear(x + z)

    batches = ndl.data.DataLoader(ndl.data.NDArrayDataset(X, X, Y), 25)
    assert len(trainer_of(Sum(), train_loader=batches).fit(1)) == 1


def test_a_schedule_is_stepped_after_each_step_and_the_rate_recorded() -> None:
    class Halve:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

        def step(self) -> None:
            self.optimizer.lr /= 2

    trainer = trainer_of(nn.Linear(3, 2), lr=0.8)
    trainer.schedule = Halve(trainer.optimizer)  # type: ignore[assignment]
    assert [record["lr"] for record in trainer.fit(2)] == [0.2, 0.025]


def test_a_long_training_keeps_no_graph_alive() -> None:
    alive: list[int] = []

    class Count(Callback):
        def on_step(self, trainer: Trainer) -> None:
            alive.append(ndl.autograd.TENSOR_COUNTER)

    gc.disable()
    try:
        trainer_of(nn.Linear(3, 2), callbacks=[Count()]).fit(20)
    finally:
        gc.enable()
    assert max(alive[3:]) <= max(alive[:3])


def test_a_restored_training_goes_on_as_if_it_had_never_stopped() -> None:
    def build(seed: int) -> Trainer:
        ndl.seed(seed)
        model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        optimizer = ndl.optim.Adam(model.parameters())
        return Trainer(model, nn.SoftmaxLoss(), optimizer, loader(shuffle=True))

    class Keep(Callback):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == 5:
                self.checkpoint = trainer.checkpoint()

    try:
        whole, keep = build(1), Keep()
        whole.callbacks = [keep]
        whole.fit(4)
        resumed = build(2)
        resumed.restore(keep.checkpoint)
        assert resumed.fit(4) == whole.history
        np.testing.assert_equal(resumed.model.state_dict(), whole.model.state_dict())
    finally:
        ndl.seed(None)


def test_restore_refuses_what_does_not_fit() -> None:
    trainer = trainer_of(nn.Linear(3, 2))
    checkpoint = trainer.checkpoint()
    with pytest.raises(StateError):
        trainer_of(nn.Linear(4, 2)).restore(checkpoint)
    with pytest.raises(StateError, match="restore: the checkpoint's state does not fit"):
        trainer_of(nn.Linear(3, 2), train_loader=[]).restore(checkpoint)
    partial = Checkpoint(checkpoint.model, checkpoint.optimizer, {"epoch": 1, "step": 2})
    with pytest.raises(StateError, match="'history'"):
        trainer.restore(partial)


@pytest.mark.parametrize("epochs", [-1, 1.5, "3", None])
def test_epochs_must_be_a_whole_number(epochs: Any) -> None:
    with pytest.raises(ArgumentError, match=r"fit: epochs=.*Give a whole number, 0 or more"):
        trainer_of(nn.Linear(3, 2)).fit(epochs)


def test_a_training_that_diverges_stops_before_it_is_recorded() -> None:
    with np.errstate(all="ignore"):
        trainer = trainer_of(nn.Linear(3, 2), lr=math.inf)
        with pytest.raises(
            NonFiniteError, match=r"loss of epoch 1 is nan. Lower the learning rate"
        ):
            trainer.fit(1)
    assert trainer.history == []


def test_a_loader_without_batches_is_named() -> None:
    def once() -> Iterator[tuple[Tensor, Tensor]]:
        yield ndl.Tensor(X), ndl.Tensor(Y)

    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        trainer_of(nn.Linear(3, 2), train_loader=once()).fit(2)
    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        trainer_of(nn.Linear(3, 2)).evaluate([])
    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        trainer_of(nn.Linear(3, 2)).predict([])
