"""Pfeiffer's adapter: one bottleneck with its own LayerNorm, after the MLP.

Pfeiffer et al., "AdapterFusion" (EACL 2021, arXiv 2005.00247), the placement they found best, in a pre-norm
block as Steitz & Roth (CVPR 2024, arXiv 2406.06820) write it. With x the residual stream after attention:

    z + up(gelu(down(norm(z)))),   z = x + mlp(norm2(x)) and `norm` a LayerNorm that trains

The start is that of BERT's matrices, N(0, 0.02^2), as in Steitz & Roth's comparison.
"""
from __future__ import annotations

from typing import Iterator, Union

from paddle import nn

from ...models.anatomy import Anatomy
from ...ranges import Width
from ..method import Added, Method, choose_blocks
from ..slots import After
from .bottleneck import UNMERGEABLE, Bottleneck, check_bottleneck


class Pfeiffer(Method):
    """One adapter with a LayerNorm a block.

    Args:
        bottleneck: width of the adapter.
        blocks: which blocks get one: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a width below 1.
    """

    keeps_output = False
    unmergeable = UNMERGEABLE
    token_by_token = True

    def __init__(self, bottleneck: Width = 8, blocks: Union[str, list] = "all"):
        check_bottleneck("Pfeiffer", bottleneck)
        self.bottleneck, self.blocks = bottleneck, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        for block in choose_blocks(network, anatomy, self.blocks):
            adapter = Bottleneck(anatomy.width(block.layer), self.bottleneck, nn.initializer.Normal(std=0.02),
                                 layernorm=True)
            yield Added(block.path, "pfeiffer", adapter, [(After(block.path), adapter)])
