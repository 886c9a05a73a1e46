"""Networks other than MNIST's: weights and batches as arrays, and each loss written once.

A loss is a function `loss(f, *batch)`, where `f` is what a library supplies in its own words:

- `layer(name, x)`: a linear layer, a layer norm or rows of a table; `weight(name)`: its weight;
- `relu`, `tanh`, `sigmoid`, `gelu`, `exp`, `broadcast_to(x, shape)`;
- `attention(q, k, v)`: causal, of arrays (batch, length, heads, width);
- `cross_entropy(logits, y)`, `squared_error(x, y)`, `binary_cross_entropy(logits, y)`: means.

Python's operators, subscripts, `reshape(shape)` and `sum()` are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # of Adam
NORM_EPS = 1e-5
BATCHES = 8

Arrays = dict[str, np.ndarray]
Batch = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Layer:
    """A layer that has weights.

    Args:
        kind: "linear" (sizes: in, out), "norm" (width) or "table" (rows, width).
        sizes: the shape of its weight.
        bias: whether a linear layer adds one.
    """

    kind: str
    sizes: tuple[int, ...]
    bias: bool = True

    def draw(self, random: np.random.Generator) -> Arrays:
        """Its weights in float32."""
        shape, width = self.sizes, self.sizes[-1]
        if self.kind == "table":
            return {"weight": _normal(random, shape) * np.float32(0.1)}
        if self.kind == "norm":
            arrays = {"weight": random.uniform(0.5, 1.5, shape)}
        else:
            arrays = {"weight": random.standard_normal(shape) / shape[0] ** 0.5}
        if self.bias:
            arrays["bias"] = random.uniform(-0.1, 0.1, width)
        return {name: array.astype(np.float32) for name, array in arrays.items()}


@dataclass(frozen=True)
class Network:
    """What a training step of a network is.

    Args:
        text: its row's label.
        layers: the layers, by name.
        batch: draws the arrays of a batch.
        loss: the loss of a batch; see above.
        optimizer: "SGD" or "Adam".
        lr: its learning rate.
    """

    text: str
    layers: Mapping[str, Layer]
    batch: Callable[[np.random.Generator], Batch]
    loss: Callable[..., Any]
    optimizer: str
    lr: float

    def draw(self, batches: int = BATCHES) -> tuple[dict[str, Arrays], list[Batch]]:
        """Weights by layer, and batches: the same each time."""
        random = np.random.default_rng(0)
        weights = {name: layer.draw(random) for name, layer in self.layers.items()}
        return weights, [self.batch(random) for _ in range(batches)]


class Turns:
    """Steps on a few batches in turn.

    Args:
        step: a function (*batch) -> loss that trains a network.
        batches: the batches, as the library takes them.
    """

    def __init__(self, step: Callable[..., Any], batches: Sequence[tuple[Any, ...]]) -> None:
        self.step = step
        self._batches = batches
        self._number = 0

    def run(self, count: int) -> None:
        """`count` steps."""
        for _ in range(count):
            self._next()

    def check(self, steps: int) -> list[float]:
        """Losses of the next steps, which are the first ones if nothing has run."""
        return [float(self._next()) for _ in range(steps)]

    def _next(self) -> Any:
        loss = self.step(*self._batches[self._number])
        self._number = (self._number + 1) % len(self._batches)
        return loss


def _normal(random: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def _whole(random: np.random.Generator, high: int, shape: int | Sequence[int]) -> np.ndarray:
    return random.integers(0, high, shape).astype(np.int32)


def mlp(
    text: str,
    sizes: Sequence[int],
    *,
    batch: int,
    activation: str,
    optimizer: str,
    lr: float,
    classes: bool = True,
) -> Network:
    """Linear layers with an activation in between: a classifier, or a regression."""
    names = [f"linear{i}" for i in range(len(sizes) - 1)]

    def draw(random: np.random.Generator) -> Batch:
        x = _normal(random, (batch, sizes[0]))
        if classes:
            return x, _whole(random, sizes[-1], batch)
        return x, _normal(random, (batch, sizes[-1]))

    def loss(f: Any, x: Any, y: Any) -> Any:
        for name in names[:-1]:
            x = getattr(f, activation)(f.layer(name, x))
        x = f.layer(names[-1], x)
        return f.cross_entropy(x, y) if classes else f.squared_error(x, y)

    layers = {
        name: Layer("linear", pair) for name, pair in zip(names, pairwise(sizes), strict=True)
    }
    return Network(text, layers, draw, loss, optimizer, lr)


def lstm(text: str, *, batch: int, steps: int, inputs: int, hidden: int, classes: int) -> Network:
    """A long short-term memory, unrolled, that classifies a sequence by its last state."""

    def draw(random: np.random.Generator) -> Batch:
        start = np.zeros((batch, hidden), np.float32)
        return _normal(random, (steps, batch, inputs)), start, _whole(random, classes, batch)

    def loss(f: Any, x: Any, start: Any, y: Any) -> Any:
        h = c = start
        for t in range(steps):
            gates = f.layer("input", x[t]) + f.layer("hidden", h)
            i, forget, o, new = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
            c = f.sigmoid(forget) * c + f.sigmoid(i) * f.tanh(new)
            h = f.sigmoid(o) * f.tanh(c)
        return f.cross_entropy(f.layer("logits", h), y)

    layers = {
        "input": Layer("linear", (inputs, 4 * hidden)),
        "hidden": Layer("linear", (hidden, 4 * hidden), bias=False),
        "logits": Layer("linear", (hidden, classes)),
    }
    return Network(text, layers, draw, loss, "Adam", 1e-3)


def gpt(
    text: str, *, batch: int, length: int, width: int, heads: int, blocks: int, vocabulary: int
) -> Network:
    """A decoder with layer norms before attention and MLP, that predicts each next token."""
    rows, split = (batch * length, width), (batch, length, 3, heads, width // heads)

    def draw(random: np.random.Generator) -> Batch:
        tokens = _whole(random, vocabulary, (batch, length + 1))
        return tokens[:, :-1].copy(), tokens[:, 1:].ravel()

    def loss(f: Any, tokens: Any, following: Any) -> Any:
        positions = f.broadcast_to(f.weight("positions"), (batch, length, width))
        h = (f.layer("tokens", tokens) + positions).reshape(rows)
        for i in range(blocks):
            qkv = f.layer(f"qkv{i}", f.layer(f"norm{i}", h)).reshape(split)
            mixed = f.attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
            h = h + f.layer(f"mix{i}", mixed.reshape(rows))
            h = h + f.layer(f"down{i}", f.gelu(f.layer(f"up{i}", f.layer(f"between{i}", h))))
        return f.cross_entropy(f.layer("logits", f.layer("norm", h)), following)

    layers = {
        "tokens": Layer("table", (vocabulary, width)),
        "positions": Layer("table", (length, width)),
    }
    for i in range(blocks):
        layers |= {
            f"norm{i}": Layer("norm", (width,)),
            f"qkv{i}": Layer("linear", (width, 3 * width)),
            f"mix{i}": Layer("linear", (width, width)),
            f"between{i}": Layer("norm", (width,)),
            f"up{i}": Layer("linear", (width, 4 * width)),
            f"down{i}": Layer("linear", (4 * width, width)),
        }
    layers |= {"norm": Layer("norm", (width,)), "logits": Layer("linear", (width, vocabulary))}
    return Network(text, layers, draw, loss, "Adam", 1e-3)


def embedding(text: str, *, batch: int, rows: int, width: int, indices: int) -> Network:
    """Rows of a table side by side, and an MLP on top that predicts a number."""

    def draw(random: np.random.Generator) -> Batch:
        return _whole(random, rows, (batch, indices)), _normal(random, (batch, 1))

    def loss(f: Any, x: Any, y: Any) -> Any:
        wide = f.layer("table", x).reshape((batch, indices * width))
        return f.squared_error(f.layer("out", f.relu(f.layer("hidden", wide))), y)

    layers = {
        "table": Layer("table", (rows, width)),
        "hidden": Layer("linear", (indices * width, 128)),
        "out": Layer("linear", (128, 1)),
    }
    return Network(text, layers, draw, loss, "SGD", 1e-2)


def autoencoder(text: str, *, batch: int, pixels: int, hidden: int, code: int) -> Network:
    """A variational autoencoder (Kingma & Welling 2013); its noise is part of the batch."""

    def draw(random: np.random.Generator) -> Batch:
        return random.random((batch, pixels), np.float32), _normal(random, (batch, code))

    def loss(f: Any, x: Any, noise: Any) -> Any:
        h = f.relu(f.layer("encoder", x))
        mean, logvar = f.layer("mean", h), f.layer("logvar", h)
        z = mean + f.exp(logvar * 0.5) * noise
        logits = f.layer("pixels", f.relu(f.layer("decoder", z)))
        divergence = (f.exp(logvar) + mean * mean - logvar - 1).sum() * (0.5 / batch)
        return f.binary_cross_entropy(logits, x) * pixels + divergence

    layers = {
        "encoder": Layer("linear", (pixels, hidden)),
        "mean": Layer("linear", (hidden, code)),
        "logvar": Layer("linear", (hidden, code)),
        "decoder": Layer("linear", (code, hidden)),
        "pixels": Layer("linear", (hidden, pixels)),
    }
    return Network(text, layers, draw, loss, "Adam", 1e-3)


NETWORKS: dict[str, Network] = {
    "tiny": mlp("tiny MLP, 4-16-16-1, batch 32", (4, 16, 16, 1), batch=32, activation="tanh",
                optimizer="SGD", lr=1e-2, classes=False),
    "deep": mlp("deep MLP, 64-10×128-10, batch 64", (64, *[128] * 10, 10), batch=64,
                activation="tanh", optimizer="Adam", lr=1e-3),
    "lstm": lstm("LSTM, 16 steps, 64-128, batch 32", batch=32, steps=16, inputs=64, hidden=128,
                 classes=10),
    "gpt": gpt("GPT, 2 layers, width 128, 64 tokens, batch 8", batch=8, length=64, width=128,
               heads=4, blocks=2, vocabulary=200),
    "embedding": embedding("embedding 10,000×32, 20 a row, batch 256", batch=256, rows=10_000,
                           width=32, indices=20),
    "autoencoder": autoencoder("variational autoencoder, 784-400-20, batch 100", batch=100,
                               pixels=784, hidden=400, code=20),
    "wide": mlp("wide MLP, 1024-2048-1024-10, batch 128", (1024, 2048, 1024, 10), batch=128,
                activation="relu", optimizer="SGD", lr=1e-2),
}  # fmt: skip
