"""Convpass's equations: the convolution over the grid, other tokens alone."""
import numpy as np
import paddle
import pytest
from numpy_block import DIM, GRID, Block, assert_follows, random_vit, shaken

from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import VPT, Convpass


def act(x):
    return x / (1 + np.exp(-1.702 * x))


class ConvpassBlock(Block):
    scale, grid = 0.7, (GRID, GRID)

    def bypass(self, name, x):
        h = act(self.linear(f"{name}.down_proj", x))
        kernel, bias = self.w[f"{name}.conv.weight"], self.w[f"{name}.conv.bias"]
        others, (rows, columns) = x.shape[1] - GRID**2, self.grid
        mixed = np.zeros_like(h)
        for token in range(others):  # an image of one pixel: only the centre of the kernel meets it
            mixed[:, token] = h[:, token] @ kernel[:, :, 1, 1].T
        patches = [(row, column) for row in range(rows) for column in range(columns)]
        for row, column in patches:
            for y, x in patches:
                i, j = y - row + 1, x - column + 1
                if 0 <= i < 3 and 0 <= j < 3:
                    mixed[:, others + row * columns + column] += h[:, others + y * columns + x] @ kernel[:, :, i, j].T
        return self.scale * self.linear(f"{name}.up_proj", act(mixed + bias))

    def attention_part(self, x):
        n = self.norm("norm1", x)
        return x + self.attn(n) + self.bypass("convpass_attn", n)

    def mlp_part(self, x):
        n = self.norm("norm2", x)
        return x + self.mlp(n) + self.bypass("convpass_mlp", n)


class OneRow(ConvpassBlock):
    grid = (1, GRID**2)


@pytest.mark.parametrize("equation", (ConvpassBlock, OneRow))
def test_equations(equation):
    network = random_vit()
    if equation is OneRow:
        network.patch_embed.grid_size = equation.grid
    adaptation = shaken(attach(network, Convpass(3, scale=0.7)))
    assert len(assert_follows(adaptation, equation)) == 12


def test_prompts_are_pixels_of_their_own():
    adaptation = shaken(attach(random_vit(), VPT(3), Convpass(3, scale=0.7)))
    network, x = adaptation.network, np.random.RandomState(7).normal(size=(2, 5, DIM)).astype("float32")
    w = {n[len("blocks.0."):]: p.numpy().astype("f8") for n, p in network.named_parameters()
         if n.startswith("blocks.0.")}
    prompts = np.repeat(network.prompts[0].numpy(), 2, axis=0)
    expected = ConvpassBlock(w)(np.concatenate([prompts, x], axis=1).astype("f8"))[:, 3:]
    np.testing.assert_allclose(network.blocks[0](paddle.to_tensor(x)).numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("conv", ("identity", "xavier"))
def test_the_start(conv):
    paddle.seed(0)
    network = random_vit()
    attach(network, Convpass(8, conv=conv))
    bypass = network.blocks[0].convpass_attn
    kernel, down = bypass.conv.weight.numpy(), bypass.down_proj.weight.numpy()
    if conv == "identity":
        np.testing.assert_array_equal(kernel[:, :, 1, 1], np.eye(8))
        assert kernel.sum() == 8
    else:  # Xavier: fans of 8 x 9
        assert 0.95 < np.abs(kernel).max() / np.sqrt(6 / 144) <= 1
    assert 0.9 < np.abs(down).max() / np.sqrt(6 / 16) <= 1
    for zero in (bypass.conv.bias, bypass.down_proj.bias, bypass.up_proj.weight, bypass.up_proj.bias):
        assert not zero.numpy().any()


@pytest.mark.parametrize("options,words", [
    ({"bottleneck": 0}, "bottleneck 0"), ({"conv": "eye"}, "'eye'.*identity, xavier"), ({"dropout": 1}, r"\[0, 1\)")])
def test_a_wrong_option_is_refused(options, words):
    with pytest.raises(TuningError, match=words):
        Convpass(**options)


def test_tokens_that_are_no_grid_are_refused():
    adaptation = attach(random_vit(), Convpass(3))
    with pytest.raises(TuningError, match="3 tokens for a grid of 1 x 2 x 2"):
        adaptation.network.blocks[0](paddle.randn([1, 3, DIM]))
    network = random_vit()
    network.patch_embed.num_patches = 5
    with pytest.raises(ValueError, match="num_patches 5.*grid_size"):
        attach(network, Convpass(3))
