"""AdaptFormer: a bottleneck branch beside the MLP of each block.

Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition" (NeurIPS 2022,
arXiv 2205.13535), equations 1-3 and figure 2. With x the residual stream after attention:

    parallel:    x + drop_path(mlp(norm2(x))) + s * up(dropout(relu(down(x))))
    sequential:  x + m + s * up(dropout(relu(down(m)))),   m = drop_path(mlp(norm2(x)))

Figure 2 draws a LayerNorm on the parallel branch; the authors say that their code, which has none, is right.
"""
from __future__ import annotations

import math
from typing import Iterator, Union

from paddle import ParamAttr, nn
from paddle.nn import functional as F

from ...models.anatomy import Anatomy
from ...ranges import Below1, Positive, Width
from ..method import Added, Method, TuningError, choose_blocks
from ..slots import Beside

OPTIONS = ("parallel", "sequential")
LAYERNORMS = ("none", "in", "out")


class AdaptFormer(Method):
    """The paper's method.

    Args:
        bottleneck: width of the branch (64 in the paper).
        option: "parallel" to the MLP, or "sequential" after it.
        scale: s of equation 3, a number (0.1 in the paper) or "learnable" (one value a block, from 1).
        layernorm: "none", or one before ("in") or after ("out") the branch.
        dropout: rate after the ReLU, in training.
        blocks: which blocks get a branch: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a value that is not allowed.
    """

    unmergeable = "its branch has a ReLU between two matrices, and no Linear of the network computes that"
    token_by_token = True

    def __init__(self, bottleneck: Width = 64, option: str = "parallel", scale: Union[Positive, str] = 0.1,
                 layernorm: str = "none", dropout: Below1 = 0.1, blocks: Union[str, list] = "all"):
        for name, value, allowed in (("option", option, OPTIONS), ("layernorm", layernorm, LAYERNORMS)):
            if value not in allowed:
                raise TuningError(f"AdaptFormer {name} {value!r} is unknown. Choose from: {', '.join(allowed)}")
        if bottleneck < 1:
            raise TuningError(f"AdaptFormer bottleneck {bottleneck} is not allowed: give a width of at least 1")
        if not 0 <= dropout < 1:
            raise TuningError(f"AdaptFormer dropout {dropout} is not allowed: give a rate in [0, 1)")
        if isinstance(scale, str) and scale != "learnable":
            raise TuningError(f"AdaptFormer scale {scale!r} is not allowed: give a number or 'learnable'")
        self.bottleneck, self.option, self.scale = bottleneck, option, scale
        self.layernorm, self.dropout, self.blocks = layernorm, dropout, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        reads = "start" if self.option == "parallel" else "end"
        for block in choose_blocks(network, anatomy, self.blocks):
            branch = AdaptMLP(anatomy.width(block.layer), self.bottleneck, self.scale, self.layernorm, self.dropout,
                              sequential=self.option == "sequential")
            place = Beside(block.path, block.at(anatomy.branch_in), block.at(anatomy.branch_out), reads)
            yield Added(block.path, "adaptmlp", branch, [(place, branch)])


class AdaptMLP(nn.Layer):
    """The branch s * up(dropout(relu(down(x)))): [N, L, D] -> [N, L, D], zero before the first step."""

    stacks = True

    def __init__(self, dim: int, bottleneck: int, scale: Union[float, str], layernorm: str, dropout: float,
                 sequential: bool):
        super().__init__()
        self.sequential, self.layernorm, self.bottleneck = sequential, layernorm, bottleneck
        # torch's kaiming_uniform(a=sqrt 5), as LoRA starts its first matrix: U(-1/sqrt(dim), 1/sqrt(dim)).
        kaiming = nn.initializer.KaimingUniform(negative_slope=math.sqrt(5), nonlinearity="leaky_relu")
        zeros = ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.down_proj = nn.Linear(dim, bottleneck, ParamAttr(initializer=kaiming), zeros)
        self.up_proj = nn.Linear(bottleneck, dim, zeros, zeros)
        self.dropout = nn.Dropout(dropout)
        if layernorm != "none":
            self.norm = nn.LayerNorm(dim)  # epsilon 1e-5, PyTorch's default, as in the authors' code
        if scale == "learnable":
            self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))
        else:
            self.scale = float(scale)

    def forward(self, x):
        if self.layernorm == "in":
            x = self.norm(x)
        x = self.up_proj(self.dropout(F.relu(self.down_proj(x)))) * self.scale
        return self.norm(x) if self.layernorm == "out" else x
