"""Walking objects that hold tensors, and who is told that one may have changed."""

import numpy as np
import pytest

import needle as ndl
from needle.context import ALL, VALUE, changes
from needle.state import Stateful, Telling, TellingList, children, walk


class Box(Stateful):
    def __init__(self, **parts):
        for name, part in parts.items():
            setattr(self, name, part)


class Crate(Box):
    pass


def names(root, **options):
    return [name for name, _ in walk(root, **options)]


def test_the_walk_is_in_order_of_definition_and_sees_each_object_once():
    t = ndl.Tensor([1.0])
    box = Box(b=[t, (Box(x=t), ndl.Tensor([2.0]))], a={"k": ndl.Tensor([3.0]), 4: [1, "no"]})
    assert names(box) == ["", "b", "b.0", "b.1", "b.1.0", "b.1.1", "a", "a.k", "a.4"]
    assert dict(walk(box))["b.0"] is t


def test_entries_keyed_by_tensors_are_named_by_position():
    t, u = ndl.Tensor([1.0]), ndl.Tensor([2.0])
    assert list(children({u: {"m": t}, t: u})) == [("0", {"m": t}), ("1", u)]


def test_the_walk_ends_on_cycles_and_long_chains():
    box = Box()
    box.me = [box]
    assert names(box) == ["", "me"]
    chain = []
    for _ in range(50_000):
        chain = [chain]
    assert sum(1 for _ in walk(chain)) == 50_001


def test_only_the_wanted_classes_are_walked():
    box = Box(crate=Crate(t=ndl.Tensor([1.0])), other=Box(t=ndl.Tensor([2.0])), t=ndl.Tensor([3.0]))
    assert names(box) == ["", "crate", "crate.t", "other", "other.t", "t"]
    assert names(box, into=Crate) == ["", "crate", "crate.t", "t"]
    assert names(box, into=()) == ["", "t"]


def test_arrays_and_numbers_are_not_state():
    assert names(Box(a=np.ones(2), b=3, c=None, d={1, 2})) == [""]


def test_a_walk_may_change_attributes_as_it_goes():
    box = Box(inner=Box())
    for _, value in walk(box):
        value.seen = True
    assert box.seen
    assert box.inner.seen


class Hearing:
    """Remembers what it was told."""

    def __init__(self):
        self.told = []

    def tell(self, owner, name):
        self.told.append((owner, name))


def test_who_relies_on_attributes_is_told_when_they_are_set_or_deleted():
    box, other, hearing, writing = Box(), Box(), Hearing(), Hearing()
    for each in (hearing, hearing, writing, Hearing()):  # the last one is gone at once
        changes.rely(each, box, ["x", "z"])
    box.y = other.x = 1
    del box.y
    assert hearing.told == []
    box.x = 1
    box.x = 1  # again: nothing changed
    assert hearing.told == [(box, "x")] * 2  # before and after
    box.x = 2
    del box.x
    assert hearing.told == [(box, "x")] * 6
    with pytest.raises(AttributeError):
        del box.x
    changes.note(box, "z", but=writing)
    assert hearing.told == [*writing.told, (box, "z")]


def test_who_relies_on_all_attributes_is_told_of_each_and_of_a_new_order():
    box, hearing = Box(x=1), Hearing()
    changes.rely(hearing, box, [ALL])
    box.x = 2
    del box.x
    assert hearing.told == [*[(box, "x")] * 4, (box, ALL)]


def test_who_relies_on_a_tensor_is_told_of_its_data_and_flag():
    tensor, hearing = ndl.Tensor([1.0]), Hearing()
    changes.rely(hearing, tensor, [VALUE])
    tensor.data = tensor * 2
    tensor.cached_data = tensor.numpy()
    tensor.requires_grad = False
    tensor.requires_grad = False  # again: nothing changed
    assert hearing.told == [(tensor, VALUE)] * 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x.append(5), [3, 1, 2, 5]),
        (lambda x: x.extend([5]), [3, 1, 2, 5]),
        (lambda x: x.insert(0, 5), [5, 3, 1, 2]),
        (lambda x: x.remove(1), [3, 2]),
        (lambda x: x.pop(), [3, 1]),
        (lambda x: x.sort(), [1, 2, 3]),
        (lambda x: x.reverse(), [2, 1, 3]),
        (lambda x: x.clear(), []),
        (lambda x: x.__setitem__(0, 5), [5, 1, 2]),
        (lambda x: x.__setitem__(slice(1, None), []), [3]),
        (lambda x: x.__delitem__(0), [1, 2]),
        (lambda x: x.__iadd__([5]), [3, 1, 2, 5]),
        (lambda x: x.__imul__(2), [3, 1, 2, 3, 1, 2]),
    ],
)
def test_every_change_of_a_telling_list_is_told(change, expected):
    held, hearing = TellingList([3, 1, 2]), Hearing()
    changes.rely(hearing, held, [ALL])
    change(held)
    assert held == expected
    assert hearing.told == [(held, ALL)] * 2


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.__setitem__("b", 2),
        lambda x: x.__delitem__("a"),
        lambda x: x.__ior__({"b": 2}),
        lambda x: x.clear(),
        lambda x: x.pop("a"),
        lambda x: x.popitem(),
        lambda x: x.setdefault("b", 2),
        lambda x: x.update(b=2),
    ],
)
def test_every_change_of_a_telling_dict_is_told(change):
    held, hearing = Telling(a=1), Hearing()
    changes.rely(hearing, held, [ALL])
    change(held)
    assert held != {"a": 1}
    assert hearing.told == [(held, ALL)] * 2


def test_an_optimizers_parameters_are_a_telling_list():
    optimizer = ndl.optim.SGD([ndl.Tensor([1.0])], lr=0.1)
    assert isinstance(optimizer.params, TellingList)
