"""The MLP ResNet in NumPy, by hand: forward, backward and Adam without a library in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..harness import problem
from ..harness.problem import Arrays, Problem

Array = np.ndarray


def build(task: str, **settings: Any) -> Any:
    """The contestant for a task."""
    settings.pop("threads")
    return {"training": Training, "epoch": Epoch, "inference": Inference}[task](**settings)


class Network:
    """The model with its parameters in one flat array, so that Adam is one pass over it."""

    def __init__(self, task: Problem, dropout: float, dtype: Any = np.float32) -> None:
        self.flat = np.concatenate([a.ravel() for a in task.learned.values()]).astype(dtype)
        self.gradient, self.m, self.v = (np.zeros_like(self.flat) for _ in range(3))
        self.p = _views(self.flat, task.learned)
        self.g = _views(self.gradient, task.learned)
        self.running = {
            name: a.astype(dtype) for name, a in task.weights.items() if name not in self.p
        }
        self.dropout = dropout
        self.random = np.random.default_rng(0)
        self.steps = 0

    def step(self, x: Array, y: Array) -> float:
        """One step of training; the loss before it."""
        logits, back = self.forward(x)
        shifted = logits - logits.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        total = exponentials.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = (np.log(total[:, 0]) - shifted[rows, y]).mean()
        exponentials /= total
        exponentials[rows, y] -= 1
        exponentials /= len(y)
        gradient = exponentials
        for layer in reversed(back):
            gradient = layer(gradient)
        self._adam()
        return loss

    def forward(self, x: Array) -> tuple[Array, list[Callable[[Array], Any]]]:
        """Logits, and the layers' backward passes."""
        back: list[Callable[[Array], Any]] = []
        h = _relu(self._linear(0, x, back), back)
        for block in range(problem.BLOCKS):
            inner: list[Callable[[Array], Any]] = []
            z = self._linear(1 + 2 * block, h, inner)
            z = _relu(self._norm(2 * block, z, inner), inner)
            z = self._drop(z, inner)
            z = self._linear(2 + 2 * block, z, inner)
            z = self._norm(2 * block + 1, z, inner)
            back.append(_residual(inner))
            z += h
            h = _relu(z, back)
        return self._linear(1 + 2 * problem.BLOCKS, h, back), back

    def _linear(self, i: int, x: Array, back: list[Any]) -> Array:
        weight, bias = f"linear{i}.weight", f"linear{i}.bias"

        def backward(out: Array) -> Array | None:
            np.matmul(x.T, out, out=self.g[weight])
            out.sum(axis=0, out=self.g[bias])
            return out @ self.p[weight].T if i else None

        back.append(backward)
        y = x @ self.p[weight]
        y += self.p[bias]
        return y

    def _norm(self, i: int, x: Array, back: list[Any]) -> Array:
        weight, bias, n = f"norm{i}.weight", f"norm{i}.bias", len(x)
        mean = x.mean(axis=0)
        centred = x - mean
        variance = np.einsum("ij,ij->j", centred, centred) / n
        for name, batch in (("mean", mean), ("variance", variance)):
            running = self.running[f"norm{i}.{name}"]
            running += problem.NORM_MOMENTUM * (batch - running)
        inverse = 1 / np.sqrt(variance + problem.NORM_EPS)
        centred *= inverse

        def backward(out: Array) -> Array:
            along = np.einsum("ij,ij->j", out, centred, out=self.g[weight])
            total = out.sum(axis=0, out=self.g[bias])
            result = out - centred * (along / n)
            result -= total / n
            result *= self.p[weight] * inverse
            return result

        back.append(backward)
        y = centred * self.p[weight]
        y += self.p[bias]
        return y

    def _drop(self, x: Array, back: list[Any]) -> Array:
        if not self.dropout:
            return x
        mask = self.random.random(x.shape, np.float32) >= self.dropout
        mask = mask / np.float32(1 - self.dropout)
        back.append(lambda out: out * mask)
        return x * mask

    def _adam(self) -> None:
        self.steps += 1
        g = self.gradient
        g += problem.WEIGHT_DECAY * self.flat
        self.m *= problem.BETA1
        self.m += (1 - problem.BETA1) * g
        self.v *= problem.BETA2
        g *= g
        g *= 1 - problem.BETA2
        self.v += g
        np.multiply(self.v, 1 / (1 - problem.BETA2**self.steps), out=g)
        np.sqrt(g, out=g)
        g += problem.EPS
        np.divide(self.m, g, out=g)
        g *= problem.LR / (1 - problem.BETA1**self.steps)
        self.flat -= g


class Training:
    """Steps on a few batches in turn."""

    def __init__(self, path: str, dropout: float, dtype: str = "float32") -> None:
        self._task = problem.read(path)
        self._dtype = dtype
        self._network = Network(self._task, dropout, dtype)
        self._batches = [
            (x, y) for x, y in zip(self._task.x.astype(dtype), self._task.y, strict=True)
        ]
        self._number = 0

    def run(self, count: int) -> None:
        """`count` steps."""
        for _ in range(count):
            self._number = (self._number + 1) % len(self._batches)
            self._network.step(*self._batches[self._number])

    def check(self, steps: int) -> list[float]:
        """Losses of the first steps without dropout."""
        network = Network(self._task, 0, self._dtype)
        return [float(network.step(*self._batches[i])) for i in range(steps)]


class Epoch:
    """Epochs of MNIST kept as bytes."""

    def __init__(self, path: str, data: str, batch: int) -> None:
        self._network = Network(problem.read(path), problem.DROPOUT)
        self._images, self._labels = np.load(f"{data}/images.npy"), np.load(f"{data}/labels.npy")
        self._batch = batch
        self._random = np.random.default_rng(0)

    def epoch(self, batches: int) -> float:
        """So many steps over newly shuffled images; the mean loss."""
        order = self._random.permutation(len(self._labels))
        losses = []
        for start in range(0, batches * self._batch, self._batch):
            rows = order[start : start + self._batch]
            x = np.divide(self._images.take(rows, axis=0), np.float32(255))
            losses.append(self._network.step(x, self._labels[rows]))
        return float(np.mean(losses))


class Inference:
    """Logits of one batch, with the running statistics and without a graph."""

    def __init__(self, path: str, batch: int) -> None:
        task = problem.read(path)
        self._weights: Arrays = task.weights
        self._x = np.ascontiguousarray(task.x.reshape(-1, problem.PIXELS)[:batch])
        self._result = self._logits(self._x)

    def run(self, count: int) -> None:
        """`count` calls."""
        for _ in range(count):
            self._result = self._logits(self._x)

    def check(self) -> list[float]:
        """The logits."""
        return self._result.ravel().tolist()

    def _logits(self, x: Array) -> Array:
        w = self._weights
        h = self._linear(0, x)
        np.maximum(h, 0, out=h)
        for block in range(problem.BLOCKS):
            z = self._norm(2 * block, self._linear(1 + 2 * block, h))
            np.maximum(z, 0, out=z)
            z = self._norm(2 * block + 1, self._linear(2 + 2 * block, z))
            z += h
            h = np.maximum(z, 0, out=z)
        last = 1 + 2 * problem.BLOCKS
        return h @ w[f"linear{last}.weight"] + w[f"linear{last}.bias"]

    def _linear(self, i: int, x: Array) -> Array:
        y = x @ self._weights[f"linear{i}.weight"]
        y += self._weights[f"linear{i}.bias"]
        return y

    def _norm(self, i: int, x: Array) -> Array:
        weight, bias, mean, variance = (
            self._weights[f"norm{i}.{name}"] for name in ("weight", "bias", "mean", "variance")
        )
        x -= mean
        x *= weight / np.sqrt(variance + np.float32(problem.NORM_EPS))
        x += bias
        return x


def _views(flat: Array, like: Arrays) -> Arrays:
    views, start = {}, 0
    for name, array in like.items():
        views[name] = flat[start : start + array.size].reshape(array.shape)
        start += array.size
    return views


def _relu(x: Array, back: list[Any]) -> Array:
    y = np.maximum(x, 0)
    back.append(lambda out: out * (y > 0))
    return y


def _residual(inner: list[Any]) -> Any:
    def backward(out: Array) -> Array:
        gradient = out
        for layer in reversed(inner):
            gradient = layer(gradient)
        return gradient + out

    return backward
