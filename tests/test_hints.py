"""What is written as in PyTorch says what to write instead."""

import re

import pytest

import needle as ndl
from needle import hints, nn, optim
from needle.hints import by_name

X = ndl.Tensor([[1.0, 2.0]])
MODEL = nn.Linear(2, 1)
OPT = optim.SGD(MODEL.parameters())

IDIOMS = {
    "ndl.unsqueeze(x, 0)": r"Write x.reshape\(shape\)",
    "ndl.cat([x, x])": r"module 'needle' has no attribute 'cat'. Write ndl.concatenate",
    "ndl.clamp(x, 0, 1)": r"x.clip\(low, high\)",
    "ndl.manual_seed(0)": r"ndl.seed\(n\)",
    "ndl.zeros(2, dtype=ndl.float32)": r"as text",
    "nn.CrossEntropyLoss()": r"nn.SoftmaxLoss\(\)",
    "nn.ModuleList([model])": r"a list",
    "optim.lr_scheduler.StepLR(opt, 1)": r"ndl.optim.StepLR",
    "ndl.data.TensorDataset(x)": r"ndl.data.NDArrayDataset",
}


@pytest.mark.parametrize("idiom", IDIOMS)
def test_a_name_of_pytorchs_says_what_to_write(idiom):
    names = {"ndl": ndl, "nn": nn, "optim": optim, "x": X, "model": MODEL, "opt": OPT}
    with pytest.raises(AttributeError, match=IDIOMS[idiom]):
        eval(idiom, names)


def test_in_a_trace_too():
    with pytest.raises(AttributeError, match=r"Write ndl\.concatenate"):
        ndl.jit(lambda x: ndl.cat([x, x]), warmup=0)(X)


PLACES = {ndl: hints.NEEDLE, nn: hints.NN, optim: hints.OPTIM, ndl.data: hints.DATA}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_hint_stands_for_what_is_not_there_and_names_what_is(place):
    known = {"ndl": ndl, "nn": nn, "optim": optim, "x": X, "model": MODEL, "optimizer": OPT}
    for name, instead in by_name(PLACES[place]).items():
        assert not hasattr(place, name)
        with pytest.raises(AttributeError, match=re.escape(instead)):
            getattr(place, name)
        for owner, path in re.findall(r"\b(ndl|nn|x|model|optimizer)\.([a-zA-Z_.0-9]+)", instead):
            found = known[owner]
            for part in path.split("."):
                found = getattr(found, part)


def test_other_names_are_missing_as_ever():
    for place in (ndl, nn):
        with pytest.raises(AttributeError, match=r"has no attribute 'no_such_name'$"):
            place.no_such_name  # noqa: B018
        assert getattr(place, "no_such_name", None) is None
    with pytest.raises(ImportError, match="cannot import name 'no_such_name'"):
        from needle import no_such_name  # noqa: F401
