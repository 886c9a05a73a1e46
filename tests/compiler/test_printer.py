"""Kernels as text: what `ndl.explain` prints is run as Python, and has to give the results."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

import needle as ndl
from needle.graph.expressions import NUMPY

FOLDS = {"Σ": np.add, "max": np.maximum, "min": np.minimum}
WORDS = {name: getattr(NUMPY, name) for name in dir(NUMPY) if not name.startswith("_")}


class Elements(dict):
    """A value in memory: its elements by place, the place of a scalar is ()."""

    def __getitem__(self, place):
        return super().__getitem__(place if isinstance(place, tuple) else (place,))

    def reshape(self, *shape):
        places = product(*map(range, shape))
        return dict(zip(places, [self[place] for place in sorted(self)], strict=True))


def run(text, arrays):
    """Run printed kernels, each line at every position of the loops; the last line's value."""
    values = {f"x{k}": Elements(np.ndenumerate(array)) for k, array in enumerate(arrays)}
    for kernel in text.split("\n\n"):
        title, *lines = kernel.splitlines()
        sizes = sorted((loop, int(size)) for loop, size in re.findall(r"(\w) < (\d+)", title))
        for line in lines:
            name = run_line(line, dict(sizes), values)
    return values[name]


def run_line(line, sizes, values):
    """Run one assignment, or fold where its right side begins with a sign; the name it sets."""
    left, right = line.split(" = ")
    name, places = re.fullmatch(r"(\w+)(?:\[(.*)\])?", left).groups()
    sign, _, folded = right.partition(" ")
    made = Elements()
    for position in product(*map(range, sizes.values())):
        here = WORDS | values | dict(zip(sizes, position, strict=True))
        place = eval(f"({places},)", here) if places else ()
        value = eval(scalars_as_elements(folded if sign in FOLDS else right), here)
        made[place] = FOLDS[sign](made[place], value) if sign in FOLDS and place in made else value
    values[name] = made
    return name


def scalars_as_elements(text):
    return re.sub(r"\b([xat]\d+)\b(?![\[.])", r"\1[()]", text)


FUNCTIONS = {
    "signs": lambda x, y, index: -x - (y - x) + -(y * -x) - (-2 - y),
    "products": lambda x, y, index: x / (y / x) * (x * (y + 1)) / -(x - y),
    "powers": lambda x, y, index: (-(x**2)) ** 2 + (y**2) ** x + (2**x) ** -y + (-x) ** 2,
    "comparisons": lambda x, y, index: ndl.where((x - y).greater(0), x, -y) + x.less(y),
    "used again": lambda x, y, index: (x * y).exp() / (x * y + (x * y).exp()) + (x * y).tanh(),
    "reductions": lambda x, y, index: (x - y.max(0).broadcast_to((4, 5))).sum(1),
    "relu": lambda x, y, index: ndl.grad(lambda x: ((x - y).relu() * y).sum())(x),
    "standardize": lambda x, y, index: ndl.standardize(x, 0) * y,
    "views": lambda x, y, index: x.transpose()[::-1, 1:3] * y.reshape(5, 4)[:, ::2],
    "product": lambda x, y, index: ((x @ y.transpose()).tanh() @ x) + y,
    "an index": lambda x, y, index: x.take(index) - y + index.one_hot(5, "float64"),
    "positions": lambda x, y, index: x[0] * ndl.arange(5, dtype="float64") - 3,
    "softmax": lambda x, y, index: ndl.grad(lambda x: ndl.nn.SoftmaxLoss()(x, index))(x),
    "picked": lambda x, y, index: (x.pick(index) - y.max(1)).min(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_text_says_what_the_kernels_do(name, rng):
    x, y = rng.uniform(0.5, 2.0, (2, 4, 5))
    index = np.array([2, 0, 3, 1])
    arguments = [ndl.Tensor(x), ndl.Tensor(y), ndl.Tensor(index, requires_grad=False)]
    found = run(ndl.explain(FUNCTIONS[name], *arguments).kernels, [x, y, index])
    expected = FUNCTIONS[name](*arguments).numpy()
    assert len(found) == expected.size
    for place, value in np.ndenumerate(expected):
        assert found[place] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("mode", ["0", "numpy"])
def test_explain_names_the_setting_without_native_code(mode, monkeypatch):
    monkeypatch.setenv("NEEDLE_JIT", mode)
    with pytest.raises(ndl.TraceError, match=rf"to show \(numpy: NEEDLE_JIT={mode} asks for none"):
        ndl.explain(lambda x: x * 2, ndl.Tensor([1.0]))
