"""What the project says of itself agrees: versions, exported names, the weight of the import."""

import hashlib
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import needle

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "needle"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Modules and packages that export names: those that write `__all__`.
EXPORTING = sorted(
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if re.search(r"^__all__\b", path.read_text(encoding="utf-8"), re.MULTILINE)
)


def test_package_and_project_have_one_version():
    assert needle.__version__ == PROJECT["version"]


def test_changelog_ends_with_the_version_of_the_project():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]


def test_the_package_exports_names():
    assert "needle" in EXPORTING


@pytest.mark.parametrize("name", EXPORTING)
def test_exports_exist_once_and_in_order(name):
    module = importlib.import_module(name)
    assert module.__all__ == sorted(set(module.__all__), key=isort_order)
    assert not [export for export in module.__all__ if not hasattr(module, export)]


def isort_order(name):
    """CONSTANTS, then Classes, then the rest, numbers by value: the order that ruff writes."""
    group = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    return group, [(int(s), "") if s.isdigit() else (0, s) for s in re.split(r"(\d+)", name)]


def test_the_package_exports_every_public_name():
    public = {n for n, value in vars(needle).items() if n[0] != "_" and not inspect.ismodule(value)}
    apart = {"annotations", "abs", "max", "min"}  # which Python has, too
    assert public - apart <= set(needle.__all__)  # modules are exported by choice


@pytest.mark.parametrize("name", EXPORTING)
def test_exports_are_documented(name):
    module = importlib.import_module(name)
    exports = {export: getattr(module, export) for export in module.__all__}
    for owner, value in list(exports.items()):
        if inspect.isclass(value) and value.__module__.startswith("needle"):
            exports |= {f"{owner}.{n}": getattr(value, n) for n in vars(value) if n[0] != "_"}
    assert not [label for label, value in exports.items() if not is_documented(value)]


def is_documented(value):
    """Whether a module, class, function or property says what it is; data need not.

    A class says it itself; a method or property may have it from what it overrides.
    """
    if inspect.isclass(value):
        return bool(vars(value).get("__doc__"))
    if inspect.isroutine(value) or isinstance(value, property):
        return bool(inspect.getdoc(value))
    return bool(value.__doc__) if inspect.ismodule(value) else True


def test_the_package_declares_its_types():
    assert (SOURCE / "py.typed").is_file()


PROBE = """
import json, sys
import numpy as np
drawn = np.random.get_state()[1].tolist()
before = set(sys.modules)
import needle
import threading
print(json.dumps({
    "modules": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
    "random": np.random.get_state()[1].tolist() == drawn,
    "threads": threading.active_count(),
}))
"""


def test_import_is_silent_and_light(tmp_path):
    probe = [sys.executable, "-W", "error", "-c", PROBE]
    run = subprocess.run(probe, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("\n") == 1, "import needle prints"
    found = json.loads(run.stdout)
    foreign = set(found["modules"]) - sys.stdlib_module_names
    assert foreign <= {"needle", "numpy", "threadpoolctl"}
    assert found["random"], "import needle draws from NumPy's global state"
    assert found["threads"] == 1, "import needle starts threads"
    assert not list(tmp_path.iterdir()), "import needle writes files"


def test_the_data_is_what_its_readme_says():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^([0-9a-f]{64})  (\S+\.gz)$", text, re.MULTILINE)
    sums = {name: digest for digest, name in lines}
    files = {path.name: path.read_bytes() for path in (ROOT / "data").glob("*-ubyte.gz")}
    assert len(sums) == 4
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
