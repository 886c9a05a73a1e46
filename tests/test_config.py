"""Settings from the environment: an empty variable is one that is not set."""

from pathlib import Path

import pytest

from needle import config
from needle.errors import ArgumentError

CHOICES = [
    ("NEEDLE_BACKEND", config.backend, "np", "np, nd"),
    ("NEEDLE_JIT", config.jit_mode, "1", "1, numpy, 0"),
]


@pytest.mark.parametrize(("variable", "setting", "default", "names"), CHOICES)
def test_choices(monkeypatch, variable, setting, default, names):
    monkeypatch.delenv(variable, raising=False)
    assert setting() == default
    monkeypatch.setenv(variable, "")
    assert setting() == default
    for value in names.split(", "):
        monkeypatch.setenv(variable, value)
        assert setting() == value
    monkeypatch.setenv(variable, "fast")
    with pytest.raises(ArgumentError, match=f"{variable}='fast' is not known. Set it to one of: "):
        setting()


def test_folders(monkeypatch):
    for variable in ("NEEDLE_DATA", "NEEDLE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "")
    assert config.data_dir() is None
    assert config.cache_dir() == Path.home() / ".cache" / "needle"
    with monkeypatch.context() as patch:
        patch.setenv("HOME", "")
        assert config.cache_dir() is None
    monkeypatch.setenv("NEEDLE_DATA", "digits")
    monkeypatch.setenv("NEEDLE_CACHE", "compiled")
    assert (config.data_dir(), config.cache_dir()) == (Path("digits"), Path("compiled"))
    monkeypatch.setenv("NEEDLE_CACHE", "0")
    assert config.cache_dir() is None
