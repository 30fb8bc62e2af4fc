"""RepAdapter's equations, before it is merged (the contract test merges it)."""
import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, assert_follows, random_vit, shaken

from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import RepAdapter


class RepAdapterBlock(Block):
    """f(x) = x + s (U (A x + a) + b) in front of qkv and fc1; each half of the bottleneck feeds half the channels."""

    def f(self, name, x):
        hidden = self.linear(f"{name}.down_proj", x)
        upper, lower = self.w[f"{name}.up_weight"]
        return x + 0.5 * (np.concatenate([hidden[..., :2] @ upper, hidden[..., 2:] @ lower], -1)
                          + self.w[f"{name}.up_bias"])

    def qkv(self, x):
        return super().qkv(self.f("repadapter_attn", x))

    def fc1(self, x):
        return super().fc1(self.f("repadapter_mlp", x))


class AttentionOnly(RepAdapterBlock):
    def fc1(self, x):
        return Block.fc1(self, x)


@pytest.mark.parametrize("mlp,equation,tensors", [(True, RepAdapterBlock, 8), (False, AttentionOnly, 4)])
def test_equations(mlp, equation, tensors):
    adaptation = shaken(attach(random_vit(), RepAdapter(bottleneck=4, scale=0.5, mlp=mlp)))
    assert len(assert_follows(adaptation, equation)) == tensors


def test_the_start_and_the_number_of_parameters():
    paddle.seed(0)
    adaptation = attach(random_vit(), RepAdapter(bottleneck=8))
    state = adaptation.state()
    down = state["blocks.0.repadapter_attn.down_proj.weight"]
    assert 0.9 < np.abs(down).max() / np.sqrt(6 / 16) <= 1
    assert not any(value.any() for name, value in state.items() if not name.endswith("down_proj.weight"))
    assert adaptation.counts()[0] == 2 * 2 * (8 * DIM + 8 + 8 * DIM // 2 + DIM)


@pytest.mark.parametrize("options,words", [
    ({"bottleneck": 3}, "bottleneck 3 with groups 2"), ({"groups": 0}, "groups 0"), ({"dropout": 1}, r"\[0, 1\)")])
def test_a_wrong_option_is_refused(options, words):
    with pytest.raises(TuningError, match=words):
        RepAdapter(**options)


def test_groups_divide_the_channels():
    with pytest.raises(TuningError, match="groups 3 do not divide the network's 8 channels"):
        attach(random_vit(), RepAdapter(bottleneck=6, groups=3))
