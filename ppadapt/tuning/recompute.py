"""Recompute: keep only each block's input in the forward pass, and compute the rest again in the backward.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). Paddle's re-entrant way gives
the adapters no gradient where the block's input needs none, silently; the other way is used here.
"""
from __future__ import annotations

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from ..models.anatomy import VIT, Anatomy


def recompute_blocks(network: nn.Layer, anatomy: Anatomy = VIT) -> None:
    """Make every block of the network recompute, in place. Call it after `attach`; names stay as they are.

    Gradients stay the same, with dropout too. A block whose input needs no gradient, such as the first, runs
    as before: it keeps little.
    """
    for block in anatomy.block_list(network):
        if not isinstance(block, _Recomputed):
            kind = type(block)
            block.__class__ = type(kind.__name__, (_Recomputed, kind), {"run": kind.forward})


class _Recomputed:
    """Goes in front of a block's class, whose `forward` it finds as `run` (Paddle's tracer loses `super()`)."""

    def forward(self, *inputs):
        if paddle.in_dynamic_mode() and paddle.is_grad_enabled() and any(not t.stop_gradient for t in inputs):
            return recompute(self.run, *inputs, use_reentrant=False)
        return self.run(*inputs)
