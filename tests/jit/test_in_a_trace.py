"""In a trace: what has no value there says so, and says what to write instead."""

import numpy as np
import pytest

import needle as ndl
from needle import nn

w = nn.Parameter([3.0])


def reads(tensor_of):
    return {
        "float": lambda x: float(tensor_of(x)),
        "int": lambda x: int(tensor_of(x)),
        "item": lambda x: tensor_of(x).item(),
        "tolist": lambda x: tensor_of(x).tolist(),
        "numpy": lambda x: tensor_of(x).numpy(),
        "asarray": lambda x: np.asarray(tensor_of(x)),
        "ufunc": lambda x: np.exp(tensor_of(x)),
        "inside numpy": lambda x: np.linalg.norm(tensor_of(x)),
        "cached_data": lambda x: tensor_of(x).cached_data,
        "realize_cached_data": lambda x: tensor_of(x).realize_cached_data(),
        "format": lambda x: f"{tensor_of(x):.3f}",
        "range": lambda x: range(int(tensor_of(x))),
    }


@pytest.mark.parametrize("read", reads(None))
@pytest.mark.parametrize("kind", ["made", "argument", "captured"])
def test_values_cannot_be_read(read, kind):
    tensor_of = {"made": lambda x: x * 2, "argument": lambda x: x, "captured": lambda x: w}[kind]
    function = reads(tensor_of)[read]
    step = ndl.jit(lambda x: (function(x), x)[1], warmup=0)
    with pytest.raises(ndl.TraceError) as caught:
        step(ndl.Tensor([1.0]))
    message = str(caught.value)
    assert "are not known while a jitted function is traced" in message
    assert "return the tensor and read it outside" in message
    assert "x.exp() instead of np.exp(x), ndl.where instead of if" in message
    assert "test_in_a_trace.py" in message
    assert ("made at" in message) == (kind == "made")
    assert step.__wrapped__(ndl.Tensor([1.0])) is not None
    assert w.tolist() == [3.0]


@pytest.mark.parametrize("read", [name for name in reads(None) if name != "range"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ndl.Tensor([2.0]),
        lambda: ndl.Tensor(np.array([2.0]), requires_grad=False),
        lambda: ndl.Tensor.wrap(np.array([2.0])),
    ],
    ids=["list", "array", "wrap"],
)
def test_constants_made_from_python_data_can_be_read(read, make):
    function = reads(lambda x: make())[read]
    step = ndl.jit(lambda x: (function(x), x * make())[1], warmup=0)
    for _ in range(2):
        assert step(ndl.Tensor([1.0])).tolist() == [2.0]


def test_a_tensor_is_always_true():
    step = ndl.jit(lambda x: x + 1 if x * 0 and w else x, warmup=0)
    assert step(ndl.Tensor([1.0])).tolist() == [2.0]


def test_repr_and_str_show_shape_and_dtype():
    texts = []
    step = ndl.jit(
        lambda x: (texts.extend([repr(x * 2), str(x), f"{w}", repr(ndl.Tensor([1.0]))]), x)[1],
        warmup=0,
    )
    step(ndl.init.ones(2, 3))
    made = "needle.Tensor(shape=(2, 3), dtype=float32, traced)"
    captured = "needle.Tensor(shape=(1,), dtype=float64, traced)"
    assert texts == [made, made, captured, "needle.Tensor([1.], dtype=float64)"]
    assert repr(w) == "needle.Tensor([3.], dtype=float64)"


def test_shapes_dtypes_and_lengths_are_known():
    def step(x):
        rows, columns = x.shape
        total = x.sum(1) if x.dtype == np.float32 and x.ndim == 2 else x
        for row in x:
            total = total + row.sum().broadcast_to(total.shape)
        return total.reshape((rows, 1)) * len(x) * x.size * columns

    x = ndl.init.randn(3, 2)
    compiled = ndl.jit(step, warmup=0)
    np.testing.assert_allclose(compiled(x).numpy(), step(x).numpy(), rtol=1e-4, atol=1e-4)


def test_comparing_tensors_raises_as_it_does_eagerly():
    with pytest.raises(TypeError, match="a tensor has no order of its own"):
        ndl.jit(lambda x: x if x > 1 else -x, warmup=0)(ndl.Tensor([1.0]))


def test_masks_that_are_computed():
    with pytest.raises((ndl.TraceError, ndl.NeedleError)):
        ndl.jit(lambda x: x[x.greater(0)], warmup=0)(ndl.Tensor([1.0, -1.0]))


def test_the_advice_works():
    def clipped(x):
        largest = x.abs().max()
        scale = ndl.where(largest.greater(1), largest, largest.ones_like())
        return x / scale.broadcast_to(x.shape)

    step = ndl.jit(clipped, warmup=0)
    assert step(ndl.Tensor([1.0, 4.0])).tolist() == [0.25, 1.0]
    assert step(ndl.Tensor([0.5, 0.25])).tolist() == [0.5, 0.25]


def test_check_finite_inside_is_told_to_go_outside():
    def step(x):
        with ndl.check_finite():
            return x.log()

    with pytest.raises(ndl.TraceError, match=r"check_finite: values .* Put it around the call"):
        ndl.jit(step, warmup=0)(ndl.Tensor([1.0]))


@pytest.mark.parametrize("error", [ndl.TraceError, Exception, BaseException])
@pytest.mark.parametrize("read", [lambda x, k: float(x.sum()), lambda x, k: k > 1])
def test_an_error_that_the_function_catches_is_raised_at_its_end(read, error):
    def step(x, k):
        try:
            return x * read(x, k)
        except error:
            return x * 0

    with pytest.raises(ndl.TraceError, match="known") as caught:
        ndl.jit(step, warmup=0)(ndl.Tensor([2.0]), 3.0)
    assert caught.value.__notes__ == ["The function caught this and went on: so would every call"]


def test_a_caught_error_of_shapes_is_no_error():
    def step(x):
        try:
            return x + ndl.init.ones(2)
        except ndl.ShapeError:
            return x * 3

    assert ndl.jit(step, warmup=0)(ndl.Tensor([2.0])).tolist() == [6.0]


def test_errors_of_shapes_are_those_of_eager_calls():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2))
    texts = []
    for function in (model, ndl.jit(model, warmup=0)):
        with pytest.raises(ndl.ShapeError) as caught:
            function(ndl.init.ones(4, 3))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert texts[0].startswith("modules.1 (Linear): ")


def test_initialisers_and_new_layers_inside():
    def step(x):
        np_free = ndl.init.ones(*x.shape) + ndl.init.zeros_like(x)
        layer = nn.Linear(x.shape[1], 2)
        return layer(x + np_free) * 0 + ndl.arange(2).reshape((1, 2)).broadcast_to((3, 2))

    compiled = ndl.jit(step, warmup=0)
    for _ in range(2):
        assert compiled(ndl.init.ones(3, 4)).tolist() == [[0.0, 1.0]] * 3


def test_the_cached_data_of_a_captured_tensor_can_be_assigned():
    state = ndl.Tensor([1.0], requires_grad=False)

    @ndl.jit(warmup=0)
    def step(x):
        state.cached_data = np.array([5.0])
        return x + state

    for _ in range(2):
        assert step(ndl.Tensor([1.0])).tolist() == [6.0]
        assert state.tolist() == [5.0]
        state.data = ndl.Tensor([0.0])
