"""The vocabulary of elementwise expressions, and what an operator may leave out."""

import numpy as np
import pytest

from needle.graph.expressions import NUMPY
from needle.graph.kinds import Contraction, Elementwise
from needle.graph.op import Op


def test_cast_keeps_values():
    assert NUMPY.cast(np.array([1.5]), np.dtype("int32")).dtype == np.int32


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sigmoid_and_erf_keep_the_dtype(dtype):
    x = np.array([-1, 0, 1], dtype)
    assert NUMPY.sigmoid(x).dtype == dtype
    assert NUMPY.erf(x).dtype == dtype


class Bare(Op):
    pass


def test_an_operator_without_a_shape_rule_says_so():
    assert Bare().infer() is None
    assert list(Bare.samples()) == []


def test_what_kinds_ask_for():
    class Bent(Elementwise):
        pass

    class Product(Contraction):
        pass

    with pytest.raises(NotImplementedError, match="Bent: define expression"):
        Bent().compute(np.ones(2))
    with pytest.raises(NotImplementedError, match="Product: define multiply_adds"):
        Product().multiply_adds()
    with pytest.raises(NotImplementedError, match=r"Bare: define compute\(self, \*arrays\)"):
        Bare().compute()
