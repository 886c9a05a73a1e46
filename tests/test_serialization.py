"""`ndl.save` and `ndl.load` against NumPy arrays in memory and the safetensors reader."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from needle import files
from needle.errors import ArgumentError, CheckpointError, DTypeError
from needle.serialization import DTYPES, decode, encode, load, save
from needle.tensor import Tensor


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return (
        left.shape == right.shape
        and left.dtype == right.dtype.newbyteorder("=")
        and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    )


BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ARRAYS = {
    "plain": BASE,
    "transposed": BASE.T,
    "fortran": np.asfortranarray(BASE),
    "strided": BASE[:, ::2, 1::2],
    "reversed": BASE[::-1, :, ::-1],
    "broadcast": np.broadcast_to(np.float32(3), (2, 5)),
    "scalar": np.array(2.5),
    "number": np.float32(1.5),
    "empty": np.zeros((0, 3)),
    "bool": np.array([[True, False], [False, True]])[:, ::-1],
    "half": np.array([1, np.nan, np.inf], np.float16),
    "big endian": np.arange(5, dtype=">f8"),
    "big endian integers": np.arange(6, dtype=">i2").reshape(2, 3).T,
    "read only": np.frombuffer(b"abcd", np.uint8),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_save_keeps_shape_dtype_and_values(tmp_path: Path, name: str) -> None:
    save(tmp_path / "a.safetensors", {"x": ARRAYS[name]})
    result = load(tmp_path / "a.safetensors")["x"]
    assert same(result, np.asarray(ARRAYS[name]))
    assert result.flags.writeable
    assert result.flags.c_contiguous


@given(
    array=hnp.arrays(
        st.sampled_from(sorted(DTYPES)), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0)
    ),
    data=st.data(),
)
def test_save_keeps_any_view_of_any_array(array: np.ndarray, data: st.DataObject) -> None:
    view = array.transpose(data.draw(st.permutations(range(array.ndim))))
    steps = [data.draw(st.sampled_from([1, 2, -1])) for _ in view.shape]
    view = view[tuple(slice(None, None, step) for step in steps)]
    assert same(decode(encode([view]), "memory")[0], view)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda tree: (
        st.lists(tree) | st.lists(tree).map(tuple) | st.dictionaries(st.text(), tree, max_size=4)
    ),
    max_leaves=12,
)


@given(state=TREES)
def test_save_keeps_nesting_order_and_numbers(state: object) -> None:
    result = decode(encode(state), "memory")
    assert result == state
    assert repr(result) == repr(state)


def test_save_takes_tensors_and_whole_training_states(tmp_path: Path) -> None:
    weight = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
    state = {"model": {"0.weight": weight}, "optimizer": {"m": [np.ones(2)]}, "epoch": 3}
    save(tmp_path / "state", state)
    result = load(tmp_path / "state")
    assert list(result) == ["model", "optimizer", "epoch"]
    assert same(result["model"]["0.weight"], weight.numpy())
    assert same(result["optimizer"]["m"][0], np.ones(2))
    assert result["epoch"] == 3


def test_save_takes_a_single_array(tmp_path: Path) -> None:
    save(tmp_path / "x", BASE)
    assert same(load(tmp_path / "x"), BASE)


def test_paths_that_collide_keep_both_arrays() -> None:
    state = {"a": {"b": np.zeros(2)}, "a.b": np.ones(2), "__metadata__": np.ones(1), "": np.ones(3)}
    result = decode(encode(state), "memory")
    assert same(result["a"]["b"], np.zeros(2))
    assert same(result["a.b"], np.ones(2))
    assert same(result["__metadata__"], np.ones(1))
    assert same(result[""], np.ones(3))


def test_other_readers_find_the_tensors_by_name(tmp_path: Path) -> None:
    save(tmp_path / "x", {"modules.0.weight": BASE.T, "epoch": 1})
    found = safetensors.numpy.load_file(tmp_path / "x")
    assert list(found) == ["modules.0.weight"]
    assert same(found["modules.0.weight"], BASE.T)


def test_load_reads_files_of_other_programs(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": BASE}, tmp_path / "x", {"format": "pt"})
    assert same(load(tmp_path / "x")["w"], BASE)


def test_equal_states_give_equal_bytes() -> None:
    assert encode(ARRAYS) == encode(dict(ARRAYS))


def test_save_replaces_the_old_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    save(tmp_path / "x", {"a": 1})
    save(tmp_path / "x", {"a": 2})
    assert load(tmp_path / "x") == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_save_keeps_who_may_read_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save(path, {"a": 1})
    path.chmod(0o600)
    save(path, {"a": 2})
    assert path.stat().st_mode & 0o777 == 0o600


def test_names_of_files_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    save(path, {"a": 1})
    assert load(path) == {"a": 1}
    with pytest.raises(CheckpointError, match=r"save: cannot write .*too long"):
        save(tmp_path / ("a" * 256), {"a": 1})


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no devices here")
def test_load_refuses_what_need_not_end() -> None:
    with pytest.raises(CheckpointError, match="load: cannot read /dev/null: Not a regular file"):
        load("/dev/null")


def test_save_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "x")
    save(tmp_path / "link", {"a": 1})
    assert (tmp_path / "link").is_symlink()
    assert load(tmp_path / "x") == {"a": 1}


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x", {"a": 1})

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(CheckpointError, match=r"save: cannot write .*x: No space left on device"):
        save(tmp_path / "x", {"a": 2})
    assert load(tmp_path / "x") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


class Custom:
    pass


class WithState(Custom):
    def state_dict(self) -> dict[str, np.ndarray]:
        return {}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {"b": Custom()}}, r"save: 'a.b' is a Custom, which is not stored. Save arrays"),
        ({"a": [1, {2}]}, r"save: 'a.1' is a set, which is not stored"),
        (Custom(), r"save: 'the state' is a Custom"),
        ({"model": WithState()}, r"'model' is a WithState.*Save its state_dict\(\) instead"),
        ({"a": {3: 1}}, r"save: the key 3 in 'a' is no text. Use str\(3\)"),
        ({"\ud800": BASE}, r"save: the key '\\ud800' is no valid Unicode text"),
        ({"a": 1 + 2j}, r"save: 'a' is a complex"),
        ({"a": b"bytes"}, r"save: 'a' is a bytes"),
    ],
)
def test_save_refuses_other_objects_by_key(tmp_path: Path, state: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        save(tmp_path / "x", state)
    assert not list(tmp_path.iterdir())


def test_save_refuses_masked_elements(tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match=r"^save: a: 1 of 2 elements are masked"):
        save(tmp_path / "x", {"a": np.ma.masked_equal([1, 2], 2)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, 1]),
        np.array(["text"]),
        np.ones(2, np.complex128),
        np.ones(2, np.longdouble),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "M8[s]"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_save_refuses_other_dtypes_by_key(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(DTypeError, match=r"save: 'model.w' has dtype .*, which is not stored"):
        save(tmp_path / "x", {"model": {"w": array}})


def test_save_refuses_a_state_that_contains_itself(tmp_path: Path) -> None:
    state: dict[str, object] = {}
    state["self"] = state
    with pytest.raises(ArgumentError, match="nested too deeply or contains itself"):
        save(tmp_path / "x", state)


def test_save_names_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"save: cannot write .*No such file or directory"):
        save(tmp_path / "missing" / "x", {})
    with pytest.raises(CheckpointError, match="exists and is not a file"):
        save(tmp_path, {})
    with pytest.raises(CheckpointError, match="/dev/null exists and is not a file"):
        save("/dev/null", {})
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CheckpointError, match=r"save: cannot write .*loop: Too many levels of"):
        save(tmp_path / "loop", {})


@pytest.mark.parametrize(
    ("path", "message"),
    [("a\0b", "A path cannot hold a null byte"), (None, "A NoneType is no path")],
)
def test_what_is_no_path_is_named(path: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"save: cannot write {path}: {message}"):
        save(path, {})
    with pytest.raises(CheckpointError, match=f"load: cannot read {path}: {message}"):
        load(path)


def test_load_names_a_path_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"load: cannot read .*No such file or directory"):
        load(tmp_path / "missing")
    with pytest.raises(CheckpointError, match=r"load: cannot read .*Is a directory"):
        load(tmp_path)


GOOD = encode({"w": BASE, "n": [1, (2, None)]})


@given(st.integers(0, len(GOOD) - 1))
def test_load_refuses_a_truncated_file(length: int) -> None:
    with pytest.raises(CheckpointError, match="memory is damaged or no safetensors file"):
        decode(GOOD[:length], "memory")


@given(st.integers(0, len(GOOD) - BASE.nbytes - 1), st.integers(1, 255))
def test_a_changed_header_raises_one_clear_error_or_loads(position: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[position] ^= change
    with contextlib.suppress(CheckpointError):  # any other error is a bug
        decode(bytes(damaged), "memory")


@given(st.binary(max_size=200))
def test_load_refuses_files_of_another_kind(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="damaged or no safetensors file"):
        decode(data, "memory")


@pytest.mark.parametrize(
    "layout",
    [
        '{"tensor": "other"}',
        "{}",
        '{"spell": 1}',
        "[",
        '{"tensor": [1]}',
        '{"dict": 3}',
        "[" * 9999,
    ],
    ids=lambda layout: layout[:20],
)
def test_load_refuses_a_layout_that_lies(layout: str) -> None:
    data = safetensors.numpy.save({"w": BASE}, {"needle": layout})
    with pytest.raises(CheckpointError, match="damaged"):
        decode(data, "memory")


def test_load_names_a_dtype_that_numpy_does_not_have() -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    with pytest.raises(CheckpointError, match=r"load: memory holds BF16, which NumPy does not"):
        decode(data, "memory")


def test_the_layout_is_json_that_people_can_read() -> None:
    header = json.loads(GOOD[8 : 8 + int.from_bytes(GOOD[:8], "little")])
    assert json.loads(header["__metadata__"]["needle"]) == {
        "dict": {"w": {"tensor": "w"}, "n": [1, {"tuple": [2, None]}]}
    }


def test_a_state_given_for_the_path_is_not_told_whole() -> None:
    with pytest.raises(CheckpointError, match=r"A dict is no path") as caught:
        save({"weight": list(range(1000))}, "path")  # pyright: ignore[reportArgumentType]
    assert len(str(caught.value)) < 300
