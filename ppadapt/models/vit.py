"""The image ViT (Dosovitskiy et al., arXiv 2010.11929) and its sizes.

Pooling and norms follow what AdaptFormer's authors use: the class token after the final `norm`, or (MAE's
`--global_pool`) the mean of the patch tokens after `fc_norm`.
"""
from __future__ import annotations

import functools

import paddle
from paddle import nn

from .layers import TRUNC_NORMAL, Block, PatchEmbed, linear

POOLS = ("cls", "avg")


class VisionTransformer(nn.Layer):
    """A ViT classifier: images [N, C, S, S] -> logits [N, class_num].

    Args:
        img_size: side S of the square input in pixels.
        patch_size: side P of a patch in pixels.
        class_num: classes of the linear head; 0 leaves the features [N, D] as the output.
        pool: "cls" takes the class token after `norm`, "avg" the mean of the patch tokens, then `fc_norm`.
        epsilon: of every LayerNorm.

    Raises:
        ValueError: for sizes that do not fit, an unknown `pool`, or images of another size.
    """

    def __init__(self, img_size: int = 224, patch_size: int = 16, in_chans: int = 3, class_num: int = 1000,
                 embed_dim: int = 768, depth: int = 12, num_heads: int = 12, mlp_ratio: float = 4.0,
                 qkv_bias: bool = True, drop_rate: float = 0.0, attn_drop_rate: float = 0.0,
                 drop_path_rate: float = 0.0, pool: str = "cls", epsilon: float = 1e-6):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r} is unknown. Choose from: {', '.join(POOLS)}")
        self.embed_dim, self.class_num, self.pool = embed_dim, class_num, pool
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        normal = paddle.ParamAttr(initializer=TRUNC_NORMAL)
        self.cls_token = self.create_parameter([1, 1, embed_dim], attr=normal)
        self.pos_embed = self.create_parameter([1, 1 + self.patch_embed.num_patches, embed_dim], attr=normal)
        self.pos_drop = nn.Dropout(drop_rate)
        self.blocks = nn.LayerList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias, drop_rate, attn_drop_rate,
                  drop_path_rate * i / max(depth - 1, 1), epsilon) for i in range(depth))
        norm = nn.LayerNorm(embed_dim, epsilon=epsilon)
        if pool == "cls":
            self.norm = norm
        else:
            self.fc_norm = norm
        self.head = linear(embed_dim, class_num) if class_num else nn.Identity()

    def features(self, x):
        """What the head reads: [N, C, S, S] -> [N, D]."""
        x = self.patch_embed(x)
        x = paddle.concat([self.cls_token.expand([x.shape[0], -1, -1]).astype(x.dtype), x], axis=1)
        x = self.pos_drop(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        if self.pool == "cls":
            # LayerNorm works token by token, so only the class token needs it.
            return self.norm(x[:, 0])
        return self.fc_norm(x[:, 1:].mean(axis=1))

    def forward(self, x):
        return self.head(self.features(x))


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
