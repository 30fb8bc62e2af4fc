"""Houlsby, Pfeiffer and Adapter+: one bottleneck in three places."""
import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, assert_follows, gelu, random_vit, shaken

from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import AdapterPlus, Houlsby, Pfeiffer


class Adapted(Block):
    def adapter(self, name, x):
        return self.linear(f"{name}.up_proj", gelu(self.linear(f"{name}.down_proj", x)))


class HoulsbyBlock(Adapted):
    """Houlsby et al., figure 2: y + up(gelu(down(y))) after the attention and after the MLP."""

    def attention_part(self, x):
        y = self.attn(self.norm("norm1", x))
        return x + y + self.adapter("houlsby_attn", y)

    def mlp_part(self, x):
        y = self.mlp(self.norm("norm2", x))
        return x + y + self.adapter("houlsby_mlp", y)


class PfeifferBlock(Adapted):
    def __call__(self, x):
        z = super().__call__(x)
        return z + self.adapter("pfeiffer", self.norm("pfeiffer.norm", z, 1e-5))


class AdapterPlusBlock(Adapted):
    """Steitz & Roth: post position, channel-wise scale."""

    def __call__(self, x):
        z = super().__call__(x)
        return z + self.w["adapter_plus.scale"] * self.adapter("adapter_plus", z)


@pytest.mark.parametrize("method,equation,tensors", [
    (Houlsby, HoulsbyBlock, 8), (Pfeiffer, PfeifferBlock, 6), (AdapterPlus, AdapterPlusBlock, 5)])
def test_equations(method, equation, tensors):
    adaptation = shaken(attach(random_vit(), method(bottleneck=3)))
    assert len(assert_follows(adaptation, equation)) == tensors


@pytest.mark.parametrize("method,name", [(Houlsby, "houlsby_mlp"), (AdapterPlus, "adapter_plus")])
def test_houlsbys_start_is_a_normal_cut_at_two_deviations(method, name):
    paddle.seed(0)
    network = random_vit()
    attach(network, method(bottleneck=500))
    adapter = dict(network.blocks[0].named_children())[name]
    for matrix in (adapter.down_proj.weight.numpy(), adapter.up_proj.weight.numpy()):
        assert 0.0195 < np.abs(matrix).max() <= 0.02
        assert abs(matrix.std() - 0.01 * 0.8796) < 2e-4  # the deviation of a normal cut at two of its own
    assert not adapter.down_proj.bias.numpy().any() and not adapter.up_proj.bias.numpy().any()
    if method is AdapterPlus:
        assert (adapter.scale.numpy() == 1).all()


def test_pfeiffers_start_is_berts():
    paddle.seed(0)
    network = random_vit()
    attach(network, Pfeiffer(bottleneck=500))
    matrix = network.blocks[0].pfeiffer.down_proj.weight.numpy()
    assert abs(matrix.std() - 0.02) < 5e-4 and np.abs(matrix).max() > 0.05


def test_adapter_plus_drops_whole_samples_in_training_only():
    adaptation = shaken(attach(random_vit(), AdapterPlus(3, drop_path=0.5)))
    block, tokens = adaptation.network.blocks[0], paddle.randn([64, 5, DIM])
    adaptation.eval()
    with paddle.no_grad():
        kept = block(tokens) - block(tokens)
        assert not kept.numpy().any()
        adapter = block.adapter_plus(tokens)
        adaptation.train()
        ratio = (block.adapter_plus(tokens) / adapter).numpy()
    dropped = np.isclose(ratio, 0).all((1, 2))
    assert 10 < dropped.sum() < 54 and np.allclose(ratio[~dropped], 2, atol=1e-3)


@pytest.mark.parametrize("make,words", [
    (lambda: Houlsby(0), "Houlsby bottleneck 0"), (lambda: Pfeiffer(0), "Pfeiffer bottleneck 0"),
    (lambda: AdapterPlus(0), "AdapterPlus bottleneck 0"), (lambda: AdapterPlus(drop_path=1.0), r"1.0.*\[0, 1\)")])
def test_a_wrong_option_is_refused(make, words):
    with pytest.raises(TuningError, match=words):
        make()
