"""LoRA: a trained matrix of low rank beside a frozen one.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022, arXiv 2106.09685), equation 3:

    h = W x + (alpha / rank) B A x

A starts Kaiming-uniform (a = sqrt 5, as in the authors' code), B at zero. Where q, k and v share one Linear,
each chosen one has an A and a B of its own, added to its third of the output.
"""
from __future__ import annotations

import math
from typing import Optional, Union

import paddle
from paddle import ParamAttr, nn

from ...errors import choose
from ...models.anatomy import Anatomy, Part, find
from ..folding import fold_into, remove_layer, values
from ..method import Method, TuningError, add_layer, choose_blocks

TARGETS = ("q", "k", "v", "proj", "fc1", "fc2")


class LoRA(Method):
    """Low-rank updates of a block's Linears.

    Args:
        rank: r. alpha: the update is scaled by alpha / rank; None takes alpha = rank.
        targets: which of q, k, v, proj, fc1, fc2 (the paper's choice is q and v).
        dropout: rate on the input of A, in training.
        blocks: which blocks: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a value that is not allowed.
    """

    def __init__(self, rank: int = 8, alpha: Optional[float] = None, targets: Union[list, tuple] = ("q", "v"),
                 dropout: float = 0.0, blocks: Union[str, list] = "all"):
        if rank < 1:
            raise TuningError(f"LoRA rank {rank} is not allowed: give at least 1")
        if not 0 <= dropout < 1:
            raise TuningError(f"LoRA dropout {dropout} is not allowed: give a rate in [0, 1)")
        targets = [targets] if isinstance(targets, str) else list(targets)
        for target in targets:
            if target not in TARGETS:
                raise TuningError(choose("LoRA target", target, TARGETS))
        if not targets or len(set(targets)) != len(targets):
            raise TuningError(f"LoRA targets {targets} name none, or one twice. Choose from: {', '.join(TARGETS)}")
        self.rank, self.alpha, self.targets = rank, float(rank if alpha is None else alpha), targets
        self.dropout, self.blocks = dropout, blocks

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        for _, block in choose_blocks(network, anatomy, self.blocks):
            updates = nn.LayerDict()
            for target in self.targets:
                part, linear = _linear(block, anatomy, target)
                updates[target] = LowRank(*linear.weight.shape, part, self.rank, self.alpha / self.rank, self.dropout)
            add_layer(block, "lora", updates)
            for target, update in updates.items():
                _linear(block, anatomy, target)[1].register_forward_post_hook(update.leave)

    def trains(self, name: str) -> bool:
        return ".lora." in name

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """W + (alpha / rank) B A in the place of W."""
        for _, block in choose_blocks(network, anatomy, self.blocks):
            for target, update in block.lora.items():
                part, linear = _linear(block, anatomy, target)
                weight = values(linear.weight)
                width = weight.shape[1] // part.count
                weight[:, part.index * width:(part.index + 1) * width] += update.matrix()
                fold_into(linear, weight)
            remove_layer(block, "lora")


def _linear(block: nn.Layer, anatomy: Anatomy, target: str) -> tuple[Part, nn.Linear]:
    if target not in anatomy.linears:
        raise TuningError(f"LoRA target {target!r} is not among this network's: {', '.join(anatomy.linears)}")
    part = anatomy.part(block, target)
    layer = find(block, part.path)
    if not isinstance(layer, nn.Linear):
        raise TuningError(f"LoRA target {target!r} is a {type(layer).__name__} in this network: it must be a Linear")
    return part, layer


class LowRank(nn.Layer):
    """scale * B A x for one part of a Linear [in_features, out_features]: [..., in] -> [..., out / count]."""

    def __init__(self, in_features: int, out_features: int, part: Part, rank: int, scale: float, dropout: float):
        super().__init__()
        self.part, self.scale = part, scale
        kaiming = nn.initializer.KaimingUniform(negative_slope=math.sqrt(5), nonlinearity="leaky_relu")
        zeros = nn.initializer.Constant(0.0)
        self.dropout = nn.Dropout(dropout)
        self.down_proj = nn.Linear(in_features, rank, ParamAttr(initializer=kaiming), bias_attr=False)
        self.up_proj = nn.Linear(rank, out_features // part.count, ParamAttr(initializer=zeros), bias_attr=False)

    def forward(self, x):
        return self.up_proj(self.down_proj(self.dropout(x))) * self.scale

    def leave(self, layer, inputs, output):
        """The hook: the update joins its part of what the Linear returns."""
        update = self(inputs[0])
        if self.part.count == 1:
            return output + update
        parts = paddle.split(output, self.part.count, axis=-1)
        parts[self.part.index] = parts[self.part.index] + update
        return paddle.concat(parts, axis=-1)

    def matrix(self):
        """The update of the weight, [in, out / count], in float64."""
        return self.scale * values(self.down_proj.weight) @ values(self.up_proj.weight)
