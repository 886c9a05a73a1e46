"""The MLP ResNet in PyTorch: eager and compiled, with its default and its fused Adam."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from ..harness import problem


def build(task: str, threads: int | None, **settings: Any) -> Any:
    """The contestant for a task."""
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    return {"training": Training, "epoch": Epoch, "inference": Inference}[task](**settings)


class Block(nn.Module):
    """ReLU(x + norm(Linear(Dropout(ReLU(norm(Linear(x)))))))."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.BatchNorm1d(width // 2),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width // 2, width),
            nn.BatchNorm1d(width),
        )

    def forward(self, x: Any) -> Any:
        """The block's output."""
        return torch.relu(self.inner(x) + x)


def network(task: problem.Problem, dropout: float) -> nn.Sequential:
    """The model with the problem's weights."""
    hidden = task.hidden
    blocks = [Block(hidden, dropout) for _ in range(problem.BLOCKS)]
    model = nn.Sequential(
        nn.Linear(problem.PIXELS, hidden), nn.ReLU(), *blocks, nn.Linear(hidden, problem.CLASSES)
    )
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    with torch.no_grad():
        for i, linear in enumerate(linears):
            linear.weight.copy_(torch.from_numpy(task.weights[f"linear{i}.weight"].T.copy()))
            linear.bias.copy_(torch.from_numpy(task.weights[f"linear{i}.bias"]))
        for i, norm in enumerate(norms):
            targets = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            names = ("weight", "bias", "mean", "variance")
            for target, name in zip(targets, names, strict=True):
                target.copy_(torch.from_numpy(task.weights[f"norm{i}.{name}"]))
    return model


def training_step(model: nn.Module, *, fused: bool, compiled: bool) -> Any:
    """A function (x, y) -> loss that trains the model."""
    arguments = {"fused": True} if fused else {}
    optimizer = torch.optim.Adam(
        model.parameters(), lr=problem.LR, weight_decay=problem.WEIGHT_DECAY, **arguments
    )

    def loss_of(x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(model(x), y)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class Training:
    """Steps on a few batches in turn."""

    def __init__(self, path: str, dropout: float, fused: bool, compiled: bool) -> None:
        self._task = problem.read(path)
        self._kind = {"fused": fused, "compiled": compiled}
        self._step = training_step(network(self._task, dropout), **self._kind)
        self._batches = [
            (torch.from_numpy(x), torch.from_numpy(y).long())
            for x, y in zip(self._task.x, self._task.y, strict=True)
        ]
        self._number = 0

    def run(self, count: int) -> None:
        """`count` steps."""
        for _ in range(count):
            self._number = (self._number + 1) % len(self._batches)
            self._step(*self._batches[self._number])

    def check(self, steps: int) -> list[float]:
        """Losses of the first steps without dropout."""
        step = training_step(network(self._task, 0), **self._kind)
        return [float(step(*self._batches[i])) for i in range(steps)]

    def first_result(self) -> float:
        """Seconds from the call that compiles to its loss."""
        start = perf_counter()
        float(self._step(*self._batches[0]))
        return perf_counter() - start


class Epoch:
    """Epochs of MNIST kept as bytes; rows are taken and converted a batch at a time."""

    def __init__(self, path: str, data: str, batch: int, fused: bool, compiled: bool) -> None:
        model = network(problem.read(path), problem.DROPOUT)
        self._step = training_step(model, fused=fused, compiled=compiled)
        self._images = torch.from_numpy(np.load(f"{data}/images.npy"))
        self._labels = torch.from_numpy(np.load(f"{data}/labels.npy"))
        self._batch = batch

    def epoch(self, batches: int) -> float:
        """So many steps over newly shuffled images; the mean loss."""
        order = torch.randperm(len(self._labels))
        losses = []
        for rows in order[: batches * self._batch].split(self._batch):
            x = self._images[rows].float().div_(255)
            losses.append(self._step(x, self._labels[rows].long()))
        return float(torch.stack(losses).mean())


class Inference:
    """Logits of one batch as an array, from an array."""

    def __init__(self, path: str, batch: int, compiled: bool) -> None:
        task = problem.read(path)
        model = network(task, 0).eval()
        self._call = torch.compile(model) if compiled else model
        self._x = np.ascontiguousarray(task.x.reshape(-1, problem.PIXELS)[:batch])

    def run(self, count: int) -> None:
        """`count` calls."""
        with torch.inference_mode():
            for _ in range(count):
                self._call(torch.from_numpy(self._x)).numpy()

    def check(self) -> list[float]:
        """The logits."""
        with torch.inference_mode():
            return self._call(torch.from_numpy(self._x)).numpy().ravel().tolist()
