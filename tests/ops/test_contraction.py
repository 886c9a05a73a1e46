"""Matrix products and einsum against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import needle as ndl
from needle.errors import ArgumentError, ShapeError
from needle.shapes import spec_of

from .refusals import refused

SIZES = st.integers(0, 4)


@st.composite
def matmul_operands(draw):
    """Two operands of `@`: vectors, matrices, and batches that broadcast."""
    m, k, n = draw(SIZES), draw(SIZES), draw(SIZES)
    batch = draw(st.lists(st.integers(1, 3), max_size=3))
    shapes = []
    for matrix in ((m, k), (k, n)):
        own = [draw(st.sampled_from([1, size])) for size in batch[draw(st.integers(0, 3)) :]]
        kind = draw(st.sampled_from(["vector", "matrix", "batch", "batch"]))
        vector = matrix[1:] if matrix == (m, k) and not shapes else matrix[:1]
        shapes.append({"vector": vector, "matrix": matrix, "batch": (*own, *matrix)}[kind])
    return [np.random.RandomState(0).uniform(-1, 1, shape) for shape in shapes]


@given(operands=matmul_operands())
def test_matmul(operands):
    x, y = operands
    expected = np.asarray(x @ y)
    a, b = ndl.Tensor(x), ndl.Tensor(y)
    for result in (ndl.matmul(a, b), a @ b, a.matmul(b), a @ y, x @ b):
        assert type(result) is ndl.Tensor
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-13, atol=1e-15)


MATMUL_SHAPES = [
    ((2, 3), (3, 2)),
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 2)),
    ((2, 2, 3), (3, 2)),
    ((2, 3), (2, 3, 2)),
    ((3,), (2, 3, 2)),
    ((2, 1, 2, 2), (3, 2, 1)),
    ((1, 2, 2), (2, 2, 2)),
    ((2, 0), (0, 2)),
]


@pytest.mark.parametrize(("a", "b"), MATMUL_SHAPES)
def test_gradients_of_matmul(a, b):
    x, y = np.random.randn(*a), np.random.randn(*b)
    ndl.check_gradients(ndl.matmul, x, y, order=2)
    left, right = ndl.Tensor(x), ndl.Tensor(y)
    (left @ right).sum().backward()
    assert (left.grad.shape, right.grad.shape) == (a, b)


@pytest.mark.parametrize(
    "dtypes", [("float32", "float64"), ("int8", "int64"), ("float32", "int64")]
)
def test_matmul_promotes_as_numpy(dtypes):
    x, y = (np.array([[1, 2], [3, 4]], dtype) for dtype in dtypes)
    result = ndl.Tensor(x) @ ndl.Tensor(y)
    assert result.dtype == (x @ y).dtype
    np.testing.assert_array_equal(result.numpy(), x @ y)


def test_multiply_adds():
    specs = [spec_of(np.ones(shape)) for shape in ((5, 2, 3), (3, 4))]
    assert ndl.MatMul().multiply_adds(*specs) == 5 * 2 * 3 * 4


def test_matmul_of_other_things():
    with pytest.raises(TypeError, match="matmul: a str is no operand"):
        ndl.Tensor([[1.0]]) @ "a"
    with pytest.raises(TypeError, match="unsupported operand"):
        ndl.Tensor([[1.0]]) @ {}


LETTERS = "abcdeXYZ"


@st.composite
def einsums(draw):
    """Subscripts over a few labels, with operands that fit, output stated or implied."""
    sizes = {letter: draw(st.integers(0, 3)) for letter in LETTERS}
    terms = draw(
        st.lists(
            st.lists(st.sampled_from(LETTERS), unique=True, max_size=4), min_size=1, max_size=4
        )
    )
    subscripts = ",".join(draw(st.sampled_from(["", " "])) + "".join(term) for term in terms)
    if draw(st.booleans()):
        used = sorted({letter for term in terms for letter in term})
        chosen = draw(st.lists(st.sampled_from(used), unique=True)) if used else []
        subscripts += "->" + "".join(chosen)
    shapes = [tuple([sizes[letter] for letter in term]) for term in terms]
    return subscripts, [np.random.RandomState(0).uniform(-1, 1, shape) for shape in shapes]


@given(case=einsums())
def test_einsum(case):
    subscripts, arrays = case
    result = ndl.einsum(subscripts, *[ndl.Tensor(array) for array in arrays])
    expected = np.asarray(np.einsum(subscripts, *arrays))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 2)]),
        ("bij,bkj->bik", [(2, 2, 3), (2, 2, 3)]),
        ("i,j", [(2,), (3,)]),
        ("i,i->", [(3,), (3,)]),
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ijk->j", [(2, 2, 2)]),
        ("bhid,bhjd->bhij", [(1, 2, 2, 2), (1, 2, 2, 2)]),
        ("ij,jk,kl->il", [(2, 2), (2, 2), (2, 2)]),
        (",i->i", [(), (3,)]),
    ],
)
def test_gradients_of_einsum(subscripts, shapes):
    arrays = [np.random.randn(*shape) for shape in shapes]
    ndl.check_gradients(lambda *tensors: ndl.einsum(subscripts, *tensors), *arrays, order=2)


def test_einsum_takes_arrays():
    result = ndl.einsum("ij,j->i", np.eye(2), [1.0, 2.0])
    np.testing.assert_array_equal(result.numpy(), [1, 2])


A, B = np.ones((2, 3)), np.ones((4, 5))
REFUSED = {
    "inner sizes": (
        lambda: ndl.matmul(A, B),
        ShapeError,
        r"matmul: inner sizes differ: \(2, 3\) @ \(4, 5\) has 3 and 4. The last axis of a must",
    ),
    "batch axes": (
        lambda: ndl.matmul(np.ones((2, 1, 1)), np.ones((3, 1, 1))),
        ShapeError,
        r"matmul: batch axes \(2,\) and \(3,\) do not broadcast. Make them equal or 1",
    ),
    "a number": (
        lambda: ndl.matmul(A, np.ones(())),
        ShapeError,
        r"matmul: shapes \(2, 3\) and \(\): a number has no rows. Use \* for scaling",
    ),
    "vectors to the class": (
        lambda: ndl.MatMul()(np.ones(3), np.ones(3)),
        ShapeError,
        r"matmul: shapes \(3,\) and \(3,\) are not both matrices. Use ndl.matmul, which takes vect",
    ),
    "einsum with too few operands": (
        lambda: ndl.einsum("ij,jk->ik", A),
        ArgumentError,
        "einsum: 'ij,jk->ik' names 2 operands, 1 were given. Pass one for each",
    ),
    "einsum by other signs": (
        lambda: ndl.einsum("i...->i", A),
        ArgumentError,
        r"einsum: 'i...->i' is not letters, ',' and '->'. Name every axis by a letter",
    ),
    "einsum of a diagonal": (
        lambda: ndl.einsum("ii->i", np.eye(2)),
        ArgumentError,
        "einsum: 'ii' in 'ii->i' names an axis twice. Take the diagonal first",
    ),
    "einsum to a doubled axis": (
        lambda: ndl.einsum("i->ii", np.ones(2)),
        ArgumentError,
        "einsum: 'ii' in 'i->ii' names an axis twice",
    ),
    "einsum to an unknown label": (
        lambda: ndl.einsum("i->j", np.ones(2)),
        ArgumentError,
        "einsum: the output of 'i->j' has a label that no operand has. Leave it out",
    ),
    "einsum by too few labels": (
        lambda: ndl.einsum("i->i", A),
        ShapeError,
        r"einsum: 'i' in 'i->i' names 1 axes of shape \(2, 3\). Write one letter an axis",
    ),
    "einsum of two sizes": (
        lambda: ndl.einsum("ij,jk->ik", A, B),
        ShapeError,
        "einsum: label 'j' in 'ij,jk->ik' has sizes 3 and 4. A label stands for one size",
    ),
}

test_refused = refused(REFUSED)
