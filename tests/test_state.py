"""Walking objects that hold tensors, and the counter that says whether one may have changed."""

import numpy as np
import pytest

import needle as ndl
from needle.context import changes
from needle.state import CountedList, Stateful, children, walk


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


def test_setting_and_deleting_attributes_that_a_program_relies_on_counts_as_a_change():
    box, other = Box(), Box()
    changes.rely(box, ["x"])
    counts = [changes.count]
    box.y = other.x = 1
    del box.y
    assert changes.count == counts[0]
    box.x = 1
    counts.append(changes.count)
    box.x = 1  # again: nothing changed
    assert changes.count == counts[-1]
    box.x = 2
    counts.append(changes.count)
    del box.x
    counts.append(changes.count)
    assert counts == sorted(set(counts))
    with pytest.raises(AttributeError):
        del box.x


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
def test_every_change_of_a_counted_list_counts(change, expected):
    counted = CountedList([3, 1, 2])
    before = changes.count
    change(counted)
    assert counted == expected
    assert changes.count > before


def test_an_optimizers_parameters_are_a_counted_list():
    optimizer = ndl.optim.SGD([ndl.Tensor([1.0])], lr=0.1)
    assert isinstance(optimizer.params, CountedList)
