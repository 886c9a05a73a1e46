"""The networks other than MNIST's in JAX: the whole step under jit, its state donated."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ..harness.networks import BETA1, BETA2, EPS, NETWORKS, NORM_EPS, Network, Turns


def build(network: str, threads: int | None) -> Training:
    """The contestant for a network; `threads` is set through the environment."""
    del threads
    return Training(NETWORKS[network])


class Functions:
    """The words in which networks are described, for the parameters `p`."""

    relu, tanh, sigmoid, exp = (
        staticmethod(function) for function in (jax.nn.relu, jnp.tanh, jax.nn.sigmoid, jnp.exp)
    )
    broadcast_to = staticmethod(jnp.broadcast_to)

    def __init__(self, network: Network, p: Any) -> None:
        self._layers, self._p = network.layers, p

    def layer(self, name: str, x: Any) -> Any:
        """A layer's output."""
        kind, p = self._layers[name].kind, self._p[name]
        if kind == "table":
            return p["weight"][x]
        if kind == "norm":
            mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            return (x - mean) / jnp.sqrt(variance + NORM_EPS) * p["weight"] + p["bias"]
        return x @ p["weight"] + p["bias"] if "bias" in p else x @ p["weight"]

    def weight(self, name: str) -> Any:
        """A layer's weight."""
        return self._p[name]["weight"]

    @staticmethod
    def gelu(x: Any) -> Any:
        """The exact one, not JAX's default approximation."""
        return jax.nn.gelu(x, approximate=False)

    @staticmethod
    def attention(q: Any, k: Any, v: Any) -> Any:
        """Causal attention of (batch, length, heads, width)."""
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    @staticmethod
    def cross_entropy(logits: Any, y: Any) -> Any:
        """Mean over the batch."""
        picked = jnp.take_along_axis(logits, y[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(logits, axis=1) - picked).mean()

    @staticmethod
    def squared_error(x: Any, y: Any) -> Any:
        """Mean over all elements."""
        return ((x - y) ** 2).mean()

    @staticmethod
    def binary_cross_entropy(logits: Any, y: Any) -> Any:
        """Mean over all elements."""
        return (jax.nn.softplus(logits) - logits * y).mean()


def training_step(network: Network) -> Any:
    """A compiled function (state, *batch) -> (state, loss)."""

    def loss_of(p: Any, batch: Any) -> Any:
        return network.loss(Functions(network, p), *batch)

    def sgd(state: Any, g: Any) -> Any:
        (p,) = state
        return (jax.tree.map(lambda p, g: p - network.lr * g, p, g),)

    def adam(state: Any, g: Any) -> Any:
        p, m, v, t = state
        t = t + 1
        # 1 - bᵗ would lose half the digits of float32.
        c1, c2 = (-jnp.expm1(t * math.log(b)) for b in (BETA1, BETA2))
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)

        def update(p: Any, m: Any, v: Any) -> Any:
            return p - network.lr * (m / c1) / (jnp.sqrt(v / c2) + EPS)

        return jax.tree.map(update, p, m, v), m, v, t

    updated = {"SGD": sgd, "Adam": adam}[network.optimizer]

    def step(state: Any, *batch: Any) -> Any:
        loss, g = jax.value_and_grad(loss_of)(state[0], batch)
        return updated(state, g), loss

    return jax.jit(step, donate_argnums=0)


class Training(Turns):
    """Steps on a few batches in turn."""

    def __init__(self, network: Network) -> None:
        weights, batches = network.draw()
        p = jax.tree.map(jnp.array, weights)
        self._state: Any = (p,)
        if network.optimizer == "Adam":
            m, v = (jax.tree.map(jnp.zeros_like, p) for _ in range(2))
            self._state = p, m, v, jnp.float32(0)
        self._update = training_step(network)
        super().__init__(self._stepped, [tuple(map(jnp.array, batch)) for batch in batches])

    def run(self, count: int) -> None:
        """`count` steps, and the end of the last one."""
        super().run(count)
        jax.block_until_ready(self._state)

    def _stepped(self, *batch: Any) -> Any:
        self._state, loss = self._update(self._state, *batch)
        return loss
