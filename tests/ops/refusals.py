"""A test made of a table of what operators refuse."""

import pytest

import needle as ndl


def refused(table, *operands):
    """A test that each (function, error, message) of a table raises that, eagerly and lazily."""

    @pytest.mark.parametrize("lazy", [False, True])
    @pytest.mark.parametrize(("compute", "error", "message"), table.values(), ids=table.keys())
    def test(compute, error, message, lazy, monkeypatch):
        monkeypatch.setattr(ndl.autograd, "LAZY_MODE", lazy)
        with pytest.raises(error, match=message):
            compute(*map(ndl.Tensor, operands))

    return test
