"""Tensor tuples that existed before a jitted function was called."""

import needle as ndl


def test_elements_have_values_and_gradients():
    w = ndl.Tensor([3.0])
    pair = ndl.fused_add_scalars(w * 2, 1, 2)
    for given in (pair, pair.detach(), ndl.make_tuple(w, w)):
        for f in (lambda x, t=given: x * t[0] + t[-1], lambda x, t=given: (t + t)[0] * x):
            sets = []
            for function in (f, ndl.jit(f, warmup=0)):
                for k in range(2):
                    x, w.grad = ndl.Tensor([k + 1.0]), None
                    y = function(x)
                    y.backward()
                    sets.append([y.tolist(), x.grad.tolist(), w.grad and w.grad.tolist()])
            assert sets[:2] == sets[2:]


def test_they_are_differentiated_inside():
    w = ndl.Tensor([3.0])
    pair = ndl.make_tuple(w * w, w)

    @ndl.jit(warmup=0)
    def step(x):
        with ndl.no_grad():
            scale = pair[0] * 2
        (x * pair[0] * scale + pair[1]).backward()
        return w.grad

    assert step(ndl.Tensor([1.0])).tolist() == [109.0]  # 2 · 3 · 18 + 1
    assert step(ndl.Tensor([2.0])).tolist() == [217.0]
