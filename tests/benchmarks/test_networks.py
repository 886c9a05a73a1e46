"""The benchmarks' networks: the first loss by hand, then steps of every library that is there."""

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import needle as ndl
from benchmarks import networks, summary
from benchmarks.harness.networks import NETWORKS, NORM_EPS
from benchmarks.harness.process import ContestantError
from benchmarks.peers import needle_networks

STEPS = 3
EXACT = 1e-10  # of a loss in float64


@pytest.fixture(autouse=True)
def _streams():
    yield
    ndl.seed(None)


class ByHand:
    """The words in which networks are described, in NumPy and float64."""

    tanh, exp, sigmoid = staticmethod(np.tanh), staticmethod(np.exp), staticmethod(special.expit)
    broadcast_to = staticmethod(np.broadcast_to)

    def __init__(self, network, weights):
        self.kinds = {name: layer.kind for name, layer in network.layers.items()}
        self.weights = {
            name: {key: array.astype(np.float64) for key, array in arrays.items()}
            for name, arrays in weights.items()
        }

    def layer(self, name, x):
        weight, bias = self.weight(name), self.weights[name].get("bias", 0)
        if self.kinds[name] == "table":
            return weight[x]
        if self.kinds[name] == "norm":
            normal = x - x.mean(-1, keepdims=True)
            normal /= np.sqrt((normal**2).mean(-1, keepdims=True) + NORM_EPS)
            return normal * weight + bias
        return x @ weight + bias

    def weight(self, name):
        return self.weights[name]["weight"]

    def relu(self, x):
        return np.maximum(x, 0)

    def gelu(self, x):
        return x * special.ndtr(x)

    def attention(self, q, k, v):
        result = np.zeros_like(v)
        for t in range(q.shape[1]):  # each position sees itself and those before it
            scores = np.einsum("bhd,bshd->bhs", q[:, t], k[:, : t + 1]) / q.shape[3] ** 0.5
            weights = special.softmax(scores, -1)
            result[:, t] = np.einsum("bhs,bshd->bhd", weights, v[:, : t + 1])
        return result

    def cross_entropy(self, logits, y):
        return -special.log_softmax(logits, 1)[np.arange(len(y)), y].mean()

    def squared_error(self, x, y):
        return ((x - y) ** 2).mean()

    def binary_cross_entropy(self, logits, y):
        return (-special.log_expit(logits) * y - special.log_expit(-logits) * (1 - y)).mean()


@cache
def exact(name):
    """The first losses in float64, eagerly."""
    return needle_networks.Training(NETWORKS[name], False, "float64").check(STEPS)


def as_float64(array):
    return array.astype(np.float64) if array.dtype.kind == "f" else array


@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_loss_is_the_one_by_hand(name):
    network = NETWORKS[name]
    weights, batches = network.draw(1)
    batch = [as_float64(array) for array in batches[0]]
    wanted = network.loss(ByHand(network, weights), *batch)
    assert exact(name)[0] == pytest.approx(float(wanted), rel=EXACT)


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_of_needle_compiled_agree_with_float64(name):
    training = needle_networks.build(name, None, compiled=True)
    np.testing.assert_allclose(training.check(STEPS), exact(name), rtol=networks.TOLERANCE)
    assert training.executor() == "native"
    training.run(1)


@pytest.mark.parametrize("module", ["torch_networks", "jax_networks"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the peers' own
def test_steps_of_the_peers_agree_with_float64(module, name):
    pytest.importorskip(module.partition("_")[0])
    settings = {"compiled": False} if module == "torch_networks" else {}
    training = importlib.import_module(f"benchmarks.peers.{module}").build(name, None, **settings)
    np.testing.assert_allclose(training.check(STEPS), exact(name), rtol=networks.TOLERANCE)
    training.run(1)


def test_weights_and_batches_are_the_same_each_time():
    first, second = (NETWORKS["lstm"].draw(2) for _ in range(2))
    np.testing.assert_equal(first, second)
    assert not np.array_equal(first[1][0][0], first[1][1][0])  # each batch is another one


def test_without_pytorch_the_reference_is_needle_in_float64(monkeypatch):
    def losses(contestant):
        if contestant.module == "torch_networks":
            raise ContestantError("float64: No module named 'torch'")
        return contestant.module, contestant.settings["dtype"]

    monkeypatch.setattr(networks, "_losses", losses)
    assert networks.reference("tiny") == ("Needle", ("needle_networks", "float64"))


def part():
    """A result as `measure` gives it: two threads are faster, PyTorch is out, Needle overran."""

    def row(median, threads=1, processors=1.0):
        return {"median": median, "threads": threads, "processors": processors}

    rows = {
        "Needle jit, 1 thread": {**row(1e-3, processors=1.9), "executor": "native"},
        "Needle jit, 2 threads": {**row(2e-3, 2), "executor": "native"},
        "JAX jit, 1 thread": row(8e-3), "JAX jit, 2 threads": row(4e-3, 2),
    }  # fmt: skip
    lost = "PyTorch eager, 1 thread"
    differences = {**dict.fromkeys(rows, 2e-6), lost: 0.5}
    missing = {lost: f"{lost}: result differs by 0.5"}
    return {"rows": rows, "missing": missing, "differences": differences, "reference": "PyTorch"}


def test_the_table_has_the_best_of_each_library_and_says_who_is_out():
    text = networks.tables({"tiny": part()})["networks"]
    line, notes = text.splitlines()[2], text.splitlines()[3:]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        NETWORKS["tiny"].text, "2.00 ms", "–", "–", "4.00 ms", "2.00×",
    ]  # fmt: skip
    assert "by at most 2e-06; 1e-05 is allowed" in notes[1]
    assert notes[2:] == [
        "- tiny: Needle jit, 1 thread (not counted: kept 1.9 cores busy)",
        "- without PyTorch eager, 1 thread: result differs by 0.5 (tiny)",
    ]


def test_the_table_keeps_the_order_of_the_networks():
    text = networks.tables(dict.fromkeys(sorted(NETWORKS), part()))["networks"]
    labels = [line.split("|")[1].strip() for line in text.splitlines()[2 : 2 + len(NETWORKS)]]
    assert labels == [network.text for network in NETWORKS.values()]


def test_the_front_page_has_a_line_for_each_network():
    machine = {"processor": "P", "cores": 2, "packages": {}}
    item = {"result": {"gpt": part()}, "machine": machine, "date": "2026-01-01"}
    line = summary.table({"networks": item}).splitlines()[2]
    assert line.startswith(f"| a training step, {NETWORKS['gpt'].text} |")


def test_the_part_has_a_place_in_the_readme():
    readme = Path(networks.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert "<!-- table: networks -->" in readme
