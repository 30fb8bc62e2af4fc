"""The last block of a ViT whose head reads the class token alone: in training, what follows its attention is of that.

Nothing reads the other tokens that leave this block, so that the loss and every gradient are the same without them:
two thirds of a block's products, forward and backward, and five sixths where its attention is frozen and nobody looks
into it, so that the class token alone asks. In eval mode all tokens are there for who looks at them.
"""
from __future__ import annotations

from paddle import nn

from ...models.layers import Block
from ...models.vit import VisionTransformer
from .layers import CheapAttention


class ClassTokenLast(Block):
    """A block that hands on the class token alone while `alone` is set: [N, L, D] -> [N, 1, D].

    Its own `training` does not tell: a frozen block stays in eval mode while others train.
    """

    alone = False

    def forward(self, x):
        if not self.alone:
            return Block.forward(self, x)  # super() ends in itself where Paddle translates a network to a program
        x = x[:, :1] + self.drop_path(self._attended(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attended(self, x):
        """What the class token gets of all tokens, [N, L, D] -> [N, 1, D]."""
        attended = self.attn.of_class_token(x) if isinstance(self.attn, CheapAttention) else None
        return self.attn(x)[:, :1] if attended is None else attended


def class_token_last(network: nn.Layer) -> None:
    """Let the last block hand on what is read, in place; other networks than our ViT read more, or are not known."""
    if type(network) is VisionTransformer and network.pool == "cls" and type(network.blocks[-1]) is Block:
        network.blocks[-1].__class__ = ClassTokenLast


def set_training(network: nn.Layer, mode: bool) -> None:
    """Whether what such blocks hand on is what training reads, or all that they have."""
    for layer in network.sublayers():
        if isinstance(layer, ClassTokenLast):
            layer.alone = mode
