"""Houlsby's adapters: a bottleneck after the attention and one after the MLP.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (ICML 2019, arXiv 1902.00751), figure 2, in a
pre-norm block as Steitz & Roth (CVPR 2024, arXiv 2406.06820) place it, inside the residual branches:

    x + y + up(gelu(down(y))),   y = attn(norm1(x));   then the same with y = mlp(norm2(x)) and weights of its own

The start is near the identity, not at it: matrices from N(0, 0.01^2) cut at two standard deviations. The
authors train the LayerNorms too; here, as in Steitz & Roth, they stay frozen (LayerNormTuning trains them).
"""
from __future__ import annotations

from typing import Union

from paddle import nn

from ...models.anatomy import Anatomy, find
from ..method import Method, add_layer, choose_blocks
from .bottleneck import UNMERGEABLE, Bottleneck, check_bottleneck, houlsby_normal


class Houlsby(Method):
    """Two adapters a block.

    Args:
        bottleneck: width of each.
        blocks: which blocks get them: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a width below 1.
    """

    keeps_output = False
    unmergeable = UNMERGEABLE

    def __init__(self, bottleneck: int = 8, blocks: Union[str, list] = "all"):
        check_bottleneck("Houlsby", bottleneck)
        self.bottleneck, self.blocks = bottleneck, blocks

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        for _, block in choose_blocks(network, anatomy, self.blocks):
            for name, path in (("houlsby_attn", anatomy.attn), ("houlsby_mlp", anatomy.mlp)):
                adapter = Bottleneck(anatomy.width(block), self.bottleneck, houlsby_normal())
                add_layer(block, name, adapter)
                find(block, path).register_forward_post_hook(adapter.leave)

    def trains(self, name: str) -> bool:
        return ".houlsby_attn." in name or ".houlsby_mlp." in name
