"""The MLP ResNet: its shape, the order of its draws, and the residual path."""

import numpy as np
import pytest

import needle as ndl
from needle import nn
from needle.errors import ArgumentError
from needle.models import MLPResNet, ResidualBlock


def draw_linear(fan_in, fan_out):
    weight = np.random.rand(fan_in, fan_out) * 2 * np.sqrt(6 / fan_in) - np.sqrt(6 / fan_in)
    bias = np.random.rand(fan_out, 1) * 2 * np.sqrt(6 / fan_out) - np.sqrt(6 / fan_out)
    return weight, bias.reshape(1, -1)


def test_weights_are_drawn_in_the_order_in_which_layers_run():
    np.random.seed(3)
    model = MLPResNet(20, hidden_dim=8, num_blocks=2, num_classes=5)
    after = np.random.rand()
    np.random.seed(3)
    expected = []
    for fan_in, fan_out in [(20, 8), (8, 4), (4, 8), (8, 4), (4, 8), (8, 5)]:
        expected += draw_linear(fan_in, fan_out)
    assert np.random.rand() == after
    drawn = [p for m in linear_layers(model) for p in m.parameters()]
    for ours, theirs in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6, atol=1e-6)


def linear_layers(model):
    return [m for _, m in model.named_modules() if isinstance(m, nn.Linear)]


def test_structure():
    model = MLPResNet(784)
    kinds = [type(m).__name__ for m in model]
    assert kinds == ["Linear", "ReLU", *["ResidualBlock"] * 3, "Linear"]
    inner = model[2][0].fn
    assert [type(m).__name__ for m in inner] == [
        "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear", "BatchNorm1d",
    ]  # fmt: skip
    assert [type(m).__name__ for m in model[2]] == ["Residual", "ReLU"]
    assert inner[3].p == 0.1
    assert inner[0].weight.shape == (100, 50)
    blocks = [model[i] for i in (2, 3, 4)]
    assert len({id(p) for block in blocks for p in block.parameters()}) == 3 * 8
    assert sum(p.size for p in model.parameters()) == 784 * 100 + 100 + 3 * 10450 + 1010


def test_options_reach_every_block():
    model = MLPResNet(6, 8, num_blocks=1, num_classes=3, norm=nn.LayerNorm1d, drop_prob=0.5)
    kinds = {type(m).__name__ for _, m in model.named_modules()}
    assert "LayerNorm1d" in kinds
    assert "BatchNorm1d" not in kinds
    assert model[2][0].fn[3].p == 0.5
    assert model(ndl.init.ones(2, 6)).shape == (2, 3)
    assert MLPResNet(6, 8, 0)(ndl.init.ones(2, 6)).shape == (2, 10)


@pytest.mark.parametrize(
    ("blocks", "message"), [(-1, "num_blocks=-1. Give 0 or more"), (1.5, "num_blocks must be an")]
)
def test_the_number_of_blocks_is_a_whole_number(blocks, message):
    with pytest.raises(ArgumentError, match=f"MLPResNet: {message}"):
        MLPResNet(6, 8, blocks)


def test_a_block_whose_last_norm_is_zero_is_relu():
    """With the weight of its last normalisation at zero, a block is its shortcut."""
    block = ResidualBlock(6, 3)
    last = block[0].fn[-1]
    last.weight.data = ndl.init.zeros(6)
    x = ndl.Tensor(np.random.randn(4, 6), dtype="float32")
    np.testing.assert_array_equal(block(x).numpy(), np.maximum(x.numpy(), 0))


def test_every_parameter_gets_a_gradient():
    model = MLPResNet(6, 8)
    loss = nn.SoftmaxLoss()(model(ndl.init.randn(5, 6)), ndl.Tensor([1, 2, 3, 4, 5]))
    loss.backward()
    assert all(p.grad.shape == p.shape for p in model.parameters())


def test_a_wrong_input_is_named_with_its_layer():
    with pytest.raises(ndl.ShapeError, match=r"^modules\.0 \(Linear\): input of shape \(2, 5\)"):
        MLPResNet(6)(ndl.init.ones(2, 5))
