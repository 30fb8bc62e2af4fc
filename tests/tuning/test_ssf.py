"""SSF's equation 2 after every operation."""
import numpy as np
import paddle
import pytest
from numpy_block import DIM, Block, assert_follows, random_vit, shaken

from ppadapt.models.anatomy import Anatomy
from ppadapt.tuning import TuningError, attach
from ppadapt.tuning.methods import SSF


class SSFBlock(Block):
    """gamma * x + beta after each Linear and each LayerNorm."""

    def adjust(self, name, x):
        name = "ssf." + name.replace(".", "_")
        return self.w[f"{name}.scale"] * x + self.w[f"{name}.shift"]

    def linear(self, name, x):
        return self.adjust(name, super().linear(name, x))

    def norm(self, name, x, epsilon=1e-6):
        return self.adjust(name, super().norm(name, x, epsilon))


def test_equation_2_inside_a_block():
    assert len(assert_follows(shaken(attach(random_vit(), SSF())), SSFBlock)) == 12


@pytest.mark.parametrize("pool,norm", [("cls", "norm"), ("avg", "fc_norm")])
def test_the_patches_and_the_last_norm_are_adjusted_too(pool, norm):
    adaptation = shaken(attach(random_vit(pool=pool), SSF()))
    network, images = adaptation.network, paddle.randn([2, 3, 8, 8])
    s = {n: p.numpy() for n, p in network.named_parameters()}
    conv = network.patch_embed.proj
    plain = paddle.nn.functional.conv2d(images, conv.weight, conv.bias, stride=4).numpy()
    expected = plain * s["ssf.patch_embed_proj.scale"][:, None, None] + s["ssf.patch_embed_proj.shift"][:, None, None]
    np.testing.assert_allclose(conv(images).numpy(), expected, rtol=0, atol=1e-5)
    x = np.random.RandomState(0).normal(size=(4, DIM)).astype("float32")
    expected = Block({n: v.astype("f8") for n, v in s.items()}).norm(norm, x.astype("f8"))
    expected = expected * s[f"ssf.{norm}.scale"] + s[f"ssf.{norm}.shift"]
    np.testing.assert_allclose(getattr(network, norm)(paddle.to_tensor(x)).numpy(), expected, rtol=0, atol=1e-5)
    assert not any(n.startswith("head") for n in adaptation.trained)
    assert len(adaptation.trained) == 2 * (2 * 6 + 2)


def test_the_start_is_the_authors():
    paddle.seed(0)
    adaptation = attach(random_vit(), SSF())
    scales, shifts = (np.concatenate([v for n, v in adaptation.state().items() if n.endswith(end)])
                      for end in ("scale", "shift"))
    assert abs(scales.mean() - 1) < 0.005 and abs(scales.std() - 0.02) < 0.004
    assert abs(shifts.mean()) < 0.005 and abs(shifts.std() - 0.02) < 0.004


def test_what_cannot_be_scaled_is_named():
    with pytest.raises(TuningError, match="a Mlp is none of them"):
        attach(random_vit(), SSF(), anatomy=Anatomy(norm1="mlp"))


def test_merge_needs_a_bias_for_the_shift():
    adaptation = attach(random_vit(qkv_bias=False), SSF())
    with pytest.raises(TuningError, match=r"Linear of shape \[8, 24\] has no bias"):
        adaptation.merge()
