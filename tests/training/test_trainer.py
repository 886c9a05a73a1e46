"""The trainer against a training written out in NumPy, and what it promises to its callers."""

import gc
import json
import math
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.errors import ArgumentError, NeedleError, NonFiniteError, StateError, TraceError
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


@pytest.fixture(params=[True, False], ids=["compiled", "eager"])
def compiled(request: pytest.FixtureRequest) -> bool:
    return request.param


def loader(batch_size: int = 20, *, shuffle: bool = False) -> ndl.data.DataLoader:
    return ndl.data.DataLoader(ndl.data.NDArrayDataset(X, Y), batch_size, shuffle=shuffle)


def trainer_of(model: nn.Module, lr: float = 0.5, **more: Any) -> Trainer:
    optimizer = ndl.optim.SGD(model.parameters(), lr=lr)
    more.setdefault("train_loader", loader())
    return Trainer(model, nn.SoftmaxLoss(), optimizer, **more)


def softmax_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


def test_a_training_equals_one_written_out(compiled: bool) -> None:
    model = nn.Linear(3, 2)
    state = model.state_dict()
    weight, bias = (np.float64(state[name]) for name in ("weight", "bias"))
    trainer = trainer_of(
        model, test_loader=loader(7), metrics={"error": error_rate}, compile=compiled
    )
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


def test_evaluation_leaves_the_model_alone_and_in_its_mode(compiled: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5))
    trainer = trainer_of(model, compile=compiled)
    before = model.state_dict()
    for training in (True, False):
        model.train() if training else model.eval()
        frozen = model.modules[1].eval()
        stream = np.random.get_state()[1].copy()
        first, second = trainer.evaluate(loader()), trainer.evaluate(loader())
        assert first == second
        assert model.training is model.modules[2].training is training
        assert not frozen.training
        assert np.array_equal(np.random.get_state()[1], stream)
    np.testing.assert_equal(model.state_dict(), before)
    assert trainer.predict(loader(7)).shape == (50, 2)
    unlabelled = ndl.data.DataLoader(ndl.data.NDArrayDataset(X), 7)
    assert np.array_equal(trainer.predict(unlabelled), trainer.predict(loader(7)))


def test_the_model_trains_in_training_mode_after_an_evaluation() -> None:
    modes = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            modes.append(self.training)
            return x

    model = nn.Sequential(nn.Linear(3, 2), Spy())
    trainer_of(model, test_loader=loader(50), compile=False).fit(2)
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


@pytest.mark.parametrize("lr", [np.float32(0.5), np.array(0.5), ndl.Tensor(0.5), 1])
def test_a_rate_of_any_kind_is_recorded_as_a_number(lr: Any, compiled: bool) -> None:
    (record,) = trainer_of(nn.Linear(3, 2), lr=lr, compile=compiled).fit(1)
    assert json.loads(json.dumps(record))["lr"] == float(lr)


def test_a_long_training_keeps_no_graph_alive(compiled: bool) -> None:
    alive: list[int] = []

    class Count(Callback):
        def on_step(self, trainer: Trainer) -> None:
            alive.append(ndl.autograd.TENSOR_COUNTER)

    gc.disable()
    try:
        trainer_of(nn.Linear(3, 2), callbacks=[Count()], compile=compiled).fit(6)
    finally:
        gc.enable()
    assert max(alive[6:]) <= max(alive[3:6])  # both shapes of batch are compiled in the first epoch


OPTIMIZERS = {
    "sgd": lambda params: ndl.optim.SGD(params, lr=0.1),
    "momentum": lambda params: ndl.optim.SGD(params, lr=0.1, momentum=0.9),
    "adam": ndl.optim.Adam,
}


class Keep(Callback):
    """Keeps a checkpoint of every moment, as it is then."""

    def __init__(self) -> None:
        self.checkpoints: list[Checkpoint] = []

    def on_start(self, trainer: Trainer) -> None:
        self.checkpoints.append(trainer.checkpoint())

    def on_step(self, trainer: Trainer) -> None:
        self.checkpoints.append(trainer.checkpoint())


@pytest.mark.parametrize(
    ("optimizer", "stream"),
    [("sgd", "numpy"), ("momentum", "philox"), ("adam", "numpy"), ("adam", "philox")],
)
def test_a_training_goes_on_bit_for_bit_wherever_it_was_stopped(
    optimizer: str, stream: str, compiled: bool
) -> None:
    """Also in the first step, and before the first batch of its shape, the last of an epoch."""

    def build(seed: int) -> Trainer:
        ndl.seed(seed if stream == "philox" else None)
        np.random.seed(seed)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
        rule = OPTIMIZERS[optimizer](model.parameters())
        return Trainer(
            model,
            nn.SoftmaxLoss(),
            rule,
            loader(shuffle=True),
            loader(30),
            schedule=ndl.optim.CosineLR(rule, total=5, warmup=1),
            compile=compiled,
        )

    whole, keep = build(1), Keep()
    whole.callbacks = [keep]
    history = whole.fit(2)
    whole.callbacks = []
    model, optimizer_state = whole.model.state_dict(), whole.optimizer.state_dict()
    assert len(keep.checkpoints) == 7
    # The last time it is a trainer that has trained already.
    for checkpoint, reuse in [*((c, False) for c in keep.checkpoints), (keep.checkpoints[4], True)]:
        resumed = whole if reuse else build(2)
        resumed.restore(checkpoint)
        assert resumed.fit(2) == history
        np.testing.assert_equal(resumed.model.state_dict(), model)
        np.testing.assert_equal(resumed.optimizer.state_dict(), optimizer_state)


def test_compiled_and_eager_trainings_agree() -> None:
    results = []
    for compiled in (True, False):
        ndl.seed(5)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))
        optimizer = ndl.optim.Adam(model.parameters())
        metrics = {"error": error_rate}
        trainer = Trainer(
            model,
            nn.SoftmaxLoss(),
            optimizer,
            loader(shuffle=True),
            loader(30),
            schedule=ndl.optim.CosineLR(optimizer, 15),
            metrics=metrics,
            compile=compiled,
        )
        results.append((trainer.fit(5), trainer.predict(loader(30))))
    (history, outputs), (expected, logits) = results
    for ours, theirs in zip(history, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    np.testing.assert_allclose(outputs, logits, rtol=1e-3, atol=1e-5)


def test_each_shape_of_batch_is_compiled_once() -> None:
    trainer = trainer_of(nn.Linear(3, 2), test_loader=loader(25))
    trainer.fit(4)
    trainer.predict(loader(25))
    trainer.fit(6)
    # Training batches of 20 and 10, test batches of 25 with and without a target.
    assert len(trainer._compiled.programs) == 4  # pyright: ignore[reportPrivateUsage]


def test_a_subclass_may_do_another_step(compiled: bool) -> None:
    class Clipped(Trainer):
        def train_step(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
            *inputs, target = batch
            output = self.model(*inputs)
            loss = self.loss(output, target)
            loss.backward()
            self.norm = self.optimizer.clip_grad_norm(1e-3)
            self.optimizer.step()
            self.optimizer.reset_grad()
            return output.detach(), loss.detach()

    model = nn.Linear(3, 2)
    before = model.state_dict()
    optimizer = ndl.optim.SGD(model.parameters(), lr=1.0)
    trainer = Clipped(model, nn.SoftmaxLoss(), optimizer, loader(50), compile=compiled)
    trainer.fit(3)
    moved = sum(((model.state_dict()[name] - before[name]) ** 2).sum() for name in before)
    assert 0 < moved**0.5 <= 3e-3 * 1.001
    assert float(trainer.norm) > 1e-3


def test_a_step_that_cannot_be_compiled_says_what_to_do() -> None:
    class Peek(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    model = nn.Sequential(nn.Linear(3, 2), Peek())
    with pytest.raises(TraceError, match="values of a tensor") as caught:
        trainer_of(model).fit(1)
    assert caught.value.__notes__ == ["Trainer(..., compile=False) runs such a step eagerly"]
    assert len(trainer_of(model, compile=False).fit(1)) == 1


def test_a_trainer_goes_without_a_collection() -> None:
    trainer = trainer_of(nn.Linear(3, 2), test_loader=loader(25))
    trainer.fit(2)
    references = [weakref.ref(thing) for thing in (trainer, trainer.model, trainer.optimizer)]
    gc.collect()
    gc.disable()
    try:
        del trainer
        assert [reference() for reference in references] == [None] * 3
    finally:
        gc.enable()


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": "a"}, "restore: epoch must be an integer, got 'a'"),
        ({"step": 1.5}, "restore: step must be an integer, got 1.5"),
        ({"epoch": -(10**30)}, r"does not fit this trainer \(epoch -10{30}\). Use the"),
        ({"step": -1}, r"does not fit this trainer \(step -1\). Use the"),
        ({"running": {"count": math.inf, "sums": {}}}, "restore: the checkpoint's state does not"),
        ({"lr": "a"}, r"does not fit this trainer \(lr 'a'\). Use the"),
        ({"history": ["a"]}, "restore: the checkpoint's state does not fit"),
        ({"history": [{"train_loss": "a"}]}, "train_loss 'a' in its history"),
        ({"running": {"count": "a", "sums": {}}}, "restore: the checkpoint's state does not fit"),
    ],
)
def test_restore_refuses_a_state_that_is_whole_but_says_nonsense(change, message) -> None:
    trainer = trainer_of(nn.Linear(3, 2))
    checkpoint = trainer.checkpoint()
    strange = Checkpoint(checkpoint.model, checkpoint.optimizer, {**checkpoint.state, **change})
    with pytest.raises(NeedleError, match=message):
        trainer.restore(strange)


def test_restore_takes_what_a_callback_added_to_the_history() -> None:
    trainer = trainer_of(nn.Linear(3, 2))
    history = [{"epoch": 1, "train_loss": 0.5, "note": "warm", "confusion": [[1, 0], [0, 1]]}]
    checkpoint = trainer.checkpoint()
    checkpoint.state["history"] = history
    trainer.restore(checkpoint)
    assert trainer.history == history


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        (-1, "fit: epochs=-1. Give 0 or more"),
        (1.5, "fit: epochs must be an integer, got 1.5"),
        ("3", "fit: epochs must be an integer, got '3'"),
        (None, "fit: epochs must be an integer, got None"),
    ],
)
def test_epochs_must_be_a_whole_number(epochs: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        trainer_of(nn.Linear(3, 2)).fit(epochs)
    assert len(trainer_of(nn.Linear(3, 2)).fit(np.int64(1))) == 1  # type: ignore[arg-type]


def test_a_metric_cannot_take_the_place_of_the_loss() -> None:
    with pytest.raises(ArgumentError, match="metric is called 'loss'"):
        trainer_of(nn.Linear(3, 2), metrics={"loss": error_rate})


def test_a_loss_is_no_class() -> None:
    model = nn.Linear(3, 2)
    optimizer = ndl.optim.SGD(model.parameters())
    with pytest.raises(ArgumentError, match=r"loss is the class MSELoss.*: MSELoss\(\)"):
        Trainer(model, nn.MSELoss, optimizer, [])


def test_metrics_are_functions_by_name_that_return_a_number() -> None:
    with pytest.raises(ArgumentError, match=r"metrics is a list. Pass functions by name"):
        trainer_of(nn.Linear(3, 2), metrics=[error_rate])
    for value in (None, np.ones(2), "a"):
        trainer = trainer_of(nn.Linear(3, 2), metrics={"mine": lambda *_, value=value: value})
        with pytest.raises(ArgumentError, match=r"metric 'mine' returned .*Return one number"):
            trainer.evaluate(loader())
    for value in (np.float32(2), np.full((1, 1), 2.0), ndl.Tensor([2.0])):
        trainer = trainer_of(nn.Linear(3, 2), metrics={"mine": lambda *_, value=value: value})
        assert trainer.evaluate(loader())["mine"] == 2


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda output, target: output,
            r"the loss is a Tensor of shape \(20, 2\). Return the mean",
        ),
        (lambda output, target: 1.0, "the loss is a float. Return the mean"),
    ],
)
def test_a_loss_that_is_no_number_is_named(loss: Any, message: str, compiled: bool) -> None:
    trainer = trainer_of(nn.Linear(3, 2), compile=compiled)
    trainer.loss = loss
    with pytest.raises(ArgumentError, match=f"Trainer: {message}"):
        trainer.fit(1)
    with pytest.raises(ArgumentError, match=f"Trainer: {message}"):
        trainer.evaluate(loader())


def test_a_training_that_diverges_stops_before_it_is_recorded() -> None:
    with np.errstate(all="ignore"):
        trainer = trainer_of(nn.Linear(3, 2), lr=1e300)
        message = r"loss of epoch 1 is nan. Lower the learning rate .* or look for NaN in the data"
        with pytest.raises(NonFiniteError, match=message):
            trainer.fit(1)
    assert trainer.history == []


def test_an_epoch_that_was_left_begins_again() -> None:
    class Interrupt(Callback):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == 2:
                raise KeyboardInterrupt

    seen: list[float] = []

    def number(output: np.ndarray, target: np.ndarray) -> float:
        seen.append(0.0)
        return len(seen)

    x = np.ones((6, 3), "float32")
    loader = ndl.data.DataLoader(ndl.data.NDArrayDataset(x, np.zeros(6, int)), 2)
    model = nn.Linear(3, 2)
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.25)
    more: Any = {"metrics": {"number": number}, "callbacks": [Interrupt()]}
    trainer = Trainer(model, nn.SoftmaxLoss(), optimizer, loader, **more)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(1)
    (record,) = trainer.fit(1)
    assert record["step"] == 5  # two were done before
    assert record["train_number"] == 4  # of the third to the fifth


def test_a_training_that_diverged_goes_on_once_it_is_mended() -> None:
    x = np.ones((4, 3), "float32")
    loader = ndl.data.DataLoader(ndl.data.NDArrayDataset(x, np.zeros(4, int)), 2)
    model = nn.Linear(3, 2)
    before = model.state_dict()
    optimizer = ndl.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.SoftmaxLoss(), optimizer, loader)
    model.weight.data = ndl.Tensor(np.full((3, 2), np.nan, "float32"))
    with pytest.raises(NonFiniteError, match="mean training loss of epoch 1 is nan"):
        trainer.fit(1)
    model.load_state_dict(before)
    assert np.isfinite(trainer.fit(1)[-1]["train_loss"])


@pytest.mark.parametrize("alone", [X, ndl.Tensor(X)], ids=["array", "tensor"])
def test_a_batch_is_no_array_or_tensor_alone(alone: Any) -> None:
    trainer = trainer_of(nn.Linear(3, 2))
    for inputs in ([alone], alone):
        with pytest.raises(ArgumentError, match=r"a batch is a \w+\. Pass batches \(\*inputs"):
            trainer.predict(inputs)
    with pytest.raises(ArgumentError, match=r"\(input,\) to predict"):
        trainer.evaluate([alone])
    with pytest.raises(ArgumentError, match=r"\(input,\) to predict"):
        trainer_of(nn.Linear(3, 2), train_loader=[alone]).fit(1)


def test_a_loader_without_batches_is_named() -> None:
    def once() -> Iterator[tuple[Tensor, Tensor]]:
        yield ndl.Tensor(X), ndl.Tensor(Y)

    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        trainer_of(nn.Linear(3, 2), train_loader=once()).fit(2)
    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        trainer_of(nn.Linear(3, 2)).evaluate([])
    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        trainer_of(nn.Linear(3, 2)).predict([])
