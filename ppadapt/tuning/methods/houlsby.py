"""Houlsby's adapters: a bottleneck after the attention and one after the MLP.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP" (ICML 2019, arXiv 1902.00751), figure 2, in a
pre-norm block as Steitz & Roth (CVPR 2024, arXiv 2406.06820) place it, inside the residual branches:

    x + y + up(gelu(down(y))),   y = attn(norm1(x));   then the same with y = mlp(norm2(x)) and weights of its own

The start is near the identity, not at it: matrices from N(0, 0.01^2) cut at two standard deviations. The
authors train the LayerNorms too; here, as in Steitz & Roth, they stay frozen (LayerNormTuning trains them).
"""
from __future__ import annotations

from typing import Iterator, Union

from paddle import nn

from ...models.anatomy import Anatomy
from ...ranges import Width
from ..method import Added, Method, choose_blocks
from ..slots import After
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
    token_by_token = True

    def __init__(self, bottleneck: Width = 8, blocks: Union[str, list] = "all"):
        check_bottleneck("Houlsby", bottleneck)
        self.bottleneck, self.blocks = bottleneck, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        for block in choose_blocks(network, anatomy, self.blocks):
            for name, path in (("houlsby_attn", anatomy.attn), ("houlsby_mlp", anatomy.mlp)):
                adapter = Bottleneck(anatomy.width(block.layer), self.bottleneck, houlsby_normal())
                yield Added(block.path, name, adapter, [(After(block.at(path)), adapter)])
