"""RepAdapter: a linear bottleneck in front of attention and MLP, which vanishes into their first matrix.

Luo et al., "Towards Efficient Visual Adaption via Structural Re-parameterization" (arXiv 2302.08106), equations
5-10. In front of the Linears that read norm1(x), and of the one that reads norm2(x):

    f(x) = x + s * (U (A x + a) + b)

U is block-diagonal: `groups` groups of the bottleneck feed as many groups of channels. There is no
non-linearity, so W f(x) is one matrix. As in the authors' code, A starts Xavier-uniform, U and biases at zero.
"""
from __future__ import annotations

from typing import Iterator, Union

import numpy as np
import paddle
from paddle import ParamAttr, nn

from ...models.anatomy import Anatomy, find
from ...ranges import Below1, Positive, Width
from ..folding import bias_of, fold_into, values
from ..method import Added, BlockAt, Method, TuningError, choose_blocks
from ..per_sample import over_rows
from ..slots import Before


class RepAdapter(Method):
    """One or two adapters a block.

    Args:
        bottleneck: width of each (8 in the paper).
        groups: of the second matrix (2 in the paper).
        scale: s (the authors choose from 0.1, 0.5, 1, 5 and 10 for each data set).
        mlp: adapters in front of the MLP as well as the attention (the authors' "repblock", else "repattn").
        dropout: rate between the matrices, in training.
        blocks: which blocks get them: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a value that is not allowed.
    """

    changes_inputs = True
    token_by_token = True

    def __init__(self, bottleneck: Width = 8, groups: int = 2, scale: Positive = 1.0, mlp: bool = True,
                 dropout: Below1 = 0.1, blocks: Union[str, list] = "all"):
        if bottleneck < 1 or groups < 1 or bottleneck % groups:
            raise TuningError(f"RepAdapter bottleneck {bottleneck} with groups {groups} is not allowed: both are at "
                              "least 1, and groups divides the bottleneck")
        if not 0 <= dropout < 1:
            raise TuningError(f"RepAdapter dropout {dropout} is not allowed: give a rate in [0, 1)")
        self.bottleneck, self.groups, self.scale, self.mlp = bottleneck, groups, scale, mlp
        self.dropout, self.blocks = dropout, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        for block, name, linears in self._places(network, anatomy):
            dim = anatomy.width(block.layer)
            if dim % self.groups:
                raise TuningError(f"RepAdapter groups {self.groups} do not divide the network's {dim} channels")
            adapter = LinearBottleneck(dim, self.bottleneck, self.groups, self.scale, self.dropout)
            yield Added(block.path, name, adapter, [(Before(block.at(path)), adapter) for path in linears])

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """W f(x) + c = (W + s W U A) x + s W (U a + b) + c, written here with Paddle's [in, out] matrices."""
        for block, name, linears in self._places(network, anatomy):
            adapter = getattr(block.layer, name)
            up = adapter.dense_up()
            matrix = np.eye(len(up[0])) + self.scale * values(adapter.down_proj.weight) @ up
            shift = self.scale * (values(adapter.down_proj.bias) @ up + values(adapter.up_bias))
            for linear in (find(block.layer, path) for path in linears):
                weight = values(linear.weight)
                fold_into(linear, matrix @ weight, shift @ weight + bias_of(linear))

    def _places(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[tuple[BlockAt, str, list[str]]]:
        """Each adapter: its block, its name there, the paths in the block of the Linears that it stands before."""
        places = [("repadapter_attn", "qkv")] + [("repadapter_mlp", ("fc1",))] * self.mlp
        for block in choose_blocks(network, anatomy, self.blocks):
            for name, targets in places:
                yield block, name, list(dict.fromkeys(anatomy.part(block.layer, target).path for target in targets))


class LinearBottleneck(nn.Layer):
    """f(x) = x + s * (U (A x + a) + b): [..., D] -> [..., D], the identity before the first step."""

    stacks = True

    def __init__(self, dim: int, bottleneck: int, groups: int, scale: float, dropout: float):
        super().__init__()
        self.groups, self.scale = groups, scale
        zeros = nn.initializer.Constant(0.0)
        self.down_proj = nn.Linear(dim, bottleneck, ParamAttr(initializer=nn.initializer.XavierUniform()),
                                   ParamAttr(initializer=zeros))
        self.dropout = nn.Dropout(dropout)
        self.up_weight = self.create_parameter([groups, bottleneck // groups, dim // groups], default_initializer=zeros)
        self.up_bias = self.create_parameter([dim], default_initializer=zeros)

    def forward(self, x):
        hidden = self.dropout(self.down_proj(x))
        parts = [paddle.matmul(part, weight.astype(part.dtype)) for part, weight in
                 zip(paddle.split(hidden, self.groups, axis=-1), paddle.unbind(self.up_weight, axis=-3))]
        up = paddle.concat(parts, axis=-1)
        return x + (up + over_rows(self.up_bias, up)) * self.scale

    def dense_up(self) -> np.ndarray:
        """U as one matrix [bottleneck, D], in float64."""
        groups = values(self.up_weight)
        count, rows, columns = groups.shape
        dense = np.zeros([count * rows, count * columns])
        for i, group in enumerate(groups):
            dense[i * rows:(i + 1) * rows, i * columns:(i + 1) * columns] = group
        return dense
