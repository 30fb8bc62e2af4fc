"""Visual prompt tuning: trained tokens beside the image's, the rest frozen.

Jia et al., "Visual Prompt Tuning" (ECCV 2022, arXiv 2203.12119): deep (equation 6), fresh prompts for every
block whose outputs are dropped, or shallow (equations 4-5), prompts that enter the first block and go along
to the end. Placed and started as in AdaptFormer's authors' code: in front of the class token,
xavier-uniform.
"""
from __future__ import annotations

import math
from typing import Iterator, Union

import paddle
from paddle import nn

from ...models.anatomy import Anatomy
from ...ranges import Width
from ..method import Added, Method, TuningError, choose_blocks
from ..slots import Tokens


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

    def __init__(self, num_prompts: Width = 10, deep: bool = True, blocks: Union[str, list] = "all"):
        if num_prompts < 1:
            raise TuningError(f"VPT num_prompts {num_prompts} is not allowed: give at least 1")
        if not deep and blocks != "all":
            raise TuningError("VPT blocks are for deep prompts: shallow ones go through the whole network")
        self.num_prompts, self.deep, self.blocks = num_prompts, deep, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        chosen = choose_blocks(network, anatomy, self.blocks)
        dim = anatomy.width(chosen[0].layer)
        # torch's xavier_uniform_ on [1, n, dim]: fan in n * dim, fan out dim.
        bound = math.sqrt(6 / ((self.num_prompts + 1) * dim))
        prompts = nn.ParameterList([
            paddle.create_parameter([1, self.num_prompts, dim], "float32",
                                    default_initializer=nn.initializer.Uniform(-bound, bound))
            for _ in (chosen if self.deep else chosen[:1])])
        pairs = zip(chosen, chosen) if self.deep else [(chosen[0], chosen[-1])]
        yield Added("", "prompts", prompts, [(Tokens(first.path, last.path), Prompt(tokens))
                                             for (first, last), tokens in zip(pairs, prompts)])


class Prompt(nn.Layer):
    """Trained tokens [1, n, D] for every sample: [N, L, D] -> [N, n, D]."""

    stacks = True

    def __init__(self, tokens: paddle.Tensor):
        super().__init__()
        self.tokens = tokens

    @property
    def count(self) -> int:
        """n."""
        return self.tokens.shape[-2]

    def forward(self, x):
        # Added to zeros rather than expanded: an exported network does not know the batch size here.
        tokens = self.tokens if self.tokens.ndim == 3 else self.tokens.squeeze(1)  # [N, n, D]: a sample's own
        return tokens.astype(x.dtype) + paddle.zeros_like(x[:, :1])
