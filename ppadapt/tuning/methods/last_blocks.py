"""Partial fine-tuning: the last blocks and the norm after them train, what lies below does not.

Yosinski et al., "How transferable are features in deep neural networks?" (NeurIPS 2014, arXiv 1411.1792); for
ViTs, "Partial-k" of Jia et al. (ECCV 2022, arXiv 2203.12119) and figure 9 of MAE (arXiv 2111.06377).
"""
from __future__ import annotations

from paddle import nn

from ...models.anatomy import Anatomy
from ...ranges import Width
from ..method import Method, TuningError


class LastBlocks(Method):
    """The last `count` blocks train.

    Raises:
        TuningError: for a count below 1, and by `attach` for one above the number of blocks.
    """

    def __init__(self, count: Width = 1):
        if count < 1:
            raise TuningError(f"LastBlocks count {count} is not allowed: give at least 1")
        self.count = count

    def trains(self, network: nn.Layer, anatomy: Anatomy) -> list[str]:
        blocks = anatomy.named_blocks(network)
        if self.count > len(blocks):
            raise TuningError(f"LastBlocks count {self.count} is more than the {len(blocks)} blocks of this network: "
                              f"give 1 to {len(blocks)}, or use FullFineTuning")
        prefixes = tuple(f"{path}." for path, _ in (*blocks[-self.count:], *anatomy.final_norms(network)))
        return [name for name, _ in network.named_parameters() if name.startswith(prefixes)]
