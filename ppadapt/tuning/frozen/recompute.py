"""Recompute: keep only each block's input in the forward pass, and compute the rest again in the backward.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174).
"""
from __future__ import annotations

import paddle
from paddle import nn

from ... import half
from ...models.anatomy import Anatomy
from ...models.catalogue import anatomy_of
from ...paddle_compat import AnyBatchNorm, missing, recompute
from ..slots import TuningError, as_now


def recompute_blocks(network: nn.Layer, anatomy: Anatomy | None = None) -> int:
    """Make every block of the network recompute, in place. Call it after `attach`; names stay as they are.

    Gradients stay the same, with dropout too. A block whose input needs no gradient, such as the first, runs
    as before: it keeps little.

    Returns:
        How many blocks there are, at most, whose input needs a gradient: 0 means that nothing is gained.

    Raises:
        TuningError: for a network whose blocks cannot be run twice.
    """
    anatomy = anatomy_of(network) if anatomy is None else anatomy
    if "recompute" in anatomy.without:
        raise TuningError(f"recompute does not work on {type(network).__name__}: {anatomy.without['recompute']}")
    blocks = anatomy.block_list(network)
    if any(isinstance(layer, AnyBatchNorm) for block in blocks for layer in block.sublayers()):
        lacking = missing("recompute of a BatchNorm")
        if lacking:
            raise TuningError(f"recompute does not work on {type(network).__name__} here: {lacking}")
    for block in blocks:
        if not isinstance(block, _Recomputed):
            kind = type(block)
            block.__class__ = type(kind.__name__, (_Recomputed, kind), {"run": kind.forward})
    return _with_gradient(network, blocks, anatomy)


def _with_gradient(network: nn.Layer, blocks: list[nn.Layer], anatomy: Anatomy) -> int:
    """The blocks above the first that trains; all, where the stem or prompts do."""
    inside = {id(p) for block in blocks for p in block.parameters()}
    last = tuple(f"{path}." for path in anatomy.norms)
    if any(not p.stop_gradient and id(p) not in inside and not anatomy.answers(n) and not n.startswith(last)
           for n, p in network.named_parameters()):
        return len(blocks)
    first = next((i for i, block in enumerate(blocks) if any(not p.stop_gradient for p in block.parameters())),
                 len(blocks))
    return max(0, len(blocks) - first - 1)


class _Recomputed:
    """Goes in front of a block's class, whose `forward` it finds as `run` (Paddle's tracer loses `super()`)."""

    def forward(self, x, *others, **named):  # some blocks are told the size of the grid, or a position bias
        if paddle.in_dynamic_mode() and paddle.is_grad_enabled() and not x.stop_gradient:
            return recompute(half.as_now(as_now(self.run)), x, *others, **named)
        return self.run(x, *others, **named)
