"""AdaptFormer in PaddleClas's Swin blocks, shifted windows too, held against the papers' equations in NumPy."""
import math

import numpy as np
import paddle
import pytest
from numpy_block import Block, relu, shake

import ppadapt

pytest.importorskip("paddleclas", reason="PaddleClas is not installed: it needs Python <= 3.11")
HEADS, SIDE, WINDOW, SCALE = 2, 4, 2, 0.7
NAMES = {1: "SwinTransformer_tiny_patch4_window7_224", 2: "SwinTransformerV2_tiny_patch4_window8_256"}


def together(shift):
    """[L, L]: whether two patches attend to each other; row and column of each in the shifted image."""
    place = np.stack(np.divmod(np.arange(SIDE**2), SIDE), 1)
    moved = (place - shift) % SIDE
    group = np.concatenate([moved // WINDOW, place < shift], 1)  # what came around the edge stays apart
    return (group[:, None] == group[None]).all(-1), moved


class Swin(Block):
    """Liu et al., arXiv 2103.14030, equations 3 and 4."""

    def __init__(self, w, shift):
        super().__init__(w)
        self.near, moved = together(shift)
        self.apart = moved[:, None] - moved[None]  # [L, L, 2]: rows and columns from key to query

    def norm(self, name, x):
        return super().norm(name, x, epsilon=1e-5)

    def bias(self):
        row, column = np.moveaxis(self.apart + WINDOW - 1, -1, 0).clip(0, 2 * WINDOW - 2)
        return self.w["attn.relative_position_bias_table"][row * (2 * WINDOW - 1) + column]

    def logits(self, q, k, head):
        return q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])

    def attn(self, x):
        joined, width = [], x.shape[-1] // HEADS
        q, k, v = np.split(self.qkv(x), 3, axis=-1)
        for h in range(HEADS):
            part = slice(h * width, (h + 1) * width)
            scores = self.logits(q[..., part], k[..., part], h) + self.bias()[..., h]
            weights = np.exp(np.where(self.near, scores, -np.inf))
            joined.append(weights / weights.sum(-1, keepdims=True) @ v[..., part])
        return self.proj(np.concatenate(joined, -1))

    def branch(self, x):
        return SCALE * self.linear("adaptmlp.up_proj", relu(self.linear("adaptmlp.down_proj", x)))

    def mlp_output(self, x):
        return self.mlp(self.norm("norm2", x))

    def parallel(self, x):
        x = self.attention_part(x)
        return x + self.mlp_output(x) + self.branch(x)

    def sequential(self, x):
        x = self.attention_part(x)
        m = self.mlp_output(x)
        return x + m + self.branch(m)


class SwinV2(Swin):
    """Liu et al., arXiv 2111.09883, section 3.2 and 3.3: norms after, cosine attention, positions by a small MLP."""

    def qkv(self, x):
        q, v = self.w["attn.q_bias"], self.w["attn.v_bias"]
        return x @ self.w["attn.qkv.weight"] + np.concatenate([q, 0 * q, v])

    def logits(self, q, k, head):
        q, k = (t / np.linalg.norm(t, axis=-1, keepdims=True) for t in (q, k))
        scale = np.exp(np.minimum(self.w["attn.logit_scale"][head, 0, 0], math.log(100)))
        return scale * q @ np.swapaxes(k, -1, -2)

    def bias(self):
        apart = 8 * self.apart.clip(1 - WINDOW, WINDOW - 1) / (WINDOW - 1)
        hidden = relu(self.linear("attn.cpb_mlp.0", np.sign(apart) * np.log2(np.abs(apart) + 1) / 3))
        return 16 / (1 + np.exp(-hidden @ self.w["attn.cpb_mlp.2.weight"]))

    def attention_part(self, x):
        return x + self.norm("norm1", self.attn(x))

    def mlp_output(self, x):
        return self.norm("norm2", self.mlp(x))


@pytest.mark.parametrize("option", ["parallel", "sequential"])
@pytest.mark.parametrize("version,equation", [(1, Swin), (2, SwinV2)])
def test_the_branch_reads_the_residual_stream_in_plain_and_shifted_windows(version, equation, option):
    network = ppadapt.network(NAMES[version], img_size=4 * SIDE, embed_dim=8, depths=[2], num_heads=[HEADS],
                              window_size=WINDOW, mlp_ratio=2)
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(4, option=option, scale=SCALE))
    shake(network.parameters(), 0.3)
    adaptation.eval()
    tokens = paddle.randn([2, SIDE**2, 8])
    for index, shift in enumerate((0, WINDOW // 2)):
        block, prefix = network.layers[0].blocks[index], f"layers.0.blocks.{index}."
        assert block.shift_size == shift
        weights = {n[len(prefix):]: p.numpy().astype("f8") for n, p in network.named_parameters()
                   if n.startswith(prefix)}
        expected = getattr(equation(weights, shift), option)(tokens.numpy().astype("f8"))
        with paddle.no_grad():
            np.testing.assert_allclose(block(tokens, (SIDE, SIDE)).numpy(), expected, rtol=0, atol=2e-5)
