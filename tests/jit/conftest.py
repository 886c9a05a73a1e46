"""Every test of this folder runs twice: compiled, and with traces evaluated through NumPy."""

import pytest

import needle as ndl


@pytest.fixture(autouse=True, params=["native", "numpy"])
def backend(request, monkeypatch):
    """How programs run in this test."""
    if request.param == "native":
        pytest.importorskip("llvmlite")
    monkeypatch.setenv("NEEDLE_JIT", "1" if request.param == "native" else "numpy")
    return request.param


@pytest.fixture(autouse=True)
def _numpy_stream():
    """No test leaves its random stream to the next one."""
    yield
    ndl.seed(None)
