"""A new tensor that is returned and kept is one tensor, as in the function as written."""

import pytest

import needle as ndl
from needle import nn

from .worlds import zeros


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.h, self.seen = zeros(2), {"h": zeros(2)}


def carried(cell, x):
    cell.h = (cell.h * 0.5 + x).detach()
    return cell.h


def with_a_loss(cell, x):
    cell.h = (cell.h * 0.5 + x).detach()
    return {"loss": cell.h.sum(), "states": [cell.h]}


def in_a_dict(cell, x):
    h = cell.seen["h"] = cell.h = (cell.seen["h"] * 0.5 + x).detach()
    return h, (x * 2).sum()


def returned(result):
    """The tensor with the state."""
    if isinstance(result, dict):
        return result["states"][0]
    return result if isinstance(result, ndl.Tensor) else result[0]


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("function", [carried, with_a_loss, in_a_dict])
def test_a_state_that_is_returned_may_be_changed_there(function, warmup):
    def run(jit):
        cell = Cell()
        step = jit(lambda x: function(cell, x))
        values, kept = [], []
        for k in range(8):
            h = returned(step(ndl.Tensor([1.0 + k, 2.0], requires_grad=False)))
            assert h is cell.h
            if k == 4:
                h.data = h * 0
            if k == 6:
                h.cached_data[0] = 7
            kept.append(h)
            values.append((cell.h.tolist(), cell.seen["h"].tolist()))
        return values, [h.tolist() for h in kept]

    assert run(lambda f: ndl.jit(f, warmup=warmup)) == run(lambda f: f)
