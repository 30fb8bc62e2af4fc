"""Where a transformer keeps its parts, so that a tuning method can attach to a network it did not write."""
from __future__ import annotations

import fnmatch
import functools
import math
from dataclasses import dataclass, field
from typing import Mapping, NamedTuple, Optional, Union

from paddle import nn

from ..errors import UserError
from ..paddle_compat import hooks_of


class Part(NamedTuple):
    """Part `index` of the `count` equal parts of a Linear's output, side by side; `path` is seen from a block."""

    path: str
    index: int = 0  # type: ignore[assignment]  # hides a method of tuples
    count: int = 1  # type: ignore[assignment]


# One of several parts, where blocks differ: the first that a block has.
Parts = Union[Part, tuple[Part, ...]]


def fused_linears(qkv: str = "attn.qkv", proj: str = "attn.proj", mlp: str = "mlp") -> dict[str, Parts]:
    """The Linears of a block whose q, k and v are one matrix."""
    return {**{name: Part(qkv, i, 3) for i, name in enumerate("qkv")}, **output_linears(proj, mlp)}


def output_linears(proj: str = "attn.proj", mlp: str = "mlp") -> dict[str, Parts]:
    """The Linears of a block but q, k and v."""
    return {"proj": Part(proj), "fc1": Part(f"{mlp}.fc1"), "fc2": Part(f"{mlp}.fc2")}


@dataclass(frozen=True)
class Anatomy:
    """Paths of the parts of a plain transformer of pre-norm blocks, `x + drop_path(mlp(norm2(x)))`.

    A method asks only for the parts it needs; each must be reached by calling the layer at its path, for
    that is what hooks see.

    Args:
        blocks: path of the list of blocks, seen from the network. A `*` stands for anything in a name:
            `layers.*.blocks` are the blocks of all stages, in order.
        norm1: the layer that reads the residual stream before the attention, seen from a block.
        attn: the attention, seen from a block. What it returns is added to the residual stream.
        attn_drop: the layer, seen from a block, that the attention's weights [N, heads, L, L] go through: there a bank
            hides tokens that only fill up a batch of prompts of different numbers.
        branch_in: the layer that reads the residual stream before the MLP, seen from a block; its weight's
            first dimension is the stream's.
        mlp: the MLP, seen from a block.
        branch_out: the layer whose output is added back to the residual stream, seen from a block. It may
            serve the attention too: what counts is its first call after `branch_in`.
        linears: the Linears of a block by what they compute: q, k, v, proj, fc1, fc2; those are left out that
            are not reached by calling them.
        patches: the layer that makes tokens of images, seen from the network.
        stem: the convolution in it, seen from the network.
        norms: the norms after the last block, seen from the network; those count that are there.
        features: a layer with as many channels as what the head reads; empty: the last of `norms`.
        head: path of the classifier, seen from the network.
        head_twins: further classifiers, averaged with the head; a new head brings each a twin of its own.
        head_extra: names beside the head that belong to it (they start anew with a new head).
        without: what does not work on this network, and why: names of tuning methods, "recompute", "frozen_dtype"
            and "shared_prefix" (a bank's rows that become more from some block on).
        unused: patterns of names of parameters that the network has and its logits do not depend on.
    """

    blocks: str = "blocks"
    norm1: str = "norm1"
    attn: str = "attn"
    attn_drop: str = "attn.attn_drop"
    branch_in: str = "norm2"
    mlp: str = "mlp"
    branch_out: str = "drop_path"
    linears: Mapping[str, Parts] = field(default_factory=fused_linears)
    patches: str = "patch_embed"
    stem: str = "patch_embed.proj"
    norms: tuple[str, ...] = ("norm", "fc_norm")
    features: str = ""
    head: str = "head"
    head_twins: tuple[str, ...] = ()
    head_extra: tuple[str, ...] = ("fc_norm",)
    without: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def block_list(self, network: nn.Layer) -> list[nn.Layer]:
        """The blocks in order. Raises UserError with the path when the network has none there."""
        return [block for _, block in self.named_blocks(network)]

    def named_blocks(self, network: nn.Layer) -> list[tuple[str, nn.Layer]]:
        """The blocks in order, with their paths seen from the network. Raises UserError as `block_list` does."""
        return [(f"{path}.{name}", block) for path, blocks in find_all(network, self.blocks)
                for name, block in blocks.named_children()]

    def width(self, block: nn.Layer) -> int:
        """Channels D of the residual stream in a block."""
        return find(block, self.branch_in).weight.shape[0]

    def part(self, block: nn.Layer, name: str) -> Part:
        """The Linear of this block that computes `name`, one of `linears`."""
        parts = self.linears[name]
        parts = (parts,) if isinstance(parts, Part) else parts
        paths = {path for path, _ in block.named_sublayers()}
        return next((part for part in parts if part.path in paths), parts[0])

    def feature_dim(self, network: nn.Layer) -> int:
        """Channels of the features [N, D] that the head reads: the network's `feature_dim`, where it says so."""
        if isinstance(getattr(network, "feature_dim", None), int):
            return network.feature_dim
        if self.features:
            return find(network, self.features).weight.shape[0]
        norms = self.final_norms(network)
        if not norms:
            raise UserError(f"{type(network).__name__} has none of {', '.join(self.norms)} after its blocks, so that "
                            "the width of its features is not known. Say where its last norm is: Anatomy(norms=...)")
        return norms[-1][1].weight.shape[0]

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

    def image_shape(self, network: nn.Layer) -> Optional[tuple[int, int, int]]:
        """C, H, W of the images that a network takes, None where it does not tell or takes any."""
        size = getattr(dict(network.named_sublayers()).get(self.patches), "img_size", None)
        if size is None:
            return None
        rows, columns = size if isinstance(size, (list, tuple)) else (size, size)
        return 3, int(rows), int(columns)

    def is_head(self, name: str) -> bool:
        """Whether the parameter or buffer `name` belongs to the classifier."""
        return name.startswith(_below(self.head, *self.head_twins, *self.head_extra))

    def answers(self, name: str) -> bool:
        """Whether the parameter `name` is of the head or its twins, which always train."""
        return name.startswith(_below(self.head, *self.head_twins))


@functools.lru_cache(maxsize=64)
def _below(*paths: str) -> tuple[str, ...]:
    """What the names of all that is below these paths begin with."""
    return tuple(f"{path}." for path in paths)


VIT = Anatomy()


def find_all(layer: nn.Layer, pattern: str) -> list[tuple[str, nn.Layer]]:
    """The sublayers at a dotted path that may have `*` in its names, with the path of each.

    Raises:
        UserError: where there is none.
    """
    found = [("", layer)]
    for step in pattern.split("."):
        below = [(f"{path}.{name}".lstrip("."), child) for path, one in found
                 for name, child in one.named_children() if fnmatch.fnmatchcase(name, step)]
        if not below:
            raise _not_there(found[0][1], step, pattern)
        found = below
    return found


def find(layer: nn.Layer, path: str) -> nn.Layer:
    """The sublayer at a dotted path ("backbone.blocks"). Raises UserError naming what is there."""
    for step in path.split("."):
        below = dict(layer.named_children())
        if step not in below:
            raise _not_there(layer, step, path)
        layer = below[step]
    return layer


def _not_there(layer: nn.Layer, step: str, path: str) -> UserError:
    return UserError(f"{type(layer).__name__} has no layer {step!r} (path {path!r}); it has: "
                     f"{', '.join(dict(layer.named_children())) or 'none'}. Say where it is with an Anatomy")


def hooked(layer: nn.Layer) -> bool:
    """Whether something is attached to the layer, which is lost where the layer is not called."""
    return any(hooks_of(layer))
