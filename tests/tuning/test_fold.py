"""serve/fold.py against the papers' equations in float64 NumPy."""
import numpy as np
import paddle
import pytest
from numpy_block import DIM, GRID, Block, random_vit, relu, shaken

from ppadapt.serve.fold import ClassTokenBlock, FoldedMlp, for_inference
from ppadapt.tuning import attach
from ppadapt.tuning.methods import VPT, AdaptFormer, Houlsby, LayerNormTuning, LoRA

FOLDED = "folded AdaptFormer's branch into the MLP of 2 blocks"
CLASS_TOKEN = "the last block computes the class token alone"


class Parallel(Block):
    scale = 0.3

    def mlp_part(self, x):
        branch = self.linear("adaptmlp.up_proj", relu(self.linear("adaptmlp.down_proj", x)))
        return x + self.mlp(self.norm("norm2", x)) + self.w.get("adaptmlp.scale", self.scale) * branch


def equation_of(adaptation, index, kind):
    prefix = f"blocks.{index}."
    return kind({n[len(prefix):]: p.numpy().astype("f8") for n, p in adaptation.network.named_parameters()
                 if n.startswith(prefix)})


def tokens():
    return np.random.RandomState(5).normal(size=(2, 1 + GRID**2, DIM))


def run(layer, x):
    with paddle.no_grad():
        return layer(paddle.to_tensor(x.astype("float32"))).numpy()


@pytest.mark.parametrize("scale", [0.3, "learnable"])
def test_branch_and_mlp_are_one_product_of_the_same_value(scale):
    adaptation = shaken(attach(random_vit(), AdaptFormer(3, scale=scale)))
    network, done = for_inference(adaptation)
    assert done == [FOLDED, CLASS_TOKEN]
    mlp = network.blocks[0].mlp
    assert isinstance(mlp, FoldedMlp) and mlp.fc2.weight.shape == [2 * DIM + 3, DIM]
    assert not any("adaptmlp" in name for name, _ in network.named_parameters())
    found = run(network.blocks[0], tokens())
    np.testing.assert_allclose(found, equation_of(adaptation, 0, Parallel)(tokens()), rtol=0, atol=2e-5)


@pytest.mark.parametrize("method,kind", [(AdaptFormer(3, scale=0.3), Parallel), (LayerNormTuning(), Block)])
def test_the_last_block_is_right_for_the_class_token(method, kind):
    adaptation = shaken(attach(random_vit(), method))
    network, _ = for_inference(adaptation)
    assert isinstance(network.blocks[-1], ClassTokenBlock)
    found = run(network.blocks[-1], tokens())
    assert found.shape == (2, 1, DIM)
    np.testing.assert_allclose(found, equation_of(adaptation, 1, kind)(tokens())[:, :1], rtol=0, atol=2e-5)


@pytest.mark.parametrize("methods,folds", [
    ([AdaptFormer(3, option="sequential")], []),
    ([AdaptFormer(3, layernorm="in")], []),
    ([AdaptFormer(3), LoRA(2, targets=["fc2"])], []),
    ([AdaptFormer(3), Houlsby(2)], []),
    ([AdaptFormer(3), VPT(2)], [FOLDED]),
    ([LoRA(2)], ["merged LoRA", CLASS_TOKEN])])
def test_only_what_is_exact_is_folded(methods, folds):
    adaptation = shaken(attach(random_vit(), *methods))
    images = np.random.RandomState(6).normal(size=(2, 3, 4 * GRID, 4 * GRID))
    before = run(adaptation, images)
    network, done = for_inference(adaptation)
    assert done == folds
    np.testing.assert_allclose(run(network, images), before, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(run(adaptation, images), before)


def test_average_pooling_needs_every_token():
    adaptation = shaken(attach(random_vit(pool="avg"), AdaptFormer(3)))
    assert for_inference(adaptation)[1] == [FOLDED]
