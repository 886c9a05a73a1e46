"""The MLP ResNet in JAX: the whole step under jit, its state donated."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..harness import problem

# On a CPU drawing dropout's masks by "rbg" is faster than by JAX's default generator.
GENERATOR = "rbg"


def build(task: str, threads: int | None, **settings: Any) -> Any:
    """The contestant for a task; `threads` is set through the environment."""
    del threads
    return {"training": Training, "epoch": Epoch, "inference": Inference}[task](**settings)


def forward(p: Any, running: Any, x: Any, key: Any, *, dropout: float, training: bool) -> Any:
    """Logits, and the running statistics after this batch."""
    updated: dict[str, Any] = {}

    def linear(i: int, x: Any) -> Any:
        return x @ p[f"linear{i}.weight"] + p[f"linear{i}.bias"]

    def norm(i: int, x: Any) -> Any:
        mean, variance = running[f"norm{i}.mean"], running[f"norm{i}.variance"]
        if training:
            batch = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
            rate = problem.NORM_MOMENTUM
            updated[f"norm{i}.mean"] = (1 - rate) * mean + rate * batch[0]
            updated[f"norm{i}.variance"] = (1 - rate) * variance + rate * batch[1]
            mean, variance = batch
        scale = p[f"norm{i}.weight"] / jnp.sqrt(variance + problem.NORM_EPS)
        return (x - mean) * scale + p[f"norm{i}.bias"]

    h = jax.nn.relu(linear(0, x))
    for block in range(problem.BLOCKS):
        z = jax.nn.relu(norm(2 * block, linear(1 + 2 * block, h)))
        if training and dropout:
            mask = jax.random.bernoulli(jax.random.fold_in(key, block), 1 - dropout, z.shape)
            z = jnp.where(mask, z / (1 - dropout), 0)
        h = jax.nn.relu(norm(2 * block + 1, linear(2 + 2 * block, z)) + h)
    return linear(1 + 2 * problem.BLOCKS, h), updated


def training_step(dropout: float) -> Any:
    """A compiled function (state, x, y) -> (state, loss); x may be bytes."""

    def loss_of(p: Any, running: Any, x: Any, y: Any, key: Any) -> Any:
        logits, updated = forward(p, running, x, key, dropout=dropout, training=True)
        picked = jnp.take_along_axis(logits, y[:, None].astype(jnp.int32), axis=1)[:, 0]
        return (jax.nn.logsumexp(logits, axis=1) - picked).mean(), updated

    def step(state: Any, x: Any, y: Any) -> Any:
        p, m, v, running, t, key = state
        if x.dtype == jnp.uint8:
            x = x.astype(jnp.float32) / 255
        key, now = jax.random.split(key)
        (loss, running), g = jax.value_and_grad(loss_of, has_aux=True)(p, running, x, y, now)
        t = t + 1
        b1, b2 = problem.BETA1, problem.BETA2
        # 1 - bᵗ would lose half the digits of float32.
        c1, c2 = (-jnp.expm1(t * math.log(b)) for b in (b1, b2))

        def adam(p: Any, g: Any, m: Any, v: Any) -> Any:
            g = g + problem.WEIGHT_DECAY * p
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            root = jnp.sqrt(v / c2) + problem.EPS
            return p - problem.LR * (m / c1) / root, m, v

        done = {name: adam(p[name], g[name], m[name], v[name]) for name in p}
        p, m, v = ({name: item[i] for name, item in done.items()} for i in range(3))
        return (p, m, v, running, t, key), loss

    return jax.jit(step, donate_argnums=0)


def initial_state(task: problem.Problem) -> Any:
    """Parameters, moments, running statistics, number of steps, key."""
    p = {name: jnp.array(a) for name, a in task.learned.items()}
    m, v = ({name: jnp.zeros_like(a) for name, a in p.items()} for _ in range(2))
    running = {name: jnp.array(a) for name, a in task.weights.items() if name not in p}
    return p, m, v, running, jnp.float32(0), jax.random.key(0, impl=GENERATOR)


class Training:
    """Steps on a few batches in turn."""

    def __init__(self, path: str, dropout: float) -> None:
        self._task = problem.read(path)
        self._step = training_step(dropout)
        self._state = initial_state(self._task)
        self._batches = [
            (jnp.array(x), jnp.array(y)) for x, y in zip(self._task.x, self._task.y, strict=True)
        ]
        self._number = 0

    def run(self, count: int) -> None:
        """`count` steps."""
        for _ in range(count):
            self._number = (self._number + 1) % len(self._batches)
            self._state, _ = self._step(self._state, *self._batches[self._number])
        jax.block_until_ready(self._state)

    def check(self, steps: int) -> list[float]:
        """Losses of the first steps without dropout."""
        step, state, losses = training_step(0), initial_state(self._task), []
        for i in range(steps):
            state, loss = step(state, *self._batches[i])
            losses.append(float(loss))
        return losses

    def first_result(self) -> float:
        """Seconds from the call that compiles to its loss."""
        start = perf_counter()
        self._state, loss = self._step(self._state, *self._batches[0])
        float(loss)
        return perf_counter() - start


class Epoch:
    """Epochs of MNIST kept as bytes, converted inside the compiled step."""

    def __init__(self, path: str, data: str, batch: int) -> None:
        self._step = training_step(problem.DROPOUT)
        self._state = initial_state(problem.read(path))
        self._images, self._labels = np.load(f"{data}/images.npy"), np.load(f"{data}/labels.npy")
        self._batch = batch
        self._random = np.random.default_rng(0)

    def epoch(self, batches: int) -> float:
        """So many steps over newly shuffled images; the mean loss."""
        order = self._random.permutation(len(self._labels))
        losses = []
        for start in range(0, batches * self._batch, self._batch):
            rows = order[start : start + self._batch]
            x, y = self._images.take(rows, axis=0), self._labels[rows]
            self._state, loss = self._step(self._state, x, y)
            losses.append(loss)
        return float(np.mean([float(loss) for loss in losses]))


class Inference:
    """Logits of one batch as an array, from an array."""

    def __init__(self, path: str, batch: int) -> None:
        task = problem.read(path)
        self._p, self._running = initial_state(task)[0], initial_state(task)[3]
        self._call = jax.jit(
            lambda p, running, x: forward(p, running, x, None, dropout=0, training=False)[0]
        )
        self._x = np.ascontiguousarray(task.x.reshape(-1, problem.PIXELS)[:batch])

    def run(self, count: int) -> None:
        """`count` calls."""
        for _ in range(count):
            np.asarray(self._call(self._p, self._running, self._x))

    def check(self) -> list[float]:
        """The logits."""
        return np.asarray(self._call(self._p, self._running, self._x)).ravel().tolist()
