"""Convpass: a convolutional bottleneck beside the attention and beside the MLP.

Jie & Deng, "Convolutional Bypasses Are Better Vision Transformer Adapters" (arXiv 2207.07039), equations 5-7:

    x + attn(n) + s * up(act(conv(act(down(n))))),   n = norm1(x);   then the same with mlp and norm2

`act` is the quick GELU a * sigmoid(1.702 a). `conv` is 3 x 3 over the grid of patches; every other token (the
class token, prompts) is an image of one pixel to it. As in the authors' code, `down` starts Xavier-uniform,
`conv` at the identity or Xavier-uniform, `up` and the biases at zero.
"""
from __future__ import annotations

from typing import Iterator, Union

import paddle
from paddle import ParamAttr, nn
from paddle.nn import functional as F

from ...models.anatomy import Anatomy
from ...ranges import Below1, Positive, Width
from ..method import Added, Method, TuningError, choose_blocks
from ..per_sample import linear
from ..slots import After

CONVS = ("identity", "xavier")


class Convpass(Method):
    """Two bypasses a block.

    Args:
        bottleneck: width of each (8 in the paper).
        scale: s (the authors try 0.01 to 100 for each data set).
        conv: start of the convolution, "identity" or "xavier".
        dropout: rate before `up`, in training.
        blocks: which blocks get them: "all", indices, or a slice as text ("6:").

    Raises:
        TuningError: for a value that is not allowed, and for tokens that are not a grid of patches.
    """

    unmergeable = "its bypass has non-linearities and mixes neighbouring tokens, which no Linear of the network does"

    def __init__(self, bottleneck: Width = 8, scale: Positive = 1.0, conv: str = "identity", dropout: Below1 = 0.1,
                 blocks: Union[str, list] = "all"):
        if bottleneck < 1:
            raise TuningError(f"Convpass bottleneck {bottleneck} is not allowed: give a width of at least 1")
        if conv not in CONVS:
            raise TuningError(f"Convpass conv {conv!r} is unknown. Choose from: {', '.join(CONVS)}")
        if not 0 <= dropout < 1:
            raise TuningError(f"Convpass dropout {dropout} is not allowed: give a rate in [0, 1)")
        self.bottleneck, self.scale, self.conv = bottleneck, scale, conv
        self.dropout, self.blocks = dropout, blocks

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        grid = anatomy.grid(network)
        for block in choose_blocks(network, anatomy, self.blocks):
            for name, path in (("convpass_attn", anatomy.attn), ("convpass_mlp", anatomy.mlp)):
                bypass = Bypass(anatomy.width(block.layer), self.bottleneck, grid, self.scale, self.conv, self.dropout)
                # What attention and MLP are given is what their norm returned.
                yield Added(block.path, name, bypass, [(After(block.at(path), reads="input"), bypass)])


class Bypass(nn.Layer):
    """s * up(dropout(act(conv(act(down(x)))))): [N, L, D] -> [N, L, D], zero before the first step.

    The last frames x rows x columns of the L tokens are patches; a video's frames are images to the convolution.
    """

    stacks = True

    def __init__(self, dim: int, bottleneck: int, grid: tuple[int, int, int], scale: float, conv: str, dropout: float):
        super().__init__()
        self.grid, self.scale = grid, scale
        xavier, zeros = nn.initializer.XavierUniform(), nn.initializer.Constant(0.0)
        # Dirac puts 1 on the centre of the diagonal's kernels: the identity.
        start = nn.initializer.Dirac() if conv == "identity" else xavier
        self.down_proj = nn.Linear(dim, bottleneck, ParamAttr(initializer=xavier), ParamAttr(initializer=zeros))
        self.conv = nn.Conv2D(bottleneck, bottleneck, 3, padding=1, weight_attr=ParamAttr(initializer=start),
                              bias_attr=ParamAttr(initializer=zeros))
        self.dropout = nn.Dropout(dropout)
        self.up_proj = nn.Linear(bottleneck, dim, ParamAttr(initializer=zeros), ParamAttr(initializer=zeros))

    def forward(self, x):
        tokens = x.shape[1]
        frames, rows, columns = self.grid
        others = tokens - frames * rows * columns
        if others < 0:
            raise TuningError(f"Convpass got {tokens} tokens for a grid of {frames} x {rows} x {columns} patches: it "
                              "is for networks that keep all patches from block to block")
        x = _quick_gelu(self.down_proj(x))
        width = x.shape[-1]
        patches = x[:, others:].reshape([-1, rows, columns, width]).transpose([0, 3, 1, 2])
        # Flattened first: Paddle Inference 3.3.1 loses a reshape of several images that follows a transpose.
        patches = self.conv(patches).transpose([0, 2, 3, 1]).flatten(1, 2).reshape([-1, tokens - others, width])
        if others:  # Paddle 2.6 multiplies no empty tensors
            # A 3 x 3 kernel on one pixel with a border of zeros is its centre.
            alone = linear(x[:, :others], _centre(self.conv.weight), self.conv.bias)
            patches = paddle.concat([alone.astype(patches.dtype), patches], axis=1)
        return self.up_proj(self.dropout(_quick_gelu(patches))) * self.scale


def _centre(kernels: paddle.Tensor) -> paddle.Tensor:
    """The matrix [I, O] in the middle of kernels [O, I, 3, 3]; [n, I, O] of one's own for each of n samples."""
    return kernels[:, :, 1, 1].t() if kernels.ndim == 4 else kernels[:, :, :, 1, 1].transpose([0, 2, 1])


def _quick_gelu(x):
    return x * F.sigmoid(1.702 * x)
