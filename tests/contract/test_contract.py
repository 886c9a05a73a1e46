"""What every operator promises, over the registry: a new operator is tested without a new test."""

import copy

import numpy as np
import pytest

import needle as ndl
from needle.errors import DTypeError
from needle.graph.kinds import Elementwise
from needle.graph.op import REGISTRY, TensorOp, TensorTupleOp
from needle.shapes import Spec, spec_of
from tests.contract.cases import (
    DTYPES,
    FLOATS,
    as_value,
    cases_of,
    cases_where,
    differentiable_cases,
    every_case,
    every_class,
    flat,
    parts,
)


def specs_of(arrays):
    """What the shape rule is given for these inputs; run-time scalars are float64 numbers."""
    return [
        tuple([spec_of(item) for item in array]) if isinstance(array, tuple)
        else spec_of(np.asarray(array))
        for array in arrays
    ]  # fmt: skip


def expected_specs(value):
    specs = tuple([spec_of(part.realize_cached_data()) for part in parts(value)])
    return specs if isinstance(value, ndl.TensorTuple) else specs[0]


@every_class
def test_has_samples(cls):
    assert list(cls.samples())


@every_class
def test_its_class_says_whether_it_makes_a_tensor_or_a_tuple(cls):
    case = next(cases_of(cls))
    several = isinstance(case.op(*map(as_value, case.arrays())), ndl.TensorTuple)
    assert (issubclass(cls, TensorOp), issubclass(cls, TensorTupleOp)) == (not several, several)


@every_case
def test_shape_rule_says_what_numpy_gives(case):
    for dtype in DTYPES:
        arrays = case.arrays(dtype)
        try:
            value = case.op(*[as_value(array) for array in arrays])
        except DTypeError:
            assert np.dtype(dtype).kind != "f"
            with pytest.raises(DTypeError):
                case.op.infer(*specs_of(arrays))
            continue
        inferred = case.op.infer(*specs_of(arrays))
        assert inferred == expected_specs(value)
        for spec in inferred if not isinstance(inferred, Spec) else (inferred,):
            assert type(spec.shape) is tuple
            assert isinstance(spec.dtype, np.dtype)


@every_case
def test_lazy_is_eager(case, monkeypatch):
    for dtype in FLOATS:
        arrays = case.arrays(dtype)
        np.random.seed(1)
        eager = case.op(*[as_value(array) for array in arrays])
        np.random.seed(1)
        with monkeypatch.context() as patch:
            patch.setattr(ndl.autograd, "LAZY_MODE", True)
            lazy = case.op(*[as_value(array) for array in arrays])
        assert lazy.requires_grad == eager.requires_grad
        assert len(parts(lazy)) == len(parts(eager))
        for ours, theirs in zip(parts(lazy), parts(eager), strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@cases_where(lambda op: hasattr(op, "decompose"))
def test_decomposition_is_what_is_computed(case, dtype):
    inputs = [as_value(array) for array in case.arrays(dtype)]
    computed = parts(case.op(*inputs))
    decomposed = case.op.decompose(*inputs)
    decomposed = decomposed if isinstance(decomposed, tuple) else (decomposed,)
    assert len(computed) == len(decomposed)
    for ours, theirs in zip(computed, decomposed, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        tolerance = 30 * np.finfo(dtype).eps
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=tolerance, atol=tolerance)


@differentiable_cases(small=True)
def test_gradient_agrees_with_finite_differences_to_second_order(case):
    arrays = case.arrays()
    drawn = [isinstance(given, tuple) for given in case.inputs]  # the others are indices

    def f(*tensors):
        remaining = iter(tensors)
        return parts(
            case.op(
                *[
                    ndl.make_tuple(*[next(remaining) for _ in array])
                    if isinstance(array, tuple)
                    else (next(remaining) if is_drawn else array)
                    for array, is_drawn in zip(arrays, drawn, strict=True)
                ]
            )
        )

    inputs = flat([array for array, is_drawn in zip(arrays, drawn, strict=True) if is_drawn])
    if all(part.dtype != np.float32 for part in f(*map(as_value, inputs))):
        ndl.check_gradients(f, *inputs, order=2)  # float32 has no digits for differences


@differentiable_cases()
def test_gradients_have_their_inputs_shape_and_dtype(case):
    for dtype in FLOATS:
        inputs = [as_value(array) for array in case.arrays(dtype)]
        value = case.op(*inputs)
        for output in parts(value):
            if output.dtype.kind == "f":
                ndl.autograd.compute_gradient_of_variables(output, None)
        for tensor in [part for i in inputs for part in parts(i)]:
            if isinstance(tensor, ndl.Tensor) and tensor.grad is not None:
                assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, tensor.dtype)


@differentiable_cases()
def test_gradient_as_tuple_has_one_gradient_for_each_input(case):
    inputs = [as_value(array, requires_grad=True) for array in case.arrays()]
    value = case.op(*inputs)
    if isinstance(value, ndl.TensorTuple):
        out_grad = ndl.make_tuple(*[part.ones_like() for part in value])
    else:
        out_grad = value.ones_like()
    gradients = case.op.gradient_as_tuple(out_grad, value)
    assert type(gradients) is tuple
    assert len(gradients) == len(inputs)
    for gradient, tensor in zip(gradients, inputs, strict=True):
        if tensor.requires_grad and isinstance(gradient, ndl.Tensor):
            assert gradient.shape == tensor.shape


def transposed(array):
    return array.T.copy().T


def sliced(array):
    """Every second element of a larger array along each axis."""
    larger = np.full([2 * n for n in array.shape], 99, array.dtype)
    view = larger[(slice(None, None, 2),) * array.ndim]
    view[...] = array
    return view


def reversed_axes(array):
    """Negative strides along each axis."""
    flipped = (slice(None, None, -1),) * array.ndim
    return array[flipped].copy()[flipped]


def repeated(array):
    """A read-only broadcast; its first axis repeats the first row."""
    return np.broadcast_to(array[:1], array.shape) if array.size else array


LAYOUTS = (transposed, sliced, reversed_axes, repeated)


def laid_out(layout, array):
    if isinstance(array, tuple):
        return tuple([laid_out(layout, item) for item in array])
    return layout(array) if isinstance(array, np.ndarray) and array.ndim else array


def values_and_gradients(op, arrays):
    np.random.seed(1)
    inputs = [as_value(array) for array in arrays]
    value = op(*inputs)
    for output in parts(value):
        if output.requires_grad and output.dtype.kind == "f":
            output.backward()
    tensors = [part for i in inputs if not isinstance(i, float) for part in parts(i)]
    return [*parts(value), *[t.grad for t in tensors if t.grad is not None]]


@every_case
def test_strides_do_not_matter(case):
    for layout in LAYOUTS:
        arrays = [laid_out(layout, array) for array in case.arrays()]
        dense = [laid_out(np.ascontiguousarray, copy.deepcopy(array)) for array in arrays]
        results = [values_and_gradients(case.op, given) for given in (arrays, dense)]
        for strided, contiguous in zip(*results, strict=True):
            assert strided.dtype == contiguous.dtype
            np.testing.assert_allclose(strided.numpy(), contiguous.numpy(), rtol=1e-13, atol=1e-15)
    for array, before in zip(flat(arrays), flat(dense), strict=True):
        np.testing.assert_array_equal(array, before)  # no operator writes into its inputs


NAMESPACE = {**vars(ndl), **vars(ndl.ops.update), "dtype": np.dtype, "inf": np.inf, "nan": np.nan}


@every_case
def test_repr_is_the_call_that_makes_it(case):
    text = repr(case.op)
    assert text.startswith(f"{type(case.op).__name__}(")
    twin = eval(text, NAMESPACE)
    assert type(twin) is type(case.op)
    assert twin.key == case.op.key


@every_class
def test_equal_static_arguments_make_equal_keys(cls):
    for first, second in zip(cls.samples(), cls.samples(), strict=True):
        assert first.op.key == second.op.key
        assert (first.op.key is None) == getattr(cls, "random", False)
        hash(first.op.key)


@pytest.mark.parametrize("base", [TensorOp, Elementwise, ndl.EWiseMul], ids=lambda c: c.__name__)
def test_users_operators_are_never_merged(base):
    class Mine(base):
        pass

    assert Mine().key is None


def test_different_operators_have_different_keys():
    """Two samples share a key only where class and static arguments are equal."""
    by_key = {}
    for cls in REGISTRY:
        for case in cases_of(cls):
            if case.op.key is not None:
                by_key.setdefault(case.op.key, set()).add(repr(case.op))
    assert [texts for texts in by_key.values() if len(texts) > 1] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, 1.0), (1, True), (0.0, -0.0), (1, 2), (0.1, np.float32(0.1)), (-1, 1)],
)
def test_keys_tell_numbers_apart_by_type_and_bits(first, second):
    assert ndl.MulScalar(first).key != ndl.MulScalar(second).key


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ndl.MulScalar(float("nan")), ndl.MulScalar(np.nan)),
        (ndl.MulScalar(np.float64(2)), ndl.MulScalar(2.0)),
        (ndl.MulScalar(np.array([3])), ndl.MulScalar(3)),
        (ndl.Reshape([2, np.int64(3)]), ndl.Reshape((2, 3))),
        (ndl.Summation([0, 1]), ndl.Summation((0, 1))),
        (ndl.Cast(np.float32), ndl.Cast("float32")),
        (ndl.BroadcastTo(np.array([2, 3])), ndl.BroadcastTo((2, 3))),
    ],
    ids=lambda op: repr(op),
)
def test_static_arguments_are_normalised(first, second):
    assert first.key == second.key


def test_abstract_bases_stay_out_of_the_registry():
    names = {cls.__name__ for cls in REGISTRY}
    assert names.isdisjoint({"ScalarOperator", "Extremum", "Random", "UpdateRule", "Elementwise"})
    assert {"EWiseAdd", "MatMul", "AdamUpdate"} <= names
    assert len(names) == len(REGISTRY)


def test_users_operators_stay_out_of_the_registry():
    class Mine(TensorOp):
        pass

    assert Mine not in REGISTRY


# Operators that users reach by something other than a function of the operator's own name.
REACHED_BY = {
    "AdamDecayUpdate": ndl.optim.Adam,
    "AdamEps": ndl.optim.Adam,
    "AdamRate": ndl.optim.Adam,
    "AdamUpdate": ndl.optim.Adam,
    "AdamWUpdate": ndl.optim.AdamW,
    "BatchNormGradient": ndl.batch_norm,
    "BatchStatistics": ndl.batch_norm,
    "Bernoulli": ndl.init.randb,
    "Cast": ndl.Tensor.astype,
    "CrossEntropyGradient": ndl.cross_entropy,
    "FeatureDot": ndl.scale_shift,
    "MomentumUpdate": ndl.optim.SGD,
    "Normal": ndl.randn,
    "ReLUGradient": ndl.relu,
    "ScatterAdd": ndl.take,
    "Scale": ndl.scale_shift,
    "SGDUpdate": ndl.optim.SGD,
    "StandardizeGradient": ndl.standardize,
    "Slice": ndl.Tensor.__getitem__,
    "StopGradient": ndl.Tensor.detach,
    "TransposedMatMul": ndl.matmul,
    "Uniform": ndl.rand,
    "Unslice": ndl.pad,
}


@every_class
def test_is_exported_and_documented(cls):
    assert vars(cls)["__doc__"].strip()
    assert getattr(ndl, cls.__name__) is cls
    assert getattr(ndl.ops, cls.__name__) is cls
    if cls.__name__ in REACHED_BY:
        assert callable(REACHED_BY[cls.__name__])
        return
    function = getattr(ndl, cls.label)
    assert function is getattr(ndl.ops, cls.label)
    assert function.__module__ == cls.__module__
    assert "Example:\n" in function.__doc__
    assert ">>> import needle as ndl" in function.__doc__
