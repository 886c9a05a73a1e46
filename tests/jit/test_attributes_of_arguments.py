"""What users give to the tensors that they pass, beside the value: `x.scale = 2`."""

import types

import numpy as np
import pytest

import needle as ndl


def tensor(*numbers, **attributes):
    x = ndl.Tensor(np.array(numbers, np.float32), requires_grad=False)
    vars(x).update(attributes)
    return x


def scaled(x):
    return x * x.scale


def scaled_if_asked(x):
    return x * getattr(x, "scale", 7.0)


def through_dict(x):
    return x * vars(x).get("scale", 7.0)


READERS = {"named": scaled, "asked for": scaled_if_asked, "by the dict": through_dict}


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("function", READERS.values(), ids=READERS)
def test_attributes_are_read_at_each_call(function, warmup):
    step = ndl.jit(function, warmup=warmup)
    x, y = tensor(1, 2, scale=2.0), tensor(3, 4, scale=5.0)
    for _ in range(2):
        for one, scale in (x, 2.0), (y, 5.0), (x, 3.0):
            one.scale = scale
            for _ in range(3):
                np.testing.assert_array_equal(step(one).numpy(), one.numpy() * scale)
    assert len(step.programs) == 3


def test_attributes_in_nested_arguments():
    step = ndl.jit(lambda pair, *, more: pair[1].scale * pair[0] + more["x"].scale, warmup=0)
    for scale, offset in (2.0, 1.0), (3.0, 1.0), (2.0, 1.0), (2.0, 5.0):
        pair, more = [tensor(2.0), tensor(0.0, scale=scale)], {"x": tensor(0.0, scale=offset)}
        assert step(pair, more=more).item() == 2 * scale + offset


def test_attributes_that_are_not_there():
    step = ndl.jit(scaled_if_asked, warmup=0)
    x, y = tensor(1, 2), tensor(1, 2, scale=2.0)
    for _ in range(2):
        assert step(x).numpy().tolist() == [7, 14]
        assert step(y).numpy().tolist() == [2, 4]
    del y.scale
    assert step(y).numpy().tolist() == [7, 14]


def test_a_missing_attribute_is_an_error_at_each_call():
    step = ndl.jit(scaled, warmup=0)
    assert step(tensor(1, scale=2.0)).item() == 2
    for _ in range(2):
        with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'scale'"):
            step(tensor(1))


def test_attributes_that_are_not_asked_for_do_not_count():
    step = ndl.jit(lambda x: x * 2, warmup=0)
    for k in range(3):
        assert step(tensor(k, number=k)).item() == 2 * k
    assert len(step.programs) == 1


@pytest.mark.parametrize("how", ["list", "dict", "object", "array", "tensor", "new array"])
def test_what_attributes_hold_may_change(how):
    read = {
        "list": lambda a: a[0],
        "dict": lambda a: a["k"],
        "object": lambda a: a.k,
        "array": lambda a: ndl.Tensor(a),
        "tensor": lambda a: a,
        "new array": lambda a: ndl.Tensor(a),
    }[how]
    step = ndl.jit(lambda x: x * read(x.extra), warmup=0)
    x = tensor(1.0)
    x.extra = {
        "list": [2.0],
        "dict": {"k": 2.0},
        "object": types.SimpleNamespace(k=2.0),
        "array": np.float32([2.0]),
        "tensor": tensor(2.0),
        "new array": np.float32([2.0]),
    }[how]
    for _ in range(2):
        assert step(x).item() == 2
    if how == "new array":
        x.extra = np.float32([3.0])
    elif how == "tensor":
        x.extra.data = tensor(3.0)
    elif how == "object":
        x.extra.k = 3.0
    else:
        x.extra["k" if how == "dict" else 0] = 3.0
    for _ in range(2):
        assert step(x).item() == 3


def test_an_attribute_that_is_set_in_a_trace_is_told():
    def function(x):
        x.seen = x.shape[0]
        return x * 2

    x = tensor(1.0, 2.0)
    with pytest.raises(ndl.TraceError, match="attribute seen of an argument was set while"):
        ndl.jit(function, warmup=0)(x)
    assert not vars(x)
    x.seen = 0
    with pytest.raises(ndl.TraceError, match="attribute seen of an argument was set while"):
        ndl.jit(function, warmup=0)(x)
    assert x.seen == 0
    assert "__getattribute__" not in vars(ndl.Tensor)


def test_state_in_the_attributes_of_an_argument_that_is_a_parameter():
    model = ndl.nn.Linear(2, 2)

    @ndl.jit(warmup=0)
    def step(w):
        (model.weight.sum() * w.sum()).backward()
        w.data = w.detach() - 0.1 * w.grad
        w.count = w.count + 1
        w.momentum = w.momentum * 0.9 + w.detach()
        return w.sum()

    model.weight.count = ndl.Tensor([0.0], requires_grad=False)
    model.weight.momentum = ndl.zeros(2, 2)
    for _ in range(3):
        step(model.weight)
        model.weight.grad = None
    assert model.weight.count.item() == 3
