"""LoRA's equation 3 on each of its targets, with a fused qkv."""
import math

import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, assert_follows, random_vit, shaken

from ppadapt.models.anatomy import Anatomy, Part
from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import LoRA


class LoRABlock(Block):
    """W x + (alpha / rank) B A x with alpha 6 and rank 2."""

    def update(self, target, x):
        if f"lora.{target}.up_proj.weight" not in self.w:
            return 0
        return 3 * (x @ self.w[f"lora.{target}.down_proj.weight"]) @ self.w[f"lora.{target}.up_proj.weight"]

    def qkv(self, x):
        q, k, v = np.split(super().qkv(x), 3, axis=-1)
        return np.concatenate([q + self.update("q", x), k + self.update("k", x), v + self.update("v", x)], axis=-1)

    def proj(self, x):
        return super().proj(x) + self.update("proj", x)

    def fc1(self, x):
        return super().fc1(x) + self.update("fc1", x)

    def fc2(self, x):
        return super().fc2(x) + self.update("fc2", x)


@pytest.mark.parametrize("targets", [["q", "v"], ["k"], ["proj"], ["fc1", "fc2"],
                                     ["fc2", "v", "q", "k", "proj", "fc1"]])
def test_equation_3(targets):
    adaptation = shaken(attach(random_vit(), LoRA(rank=2, alpha=6, targets=targets)))
    found = assert_follows(adaptation, LoRABlock)
    assert found == sorted(f"lora.{t}.{m}.weight" for t in targets for m in ("down_proj", "up_proj"))


def test_alpha_is_the_rank_unless_given():
    assert LoRA(rank=4).alpha == 4 and LoRA(rank=4, alpha=8).alpha == 8


def test_the_start():
    paddle.seed(0)
    network = random_vit()
    attach(network, LoRA(rank=500))
    a, b = (getattr(network.blocks[0].lora["q"], m).weight.numpy() for m in ("down_proj", "up_proj"))
    assert 0.98 / math.sqrt(DIM) < np.abs(a).max() <= 1 / math.sqrt(DIM) and not b.any()


@pytest.mark.parametrize("options,words", [
    ({"rank": 0}, "rank 0"), ({"targets": ["qk"]}, "'qk' is unknown.*q, k, v, proj, fc1, fc2"),
    ({"targets": []}, "name none"), ({"targets": ["q", "q"]}, "one twice"), ({"dropout": -0.1}, r"\[0, 1\)")])
def test_a_wrong_option_is_refused(options, words):
    with pytest.raises(TuningError, match=words):
        LoRA(**options)


def test_a_network_without_the_target_says_what_it_has():
    linears = {"q": Part("attn.qkv", 0, 3), "fc1": Part("mlp.act")}
    with pytest.raises(TuningError, match="'v' is not among this network's: q, fc1"):
        attach(random_vit(), LoRA(), anatomy=Anatomy(linears=linears))
    with pytest.raises(TuningError, match="'fc1' is a GELU"):
        attach(random_vit(), LoRA(targets=["fc1"]), anatomy=Anatomy(linears=linears))
