"""Networks that nobody here wrote: the user says where the blocks are."""
import numpy as np
import paddle
import pytest
from paddle import nn

import ppadapt
from ppadapt.errors import UserError

ANATOMY = ppadapt.Anatomy(blocks="stages.*.layers", branch_in="norm2", branch_out="dropout2", head="classifier",
                          head_extra=(), norms=("last",))


class Own(nn.Layer):
    """Two stages of different width, made of Paddle's own layers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 4, stride=4)
        self.stages = nn.LayerList([
            nn.TransformerEncoder(nn.TransformerEncoderLayer(dim, 2, 16, normalize_before=True), depth)
            for dim, depth in ((8, 1), (16, 2))])
        self.between = nn.Linear(8, 16)
        self.last = nn.LayerNorm(16)
        self.classifier = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose([0, 2, 1])
        x = self.stages[1](self.between(self.stages[0](x)))
        return self.classifier(self.last(x.mean(1)))


def test_adaptformer_on_a_network_of_ones_own():
    paddle.seed(0)
    network, images = Own(), paddle.randn([2, 3, 16, 16])
    network.eval()
    before = network(images).numpy()
    # Paddle's own layers: the cheaper frozen ones compute the same but for rounding (contract).
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(4, scale=1.0), anatomy=ANATOMY, cheap=False)
    assert [block.adaptmlp.down_proj.weight.shape[0] for block in ANATOMY.block_list(network)] == [8, 16, 16]
    np.testing.assert_array_equal(adaptation(images).numpy(), before)
    assert {n.split(".")[0] for n in adaptation.trained} == {"stages", "classifier"}

    tokens = paddle.randn([2, 4, 16])
    block = network.stages[1].layers[0]
    plain = block(tokens).numpy()
    block.adaptmlp.up_proj.weight.set_value(paddle.randn([4, 16]))
    stream = tokens + block.self_attn(block.norm1(tokens))
    np.testing.assert_allclose(block(tokens).numpy(), plain + block.adaptmlp(stream).numpy(), rtol=0, atol=1e-5)


def test_a_new_head_and_its_width():
    network = Own()
    dim = ANATOMY.feature_dim(network)
    adaptation = ppadapt.attach(network, ppadapt.LinearProbe(), anatomy=ANATOMY,
                                head=ppadapt.heads.batchnorm_linear(dim, 3))
    assert dim == 16 and adaptation.trained == ["classifier.1.weight", "classifier.1.bias"]


@pytest.mark.parametrize("blocks,said", [
    ("stages.*.blocks", "TransformerEncoder has no layer 'blocks'.*it has: layers"),
    ("stage*.2.layers", "LayerList has no layer '2'.*it has: 0, 1"),
    ("towers*", "Own has no layer 'towers[*]'"),
])
def test_a_path_that_leads_nowhere_names_what_is_there(blocks, said):
    with pytest.raises(UserError, match=said):
        ppadapt.attach(Own(), ppadapt.AdaptFormer(), anatomy=ppadapt.Anatomy(blocks=blocks))


def test_a_network_without_a_norm_at_its_end_says_so():
    with pytest.raises(UserError, match="has none of norm, fc_norm after its blocks.*Anatomy"):
        ppadapt.Anatomy(blocks="stages.*.layers").feature_dim(Own())
