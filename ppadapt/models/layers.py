"""The parts every plain vision transformer is made of.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021, arXiv 2010.11929), pre-norm blocks as in
equations 2 and 3. Parameter names are those of timm and PaddleClas, so their checkpoints need no renaming.
"""
from __future__ import annotations

import functools
from typing import Optional

import paddle
from paddle import nn
from paddle.nn import functional as F

from ..errors import UserError
from ..paddle_compat import truncated_normal

TRUNC_NORMAL = truncated_normal(std=0.02)
ZEROS = nn.initializer.Constant(0.0)
HALF = (paddle.float16, paddle.bfloat16)


@functools.cache
def attention_kernel() -> str:
    """"flash" where Paddle has it for this GPU, from compute capability 8.0 on; else "plain". Chosen once.

    Flash attention (Dao, arXiv 2307.08691) computes in half precision, so float32 takes the plain way everywhere.
    """
    if not (paddle.is_compiled_with_cuda() and paddle.get_device().startswith("gpu")):
        return "plain"
    return "flash" if tuple(paddle.device.cuda.get_device_capability()) >= (8, 0) else "plain"


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """A Linear with the ViT initialisation: weight trunc_normal(0.02), bias zero."""
    return nn.Linear(in_features, out_features, weight_attr=paddle.ParamAttr(initializer=TRUNC_NORMAL),
                     bias_attr=paddle.ParamAttr(initializer=ZEROS) if bias else False)


class DropPath(nn.Layer):
    """Stochastic depth per sample (Huang et al., ECCV 2016, arXiv 1603.09382). [N, ...] -> [N, ...]."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path_rate {rate} is not allowed: give a number in [0, 1)")
        self.rate = rate

    def forward(self, x):
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        mask = paddle.bernoulli(paddle.full([x.shape[0]] + [1] * (x.ndim - 1), keep, dtype=x.dtype))
        return x / keep * mask


class PatchEmbed(nn.Layer):
    """Images to patch tokens: [N, C, S, S] -> [N, (S // P)^2, D] (equation 1).

    Where P does not divide S (patch 3 at 32 pixels), the last S % P rows and columns are not seen.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int):
        super().__init__()
        if img_size < patch_size:
            raise ValueError(f"img_size {img_size} is smaller than patch_size {patch_size}")
        self.img_size = img_size
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2D(in_chans, embed_dim, patch_size, stride=patch_size,
                              weight_attr=paddle.ParamAttr(initializer=TRUNC_NORMAL),
                              bias_attr=paddle.ParamAttr(initializer=ZEROS))

    def forward(self, x):
        channels = self.proj.weight.shape[1]
        if x.ndim != 4 or x.shape[1] != channels and x.shape[3] == channels:
            raise UserError(f"this network takes images [N, {channels}, {self.img_size}, {self.img_size}] and got "
                            f"{list(x.shape)}: give a batch, channels first")
        if x.shape[1] != channels:
            raise UserError(f"this network takes images of {channels} channels and got {x.shape[1]}, in "
                            f"{list(x.shape)}: make them RGB")
        if x.shape[2] != self.img_size or x.shape[3] != self.img_size:
            raise UserError(f"this network takes {self.img_size} x {self.img_size} images and got "
                            f"{x.shape[2]} x {x.shape[3]}: resize the images, or set Arch.img_size")
        return self.embed(x)

    def embed(self, x):
        """Tokens of images that fit."""
        return self.proj(x).flatten(2).transpose([0, 2, 1])


class Attention(nn.Layer):
    """Multi-head self-attention with a fused q, k, v matrix: [N, L, D] -> [N, L, D]."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, attn_drop: float = 0.0,
                 proj_drop: float = 0.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"embed_dim {dim} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x):
        n, tokens, dim = x.shape
        qkv = self.qkv(x).reshape([n, tokens, 3, self.num_heads, dim // self.num_heads])
        if attention_kernel() == "flash" and qkv.dtype in HALF:
            # Paddle 2.6 drops out in spite of training=False, so the rate says it.
            rate = self.attn_drop.p if self.attn_drop.training else 0.0
            mixed = F.scaled_dot_product_attention(*qkv.unbind(2), dropout_p=rate)
        else:
            q, k, v = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)
            attention = F.softmax(paddle.matmul(q * self.scale, k, transpose_y=True), axis=-1)
            mixed = paddle.matmul(self.attn_drop(attention), v).transpose([0, 2, 1, 3])
        return self.proj_drop(self.proj(mixed.reshape([n, tokens, dim])))


class QuickGELU(nn.Layer):
    """x * sigmoid(1.702 x), in the place of a GELU (OpenAI's CLIP, github.com/openai/CLIP)."""

    def forward(self, x):
        return x * F.sigmoid(1.702 * x)


# "gelu" is the erf form; Hendrycks & Gimpel, arXiv 1606.08415, have all three.
ACTS = {"gelu": nn.GELU, "quick_gelu": QuickGELU, "gelu_tanh": functools.partial(nn.GELU, approximate=True)}


def act_of(layer: Optional[nn.Layer]) -> Optional[str]:
    """Which of `ACTS` a layer is, PaddleClas's quick GELU included; None for another."""
    if isinstance(layer, nn.GELU):
        return "gelu_tanh" if layer._approximate else "gelu"
    return "quick_gelu" if type(layer).__name__ == "QuickGELU" else None


class Mlp(nn.Layer):
    """Two Linear layers with a GELU between them, one of `ACTS`: [N, L, D] -> [N, L, D]."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0, act: str = "gelu"):
        super().__init__()
        if act not in ACTS:
            raise ValueError(f"act {act!r} is unknown. Choose from: {', '.join(ACTS)}")
        self.fc1 = linear(dim, hidden)
        self.act = ACTS[act]()
        self.fc2 = linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class Block(nn.Layer):
    """A pre-norm transformer block: [N, L, D] -> [N, L, D] (equations 2 and 3)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, qkv_bias: bool = True,
                 drop: float = 0.0, attn_drop: float = 0.0, drop_path: float = 0.0, epsilon: float = 1e-6,
                 act: str = "gelu"):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=epsilon)
        self.attn = Attention(dim, num_heads, qkv_bias, attn_drop, drop)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, epsilon=epsilon)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), drop, act)

    def forward(self, x):
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
