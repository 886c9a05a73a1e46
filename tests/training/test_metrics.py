"""Metrics against counting by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from needle.errors import ArgumentError
from needle.training import Averages, error_rate


@given(st.integers(1, 20), st.integers(1, 5), st.data())
def test_error_rate_counts_the_wrong_ones(samples: int, classes: int, data: st.DataObject) -> None:
    scores = st.permutations(range(classes))
    output = np.array([data.draw(scores) for _ in range(samples)], np.float32)
    target = np.array([data.draw(st.integers(0, classes - 1)) for _ in range(samples)], np.uint8)
    wrong = sum(
        list(row).index(max(row)) != label for row, label in zip(output, target, strict=True)
    )
    assert error_rate(output, target) == pytest.approx(wrong / samples, abs=1e-12)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 50)), min_size=1))
def test_averages_weight_batches_by_their_size(batches: list[tuple[float, int]]) -> None:
    averages = Averages()
    for value, count in batches:
        averages.add({"loss": value}, count)
    expected = np.average([v for v, _ in batches], weights=[c for _, c in batches])
    assert averages.means() == {"loss": pytest.approx(expected, rel=1e-9, abs=1e-9)}
    again = Averages()
    again.load_state_dict(json.loads(json.dumps(averages.state_dict())))
    assert again.means() == averages.means()


def test_averages_of_nothing_say_what_is_wrong() -> None:
    with pytest.raises(ArgumentError, match="the loader gave no batch"):
        Averages().means()
