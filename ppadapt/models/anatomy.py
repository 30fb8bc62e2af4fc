"""Where a transformer keeps its parts, so that a tuning method can attach to a network it did not write."""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Mapping, NamedTuple

from paddle import nn

from ..errors import UserError


class Part(NamedTuple):
    """Part `index` of the `count` equal parts of a Linear's output, side by side; `path` is seen from a block."""

    path: str
    index: int = 0
    count: int = 1


def _vit_linears() -> dict[str, Part]:
    return {**{name: Part("attn.qkv", i, 3) for i, name in enumerate("qkv")},
            "proj": Part("attn.proj"), "fc1": Part("mlp.fc1"), "fc2": Part("mlp.fc2")}


@dataclass(frozen=True)
class Anatomy:
    """Paths of the parts of a plain transformer of pre-norm blocks, `x + drop_path(mlp(norm2(x)))`.

    A method asks only for the parts it needs; each must be reached by calling the layer at its path, for
    that is what hooks see.

    Args:
        blocks: path of the list of blocks, seen from the network.
        norm1: the layer that reads the residual stream before the attention, seen from a block.
        attn: the attention, seen from a block. What it returns is added to the residual stream.
        branch_in: the layer that reads the residual stream before the MLP, seen from a block.
        mlp: the MLP, seen from a block.
        branch_out: the layer whose output is added back to the residual stream, seen from a block. It may
            serve the attention too: what counts is its first call after `branch_in`.
        linears: the Linears of a block by what they compute: q, k, v, proj, fc1, fc2.
        patches: the layer that makes tokens of images, seen from the network.
        stem: the convolution in it, seen from the network.
        norms: the norms after the last block, seen from the network; those count that are there.
        head: path of the classifier, seen from the network.
        head_extra: names beside the head that belong to it (they start anew with a new head).
    """

    blocks: str = "blocks"
    norm1: str = "norm1"
    attn: str = "attn"
    branch_in: str = "norm2"
    mlp: str = "mlp"
    branch_out: str = "drop_path"
    linears: Mapping[str, Part] = field(default_factory=_vit_linears)
    patches: str = "patch_embed"
    stem: str = "patch_embed.proj"
    norms: tuple[str, ...] = ("norm", "fc_norm")
    head: str = "head"
    head_extra: tuple[str, ...] = ("fc_norm",)

    def block_list(self, network: nn.Layer) -> list[nn.Layer]:
        """The blocks in order. Raises UserError with the path when the network has none there."""
        return list(find(network, self.blocks))

    def width(self, block: nn.Layer) -> int:
        """Channels D of the residual stream in a block."""
        return find(block, self.branch_in).weight.shape[0]

    def final_norms(self, network: nn.Layer) -> list[tuple[str, nn.Layer]]:
        """The norms after the last block, with their paths."""
        children = dict(network.named_sublayers())
        return [(path, children[path]) for path in self.norms
                if path in children and getattr(children[path], "weight", None) is not None]

    def grid(self, network: nn.Layer) -> tuple[int, int, int]:
        """Frames, rows and columns of the patch tokens; an image is one frame.

        Raises:
            UserError: when the layer at `patches` does not tell.
        """
        layer = find(network, self.patches)
        told = getattr(layer, "grid_size", None)
        if told is not None:
            frames, rows, columns = (1, *told)[-3:]
            return int(frames), int(rows), int(columns)
        tokens = getattr(layer, "num_patches", None)
        if tokens is None or math.isqrt(tokens) ** 2 != tokens:
            raise UserError(f"{type(layer).__name__} at {self.patches!r} has no square number of patches "
                            f"(num_patches {tokens}) and no grid_size: give it a grid_size, (rows, columns) or "
                            "(frames, rows, columns)")
        return 1, math.isqrt(tokens), math.isqrt(tokens)

    def is_head(self, name: str) -> bool:
        """Whether the parameter or buffer `name` belongs to the classifier."""
        return name.startswith(tuple(f"{part}." for part in (self.head, *self.head_extra)))


VIT = Anatomy()


def find(layer: nn.Layer, path: str) -> nn.Layer:
    """The sublayer at a dotted path ("backbone.blocks"). Raises UserError naming what is there."""
    for step in path.split("."):
        below = dict(layer.named_children())
        if step not in below:
            raise UserError(f"{type(layer).__name__} has no layer {step!r} (path {path!r}); "
                            f"it has: {', '.join(below) or 'none'}. Say where it is with an Anatomy")
        layer = below[step]
    return layer
