"""Attention pooling: one learned query reads all tokens.

The "MAP head" of Zhai et al., "Scaling Vision Transformers" (CVPR 2022, arXiv 2106.04560), as SigLIP has it (arXiv
2303.15343). Parameter names are those of timm's `attn_pool`.
"""
from __future__ import annotations

import paddle
from paddle import nn
from paddle.nn import functional as F

from .layers import TRUNC_NORMAL, Mlp, linear


class AttentionPool(nn.Layer):
    """Tokens [N, L, D] -> [N, D]: y = attention(latent, x), then y + mlp(norm(y))."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, epsilon: float = 1e-6, act: str = "gelu"):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.latent = self.create_parameter([1, 1, dim], attr=paddle.ParamAttr(initializer=TRUNC_NORMAL))
        self.q, self.kv, self.proj = linear(dim, dim), linear(dim, 2 * dim), linear(dim, dim)
        self.norm = nn.LayerNorm(dim, epsilon=epsilon)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), act=act)

    def forward(self, x):
        n, tokens, dim = x.shape
        heads = [self.num_heads, dim // self.num_heads]
        q = self.q(self.latent.astype(x.dtype)).reshape([1, 1, *heads]).transpose([0, 2, 1, 3])
        k, v = self.kv(x).reshape([n, tokens, 2, *heads]).transpose([2, 0, 3, 1, 4]).unbind(0)
        attention = F.softmax(paddle.matmul(q * self.scale, k, transpose_y=True), axis=-1)
        y = self.proj(paddle.matmul(attention, v).transpose([0, 2, 1, 3]).reshape([n, 1, dim]))
        return (y + self.mlp(self.norm(y)))[:, 0]
