"""AdaptFormer's equations, its start and its options."""
import math

import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, assert_follows, random_vit, relu, shaken

from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import AdaptFormer


class Parallel(Block):
    """x + mlp(norm2(x)) + s up(relu(down(x)))."""

    def branch(self, x):
        return 0.3 * self.linear("adaptmlp.up_proj", relu(self.linear("adaptmlp.down_proj", x)))

    def mlp_part(self, x):
        return x + self.mlp(self.norm("norm2", x)) + self.branch(x)


class Sequential(Parallel):
    def mlp_part(self, x):
        m = self.mlp(self.norm("norm2", x))
        return x + m + self.branch(m)


class LayerNormIn(Parallel):
    def mlp_part(self, x):
        return x + self.mlp(self.norm("norm2", x)) + self.branch(self.norm("adaptmlp.norm", x, 1e-5))


class LayerNormOut(Parallel):
    def mlp_part(self, x):
        return x + self.mlp(self.norm("norm2", x)) + self.norm("adaptmlp.norm", self.branch(x), 1e-5)


class LearnableScale(Parallel):
    def branch(self, x):
        return self.w["adaptmlp.scale"] / 0.3 * super().branch(x)


@pytest.mark.parametrize("options,equation", [
    ({}, Parallel), ({"option": "sequential"}, Sequential), ({"layernorm": "in"}, LayerNormIn),
    ({"layernorm": "out"}, LayerNormOut), ({"scale": "learnable"}, LearnableScale)])
def test_equations_2_and_3(options, equation):
    adaptation = shaken(attach(random_vit(), AdaptFormer(3, **{"scale": 0.3, **options})))
    assert assert_follows(adaptation, equation)


def test_a_block_without_a_branch_is_the_plain_block():
    adaptation = shaken(attach(random_vit(), AdaptFormer(3, blocks=[1])))
    assert not assert_follows(adaptation, Block, index=0)
    assert all(n.startswith(("blocks.1.adaptmlp.", "head")) for n in adaptation.trained)


def test_the_start_is_that_of_lora():
    paddle.seed(0)
    network = random_vit()
    attach(network, AdaptFormer(200, scale="learnable"))
    branch = network.blocks[0].adaptmlp
    weight, bound = branch.down_proj.weight.numpy(), 1 / math.sqrt(DIM)  # Kaiming-uniform with a = sqrt 5
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() > 0.98 * bound and abs(weight.std() - bound / math.sqrt(3)) < 0.02
    for zero in (branch.down_proj.bias, branch.up_proj.weight, branch.up_proj.bias):
        assert not zero.numpy().any()
    assert branch.scale.numpy() == [1.0]


def test_dropout_acts_on_the_bottleneck_in_training_only():
    adaptation = shaken(attach(random_vit(), AdaptFormer(64, dropout=0.5, blocks=[1])))
    tokens = paddle.randn([2, 5, DIM])
    block = adaptation.network.blocks[1]
    adaptation.eval()
    np.testing.assert_array_equal(block(tokens).numpy(), block(tokens).numpy())
    adaptation.train()
    assert np.abs((block(tokens) - block(tokens)).numpy()).max() > 1e-3


@pytest.mark.parametrize("options,words", [
    ({"option": "paralel"}, "'paralel'.*parallel, sequential"),
    ({"layernorm": "before"}, "'before'.*none, in, out"),
    ({"bottleneck": 0}, "bottleneck 0.*at least 1"),
    ({"dropout": 1.0}, r"dropout 1.0.*\[0, 1\)"),
    ({"scale": "learned"}, "'learned'.*'learnable'")])
def test_a_wrong_option_is_refused_with_what_is_allowed(options, words):
    with pytest.raises(TuningError, match=words):
        AdaptFormer(**options)
