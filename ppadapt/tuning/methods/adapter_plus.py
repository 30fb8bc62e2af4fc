"""Adapter+: one bottleneck after the block, scaled channel by channel.

Steitz & Roth, "Adapters Strike Back" (CVPR 2024, arXiv 2406.06820): post position, channel-wise scale s that
trains from 1, Houlsby's start (near the identity), no LayerNorm. With x the residual stream after attention:

    z + s * drop_path(up(gelu(down(z)))),   z = x + mlp(norm2(x))
"""
from __future__ import annotations

from typing import Iterator, Union

from paddle import nn

from ...models.anatomy import Anatomy
from ...ranges import Below1, Width
from ..method import Added, Method, choose_blocks
from ..slots import After
from .bottleneck import UNMERGEABLE, Bottleneck, check_bottleneck, houlsby_normal


class AdapterPlus(Method):
    """One adapter a block.

    Args:
        bottleneck: width of the adapter.
        drop_path: rate at which training drops an adapter for a whole sample (0.1 in the paper).
        blocks: which blocks get one: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a width below 1 or a rate outside [0, 1).
    """

    keeps_output = False
    unmergeable = UNMERGEABLE
    token_by_token = True

    def __init__(self, bottleneck: Width = 8, drop_path: Below1 = 0.1, blocks: Union[str, list] = "all"):
        check_bottleneck("AdapterPlus", bottleneck, drop_path)
        self.bottleneck, self.drop_path, self.blocks = bottleneck, drop_path, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        for block in choose_blocks(network, anatomy, self.blocks):
            adapter = Bottleneck(anatomy.width(block.layer), self.bottleneck, houlsby_normal(), channel_scale=True,
                                 drop_path=self.drop_path)
            yield Added(block.path, "adapter_plus", adapter, [(After(block.path), adapter)])
