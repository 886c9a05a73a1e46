"""The graph as text."""

import io

import needle as ndl


def test_graph_text():
    x = ndl.Tensor([[1.0, 2.0]])
    w = ndl.Tensor([[3], [4]], dtype="float32", requires_grad=False)
    y = (x @ w + 1).sum()
    assert ndl.graph_text(y).splitlines() == [
        "%0 = leaf                    float64 (1, 2)  requires grad",
        "%1 = leaf                    float32 (2, 1)",
        "%2 = MatMul() %0 %1          float64 (1, 1)  requires grad",
        "%3 = AddScalar(scalar=1) %2  float64 (1, 1)  requires grad",
        "%4 = Summation(axes=None, keepdims=False) %3  float64 ()  requires grad",
    ]


def test_shared_values_are_listed_once():
    x = ndl.Tensor([1.0])
    y = x * 2
    lines = ndl.graph_text(y + y, y).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("%2 = EWiseAdd() %1 %1")


def test_tuples_list_their_elements():
    pair = ndl.make_tuple(ndl.Tensor([1.0]), ndl.Tensor(2))
    assert "(float64 (1,), int64 ())" in ndl.graph_text(pair)


def test_a_lazy_graph_is_described_without_computing(monkeypatch):
    monkeypatch.setattr(ndl.autograd, "LAZY_MODE", True)
    y = ndl.exp(ndl.Tensor([1.0]))
    assert "Exp() %0" in ndl.graph_text(y)
    assert y.node.storage is None


def test_gradients_are_graphs_too():
    x = ndl.Tensor([1.0])
    (x**3).backward()
    assert "PowerScalar(scalar=2) " in ndl.graph_text(x.grad)


def test_print_graph(capsys):
    x = ndl.Tensor([1.0])
    ndl.print_graph(x)
    assert capsys.readouterr().out == ndl.graph_text(x) + "\n"
    file = io.StringIO()
    ndl.print_graph(x, x * 2, file=file)
    assert file.getvalue() == ndl.graph_text(x, x * 2) + "\n"
    assert capsys.readouterr().out == ""
