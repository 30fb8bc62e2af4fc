"""The image ViT (Dosovitskiy et al., arXiv 2010.11929) and its sizes.

Pooling and norms: the class token after the final `norm`; (MAE's `--global_pool`) the mean of the patch tokens, then
`fc_norm`; the mean after `norm`; or an attention over the tokens after `norm`. The further options are what published
relatives compute otherwise, so that their weights give their features (docs/weights.md says which needs what).
"""
from __future__ import annotations

import functools
from typing import Annotated

import paddle
from paddle import nn

from ..ranges import Below1, Positive, Range, Width
from .attention_pool import AttentionPool
from .layers import TRUNC_NORMAL, Block, PatchEmbed, linear

# How features come from the tokens after the last block: name -> the norm that there is.
POOLS = {"cls": "norm", "avg": "fc_norm", "norm_avg": "norm", "map": "norm", "cls_avg": "norm", "cls_reg": "norm"}
_OF_CLASS = ("cls", "cls_avg", "cls_reg")
# How far options go: beyond, they are mistakes, and would take all memory before anything else could say so.
Side, Depth = Annotated[int, Range(1, 4096)], Annotated[int, Range(1, 256)]
Ratio, Registers = Annotated[float, Range(0, 64, above=True)], Annotated[int, Range(0, 4096)]


class VisionTransformer(nn.Layer):
    """A ViT classifier: images [N, C, S, S] -> logits [N, class_num].

    Args:
        img_size: side S of the square input in pixels.
        patch_size: side P of a patch in pixels.
        in_chans: channels C of the input.
        class_num: classes of the linear head; 0 leaves the features [N, D] as the output.
        embed_dim: width D. depth: number of blocks. num_heads: of the attention. mlp_ratio: width of the MLPs over D.
        qkv_bias: whether q, k and v have one.
        drop_rate, attn_drop_rate, drop_path_rate: dropout of tokens and MLPs, of attention weights, and of whole
            branches (up to this rate in the last block), in training where the network's own weights train.
        pool: "cls" takes the class token after `norm`, "avg" the mean of the patch tokens, then `fc_norm`, "norm_avg"
            their mean after `norm`, "map" one query's attention over them after `norm` (SigLIP). Two side by side,
            [N, 2 D]: "cls_avg" class token and mean (DINOv2's classifier), "cls_reg" class token and first register
            (DeiT, distilled).
        epsilon: of every LayerNorm.
        act: of the MLPs: "gelu", "quick_gelu" (OpenAI's CLIP) or "gelu_tanh" (SigLIP).
        pre_norm: a LayerNorm `norm_pre` before the first block (CLIP).
        class_token: whether there is one. Without it `pos_embed` is of the patches alone.
        registers: further tokens without a position, between class token and patches (DINOv2 with registers,
            Darcet et al., arXiv 2309.16588; DeiT's distillation token is one).

    Raises:
        ValueError: for sizes that do not fit, an unknown `pool` or `act`, or images of another size.
    """

    def __init__(self, img_size: Side = 224, patch_size: Side = 16, in_chans: Width = 3, class_num: int = 1000,
                 embed_dim: Width = 768, depth: Depth = 12, num_heads: Width = 12, mlp_ratio: Ratio = 4.0,
                 qkv_bias: bool = True, drop_rate: Below1 = 0.0, attn_drop_rate: Below1 = 0.0,
                 drop_path_rate: Below1 = 0.0, pool: str = "cls", epsilon: Positive = 1e-6, act: str = "gelu",
                 pre_norm: bool = False, class_token: bool = True, registers: Registers = 0):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r} is unknown. Choose from: {', '.join(POOLS)}")
        if pool in _OF_CLASS and not class_token:
            raise ValueError(f"pool {pool!r} needs the class token: class_token: True, or another pool")
        if registers < (pool == "cls_reg"):
            raise ValueError(f"registers {registers} is not allowed: give a number of tokens, 0 for none, and at least "
                             "1 for pool 'cls_reg'")
        self.embed_dim, self.class_num, self.pool = embed_dim, class_num, pool
        self.num_heads, self.epsilon, self.act = num_heads, epsilon, act
        self.prefix_tokens = int(class_token) + registers
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.cls_token = self._tokens(1) if class_token else None
        self.pos_embed = self._tokens(int(class_token) + self.patch_embed.num_patches)
        self.reg_token = self._tokens(registers) if registers else None
        self.pos_drop = nn.Dropout(drop_rate)
        self.norm_pre = nn.LayerNorm(embed_dim, epsilon=epsilon) if pre_norm else None
        self.blocks = nn.LayerList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias, drop_rate, attn_drop_rate,
                  drop_path_rate * i / max(depth - 1, 1), epsilon, act) for i in range(depth))
        self.add_sublayer(POOLS[pool], nn.LayerNorm(embed_dim, epsilon=epsilon))
        if pool == "map":
            self.attn_pool = AttentionPool(embed_dim, num_heads, mlp_ratio, epsilon, act)
        self.feature_dim = embed_dim * (2 if pool in ("cls_avg", "cls_reg") else 1)
        self.head = linear(self.feature_dim, class_num) if class_num else nn.Identity()

    def _tokens(self, count: int) -> paddle.Tensor:
        return self.create_parameter([1, count, self.embed_dim], attr=paddle.ParamAttr(initializer=TRUNC_NORMAL))

    def tokens(self, x):
        """What the first block reads: [N, C, S, S] -> [N, L, D], class token, registers, patches."""
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = paddle.concat([_of_each(self.cls_token, x), x], axis=1)
        x = x + self.pos_embed
        if self.reg_token is not None:
            registers = _of_each(self.reg_token, x)
            x = paddle.concat([registers, x] if self.cls_token is None else [x[:, :1], registers, x[:, 1:]], axis=1)
        x = self.pos_drop(x)
        return x if self.norm_pre is None else self.norm_pre(x)

    def features(self, x):
        """What the head reads: [N, C, S, S] -> [N, D]."""
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        if self.pool == "cls":
            # LayerNorm works token by token, so only the class token needs it.
            return self.norm(x[:, 0])
        if self.pool == "avg":
            return self.fc_norm(x[:, self.prefix_tokens:].mean(axis=1))
        x = self.norm(x)
        if self.pool == "cls_reg":
            return x[:, :2].flatten(1)
        patches = x[:, self.prefix_tokens:]
        if self.pool == "map":
            return self.attn_pool(patches)
        mean = patches.mean(axis=1)
        return mean if self.pool == "norm_avg" else paddle.concat([x[:, 0], mean], axis=1)

    def forward(self, x):
        return self.head(self.features(x))


def _of_each(token: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
    return token.expand([x.shape[0], -1, -1]).astype(x.dtype)


def _vit(**size):
    return functools.partial(VisionTransformer, **size)


# Names in lower case: PaddleClas's own (`ViT_base_patch16_224`) never collide with them.
VITS = {
    "vit_micro_patch4_32": _vit(img_size=32, patch_size=4, embed_dim=192, depth=6, num_heads=3),
    "vit_tiny_patch16": _vit(patch_size=16, embed_dim=192, depth=12, num_heads=3),
    "vit_small_patch16": _vit(patch_size=16, embed_dim=384, depth=12, num_heads=6),
    "vit_base_patch16": _vit(patch_size=16, embed_dim=768, depth=12, num_heads=12),
    "vit_large_patch16": _vit(patch_size=16, embed_dim=1024, depth=24, num_heads=16),
    "vit_huge_patch14": _vit(patch_size=14, embed_dim=1280, depth=32, num_heads=16),
    # The network of the AI Studio notebook that this project grew from.
    "vit_base_patch3_32": _vit(img_size=32, patch_size=3, embed_dim=768, depth=12, num_heads=12),
}
