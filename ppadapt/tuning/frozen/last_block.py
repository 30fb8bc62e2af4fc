"""The last block of a ViT whose head reads the class token alone: in training, what follows its attention is of that.

Nothing reads the other tokens that leave this block, so that the loss and every gradient are the same without them:
two thirds of a block's products, forward and backward. In eval mode all tokens are there for who looks at them.
"""
from __future__ import annotations

from paddle import nn

from ...models.layers import Block
from ...models.vit import VisionTransformer


class ClassTokenLast(Block):
    """A block that hands on the class token alone while `alone` is set: [N, L, D] -> [N, 1, D].

    Its own `training` does not tell: a frozen block stays in eval mode while others train.
    """

    alone = False

    def forward(self, x):
        x = x + self.drop_path(self.attn(self.norm1(x)))
        if self.alone:
            x = x[:, :1]
        return x + self.drop_path(self.mlp(self.norm2(x)))


def class_token_last(network: nn.Layer) -> None:
    """Let the last block hand on what is read, in place; other networks than our ViT read more, or are not known."""
    if type(network) is VisionTransformer and network.pool == "cls" and type(network.blocks[-1]) is Block:
        network.blocks[-1].__class__ = ClassTokenLast


def set_training(network: nn.Layer, mode: bool) -> None:
    """Whether what such blocks hand on is what training reads, or all that they have."""
    for layer in network.sublayers():
        if isinstance(layer, ClassTokenLast):
            layer.alone = mode
