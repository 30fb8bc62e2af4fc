"""Attention rollout (Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, arXiv 2005.00928).

With A_l the attention of block l, the mean of its heads, and the residual stream as an identity:

    R_l = (A_l + I) / 2 R_{l-1},    R_0 = I

The row of the class token in the last R says how much of each patch has reached it.
"""
from __future__ import annotations

from typing import Any, Optional

import numpy as np
import paddle
from paddle import nn

from ..errors import UserError
from ..models.anatomy import Anatomy, find
from .observe import outputs_of

READS_CLASS = ("cls", "cls_avg", "cls_reg")  # of `models.vit`: pools that read the class token


@paddle.no_grad()
def rollout(network: nn.Layer, anatomy: Anatomy, images: paddle.Tensor, tokens: Optional[int] = None) -> np.ndarray:
    """How much of each patch reaches the class token: images [N, C, H, W] -> float32 [N, rows, columns], of sum 1.

    Args:
        network: in eval mode.
        tokens: tokens of the network's own, where it may have prompts in front; None: all that there are. Prompts are
            left out, and what they had of the attention is shared among the others.

    Raises:
        UserError: for a network whose attention cannot be seen, has no class token, does not read it, or stays within
            windows.
    """
    _, rows, columns = anatomy.grid(network)
    attention = attentions(network, anatomy, images)
    lengths = {matrix.shape[-1] for matrix in attention}
    prefix = (tokens or min(lengths)) - rows * columns
    kind, pool = type(network).__name__, getattr(network, "pool", None)
    if {len(matrix) for matrix in attention} != {len(images)} or prefix < 0:
        raise UserError(f"attention rollout needs attention among all patches: that of {kind} stays within windows or "
                        f"is of other tokens than its {rows} x {columns} patches")
    if prefix == 0 or isinstance(pool, str) and pool not in READS_CLASS:
        what = "has no class token" if prefix == 0 else f"reads its patches (pool {pool}), not its class token"
        raise UserError(f"attention rollout says what reaches the class token, and {kind} {what}")
    reached = np.eye(prefix + rows * columns)
    for matrix in attention:
        own = matrix[:, matrix.shape[-1] - rows * columns - prefix:, matrix.shape[-1] - rows * columns - prefix:]
        step = own / own.sum(-1, keepdims=True) + np.eye(own.shape[-1])
        step /= step.sum(-1, keepdims=True)
        reached = step @ reached
    patches = reached[:, 0, prefix:]
    return (patches / patches.sum(-1, keepdims=True)).reshape(-1, rows, columns).astype(np.float32)


def attentions(network: nn.Layer, anatomy: Anatomy, images: paddle.Tensor) -> list[np.ndarray]:
    """The attention of each block, mean of its heads: float64 [N, L, L], rows sum to 1.

    Raises:
        UserError: where a block has no layer that the attention's weights go through.
    """
    found: dict[int, np.ndarray] = {}

    def seen(i: int, weights: Any) -> None:
        found[i] = weights.astype("float32").numpy().astype(np.float64).mean(axis=1)

    layers = [find(block, anatomy.attn_drop) for block in anatomy.block_list(network)]
    with outputs_of(layers, seen, inputs=True):
        network(images)
    if len(found) < len(layers):
        raise UserError(f"{type(network).__name__} computes its attention without showing its weights (as flash "
                        "attention does): use float32, or a CPU")
    return [found[i] for i in range(len(layers))]
