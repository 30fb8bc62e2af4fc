"""Visual prompt tuning: trained tokens beside the image's, the rest frozen.

Jia et al., "Visual Prompt Tuning" (ECCV 2022, arXiv 2203.12119): deep (equation 6), fresh prompts for every
block whose outputs are dropped, or shallow (equations 4-5), prompts that enter the first block and go along
to the end. Placed and started as in AdaptFormer's authors' code: in front of the class token,
xavier-uniform.
"""
from __future__ import annotations

import math
from typing import Union

import paddle
from paddle import nn

from ...models.anatomy import Anatomy
from ..method import Method, TuningError, add_layer, choose_blocks


class VPT(Method):
    """Prompt tuning.

    Args:
        num_prompts: prompt tokens per block (deep) or in all (shallow).
        deep: fresh prompts in every chosen block; else prompts in the first block only.
        blocks: which blocks get prompts when deep: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a count below 1, or blocks that are chosen for shallow prompts.
    """

    keeps_output = False  # random tokens take part in the attention from the start
    unmergeable = "its prompts are tokens of their own, and no weight of the network stands for them"

    def __init__(self, num_prompts: int = 10, deep: bool = True, blocks: Union[str, list] = "all"):
        if num_prompts < 1:
            raise TuningError(f"VPT num_prompts {num_prompts} is not allowed: give at least 1")
        if not deep and blocks != "all":
            raise TuningError("VPT blocks are for deep prompts: shallow ones go through the whole network")
        self.num_prompts, self.deep, self.blocks = num_prompts, deep, blocks

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        chosen = [block for _, block in choose_blocks(network, anatomy, self.blocks)]
        dim = anatomy.width(chosen[0])
        # torch's xavier_uniform_ on [1, n, dim]: fan in n * dim, fan out dim.
        bound = math.sqrt(6 / ((self.num_prompts + 1) * dim))
        prompts = nn.ParameterList([
            paddle.create_parameter([1, self.num_prompts, dim], "float32",
                                    default_initializer=nn.initializer.Uniform(-bound, bound))
            for _ in (chosen if self.deep else chosen[:1])])
        add_layer(network, "prompts", prompts)
        pairs = zip(chosen, chosen) if self.deep else [(chosen[0], chosen[-1])]
        for i, (first, last) in enumerate(pairs):
            slot = _Slot(prompts, i)
            first.register_forward_pre_hook(slot.insert)
            last.register_forward_post_hook(slot.remove)

    def trains(self, name: str) -> bool:
        return name.startswith("prompts.")


class _Slot:
    """The hooks that put prompts [1, n, D] in front of the tokens [N, L, D] and take them out again."""

    def __init__(self, prompts: nn.ParameterList, index: int):
        self.prompts, self.index = prompts, index

    def insert(self, layer, inputs):
        x = inputs[0]
        # Added to zeros rather than expanded: an exported network does not know the batch size here.
        prompt = self.prompts[self.index].astype(x.dtype) + paddle.zeros_like(x[:, :1])
        return (paddle.concat([prompt, x], axis=1), *inputs[1:])

    def remove(self, layer, inputs, output):
        return output[:, self.prompts[self.index].shape[1]:]
