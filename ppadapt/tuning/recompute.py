"""Recompute: keep only each block's input in the forward pass, and compute the rest again in the backward.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174). Paddle's re-entrant way gives
the adapters no gradient where the block's input needs none, silently; the other way is used here.
"""
from __future__ import annotations

import paddle
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from ..models.anatomy import Anatomy
from ..models.families import anatomy_of
from .base import TuningError


def recompute_blocks(network: nn.Layer, anatomy: Anatomy | None = None) -> None:
    """Make every block of the network recompute, in place. Call it after `attach`; names stay as they are.

    Gradients stay the same, with dropout too. A block whose input needs no gradient, such as the first, runs
    as before: it keeps little.

    Raises:
        TuningError: for a network whose blocks cannot be run twice.
    """
    anatomy = anatomy_of(network) if anatomy is None else anatomy
    if "recompute" in anatomy.without:
        raise TuningError(f"recompute does not work on {type(network).__name__}: {anatomy.without['recompute']}")
    for block in anatomy.block_list(network):
        if not isinstance(block, _Recomputed):
            kind = type(block)
            block.__class__ = type(kind.__name__, (_Recomputed, kind), {"run": kind.forward})


class _Recomputed:
    """Goes in front of a block's class, whose `forward` it finds as `run` (Paddle's tracer loses `super()`)."""

    def forward(self, x, *others, **named):  # some blocks are told the size of the grid, or a position bias
        if paddle.in_dynamic_mode() and paddle.is_grad_enabled() and not x.stop_gradient:
            return recompute(self.run, x, *others, use_reentrant=False, **named)
        return self.run(x, *others, **named)
