"""LoRA: a trained matrix of low rank beside a frozen one.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022, arXiv 2106.09685), equation 3:

    h = W x + (alpha / rank) B A x

A starts Kaiming-uniform (a = sqrt 5, as in the authors' code), B at zero. Where q, k and v share one Linear,
each chosen one has an A and a B of its own, added to its third of the output.
"""
from __future__ import annotations

import math
from typing import Iterator, Optional, Union

from paddle import ParamAttr, nn

from ...errors import choose
from ...models.anatomy import Anatomy, Part, find
from ...ranges import Below1, Positive, Width
from ..folding import fold_into, values
from ..method import Added, Method, TuningError, choose_blocks
from ..slots import PartOfOutput

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

    token_by_token = True

    def __init__(self, rank: Width = 8, alpha: Optional[Positive] = None, targets: Union[list, tuple] = ("q", "v"),
                 dropout: Below1 = 0.0, blocks: Union[str, list] = "all"):
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

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        for block in choose_blocks(network, anatomy, self.blocks):
            updates, placed = nn.LayerDict(), []
            for target in self.targets:
                part, linear = _linear(block.layer, anatomy, target)
                inputs, outputs = linear.weight.shape
                updates[target] = LowRank(inputs, outputs // part.count, self.rank, self.alpha / self.rank,
                                          self.dropout)
                placed.append((PartOfOutput(block.at(part.path), part.index, part.count), updates[target]))
            yield Added(block.path, "lora", updates, placed)

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """W + (alpha / rank) B A in the place of W."""
        for block in choose_blocks(network, anatomy, self.blocks):
            for target, update in block.layer.lora.items():
                part, linear = _linear(block.layer, anatomy, target)
                weight = values(linear.weight)
                width = weight.shape[1] // part.count
                weight[:, part.index * width:(part.index + 1) * width] += update.matrix()
                fold_into(linear, weight)


def _linear(block: nn.Layer, anatomy: Anatomy, target: str) -> tuple[Part, nn.Linear]:
    if target not in anatomy.linears:
        raise TuningError(f"LoRA target {target!r} is not among this network's: {', '.join(anatomy.linears)}")
    part = anatomy.part(block, target)
    layer = find(block, part.path)
    if not isinstance(layer, nn.Linear):
        raise TuningError(f"LoRA target {target!r} is a {type(layer).__name__} in this network: it must be a Linear")
    return part, layer


class LowRank(nn.Layer):
    """scale * B A x: [..., in_features] -> [..., out_features]."""

    def __init__(self, in_features: int, out_features: int, rank: int, scale: float, dropout: float):
        super().__init__()
        self.scale = scale
        kaiming = nn.initializer.KaimingUniform(negative_slope=math.sqrt(5), nonlinearity="leaky_relu")
        zeros = nn.initializer.Constant(0.0)
        self.dropout = nn.Dropout(dropout)
        self.down_proj = nn.Linear(in_features, rank, ParamAttr(initializer=kaiming), bias_attr=False)
        self.up_proj = nn.Linear(rank, out_features, ParamAttr(initializer=zeros), bias_attr=False)

    def forward(self, x):
        return self.up_proj(self.down_proj(self.dropout(x))) * self.scale

    def matrix(self):
        """The update of the weight, [in, out], in float64."""
        return self.scale * values(self.down_proj.weight) @ values(self.up_proj.weight)
