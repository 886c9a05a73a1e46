"""Every operator of the registry, compiled: what NumPy makes of it, forward and backward."""

import itertools
import re
import warnings

import numpy as np
import pytest

import needle as ndl
from needle.errors import DTypeError
from tests.contract.cases import CASES, FLOATS, as_value, flat, named, parts
from tests.jit.agreement import expect_agreement


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """Compiled only: through NumPy an operator is its own eager evaluation."""
    pytest.importorskip("llvmlite")
    monkeypatch.setenv("NEEDLE_JIT", "1")
    return "native"


OTHERS = ("float16", "int64", "int8", "uint8", "bool")
EDGES = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, -1e-30, 1e30, np.inf, -np.inf, np.nan])


def length_of(arrays):
    """No sum behind an element is longer than all elements of the inputs together."""
    return sum(np.size(array) for array in flat(arrays))


# One sample of each operator and static arguments, the one with most elements.
LARGEST = {repr(case.op): case for case in sorted(CASES, key=lambda c: length_of(c.arrays()))}
with_largest_cases = pytest.mark.parametrize("case", LARGEST.values(), ids=named)


def in_floats(first, cases):
    """All cases in the dtype `first`, the largest in both; `make fuzz` runs what is left."""
    chosen = []
    for case, dtype in itertools.product(cases, FLOATS):
        rest = dtype != first and case is not LARGEST[repr(case.op)]
        marks = [pytest.mark.fuzz] if rest else []
        chosen.append(pytest.param(case, dtype, id=f"{named(case)}-{dtype}", marks=marks))
    return pytest.mark.parametrize(("case", "dtype"), chosen)


def taken(array):
    """An argument of a call: tensors for arrays, tuples of them for tuples."""
    if isinstance(array, tuple):
        return tuple([as_value(item) for item in array])
    return as_value(array)


def forward(case):
    def function(*inputs):
        values = [ndl.make_tuple(*i) if isinstance(i, tuple) else i for i in inputs]
        return list(parts(case.op(*values)))

    return function


def backward(case):
    """The gradients of a weighted sum of the results."""

    def function(weights, *inputs):
        outputs = forward(case)(*inputs)
        chosen = [(o * w).sum() for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
        if not chosen:
            return []
        sum(chosen[1:], chosen[0]).backward()
        return [None if t.grad is None else t.grad for t in tensors_in(inputs)]

    return function


def tensors_in(inputs):
    return [
        t
        for i in inputs
        for t in (i if isinstance(i, tuple) else (i,))
        if isinstance(t, ndl.Tensor)
    ]


def arrays_of(tensors):
    return [None if t is None else np.array(t.numpy()) for t in tensors]


def run(function, arguments):
    """Results as arrays, on fresh tensors and the same random numbers."""
    np.random.seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, about edges of a domain
        return arrays_of(function(*[taken(array) for array in arguments]))


def expect_alike(ours, theirs, length):
    assert len(ours) == len(theirs)
    for mine, its in zip(ours, theirs, strict=True):
        if its is None:
            assert mine is None
        else:
            finite = its[np.isfinite(its)] if its.dtype.kind == "f" else its
            expect_agreement(mine, its, length, np.abs(finite).max(initial=1.0))


@in_floats("float32", CASES)
def test_forward(case, dtype):
    arrays = case.arrays(dtype)
    eager = run(forward(case), arrays)
    step = ndl.jit(forward(case), warmup=0)
    for _ in range(2):
        expect_alike(run(step, arrays), eager, length_of(arrays))
    assert len(step.programs) == 1


@pytest.mark.parametrize("dtype", OTHERS)
@with_largest_cases
def test_forward_of_other_dtypes(case, dtype):
    arrays = case.arrays(dtype)
    step = ndl.jit(forward(case), warmup=0)
    try:
        eager = run(forward(case), arrays)
    except DTypeError as error:
        with pytest.raises(DTypeError, match=f"^{re.escape(str(error))}$"):
            run(step, arrays)
        return
    expect_alike(run(step, arrays), eager, length_of(arrays))


@in_floats("float64", [case for case in CASES if case.op.differentiable])
def test_gradient(case, dtype):
    arrays = case.arrays(dtype)
    weights = [np.random.RandomState(k).uniform(0.5, 1.5, o.shape) for k, o in
               enumerate(run(forward(case), arrays))]  # fmt: skip
    weights = tuple([w.astype(dtype) for w in weights])
    eager = run(
        lambda w, *inputs: backward(case)([t.detach() for t in w], *inputs), (weights, *arrays)
    )
    step = ndl.jit(lambda w, *inputs: backward(case)([t.detach() for t in w], *inputs), warmup=0)
    for _ in range(2):
        expect_alike(run(step, (weights, *arrays)), eager, length_of(arrays))


def takes_vectors(case):
    """Whether the operator works element by element on vectors of any length."""
    shapes = [i for i in case.inputs if not isinstance(i, float)]
    if isinstance(case.op, ndl.Cast) and case.op.dtype.kind in "iu":
        return False  # of numbers that an integer cannot hold C says nothing
    return bool(shapes) and all(isinstance(i, tuple) and i == (5,) for i in shapes)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", [case for case in CASES if takes_vectors(case)], ids=named)
def test_edges_of_a_domain(case, dtype):
    """Zeros, infinities and NaN go where NumPy lets them go; 12 elements fill no vector."""
    with np.errstate(over="ignore"):
        edges = EDGES.astype(dtype)
    arrays = [
        np.roll(edges, 5 * k) if isinstance(item, tuple) else item
        for k, item in enumerate(case.inputs)
    ]
    try:
        eager = run(forward(case), arrays)
    except ndl.NeedleError as error:
        with pytest.raises(type(error)):
            run(ndl.jit(forward(case), warmup=0), arrays)
        return
    ours = run(ndl.jit(forward(case), warmup=0), arrays)
    for mine, its in zip(ours, eager, strict=True):
        assert mine.dtype == its.dtype
        if its.dtype.kind == "f":
            np.testing.assert_array_equal(np.isnan(mine), np.isnan(its))
            np.testing.assert_allclose(mine, its, rtol=4e-6 if dtype == "float32" else 1e-12)
        else:
            np.testing.assert_array_equal(mine, its)


LAYOUTS = {
    "transposed": lambda a: a.T.copy().T,
    "sliced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: a[::-1].copy()[::-1] if a.ndim else a,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and a.size else a,
}


def laid_out(layout, array):
    if isinstance(array, tuple):
        return tuple([laid_out(layout, item) for item in array])
    return LAYOUTS[layout](array) if isinstance(array, np.ndarray) else array


@with_largest_cases
def test_inputs_of_any_layout(case):
    step = ndl.jit(forward(case), warmup=0)
    for layout in LAYOUTS:
        arrays = [laid_out(layout, array) for array in case.arrays("float32")]
        eager = run(forward(case), arrays)
        expect_alike(run(step, arrays), eager, length_of(arrays))
