"""A network for inference: the same outputs in fewer operations, by algebra alone.

* Methods that merge (LoRA, SSF, RepAdapter ...) go into the network's own weights, `Adaptation.merge`.
* AdaptFormer's parallel branch without LayerNorm joins the MLP's second matrix, one product for two:

      W2 gelu(W1 n(x) + b1) + b2 + s (U relu(D x + d) + u) = [W2, s U] [gelu(..); relu(..)] + (b2 + s u)

* Where the head reads the class token alone, the last block computes no other: keys and values of all tokens,
  the query, the projection and the MLP of one.

All else stays as it is: other branches, other networks' blocks, blocks that further methods hook into.
"""
from __future__ import annotations

import copy

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from ..models.anatomy import find, hooked
from ..models.layers import Attention, Block, Mlp
from ..models.vit import VisionTransformer
from ..tuning import Adaptation, Method, TuningError
from ..tuning.folding import bias_of, remove_layer, values
from ..tuning.frozen.last_block import ClassTokenLast


def for_inference(adaptation: Adaptation) -> tuple[nn.Layer, list[str]]:
    """A copy of an adapted network that computes the same, in eval mode, and what was done to it, in words."""
    done = []
    try:
        network = adaptation.merge()
        merged = [type(m).__name__ for m in adaptation.methods if type(m).merge is not Method.merge]
        done += [f"merged {' and '.join(merged)}"] if merged else []
    except TuningError as error:  # not all of its methods merge
        if not any(method.unmergeable for method in adaptation.methods):
            done.append(f"not merged: {error}")
        network = copy.deepcopy(adaptation.network)
    folded = [fold_branch(network, path) for path, _ in adaptation.anatomy.named_blocks(network)]
    blocks = adaptation.anatomy.block_list(network)
    if any(folded):
        done.append(f"folded AdaptFormer's branch into the MLP of {sum(folded)} blocks")
    if type(network) is VisionTransformer and network.pool == "cls" and _plain(blocks[-1]):
        network.blocks[len(blocks) - 1] = ClassTokenBlock(blocks[-1])
        done.append("the last block computes the class token alone")
    for parameter in network.parameters():
        parameter.stop_gradient = True
    network.eval()
    return network, done


def fold_branch(network: nn.Layer, path: str) -> bool:
    """Put the AdaptFormer branch of the block at `path` into its MLP, in place; say whether that was possible."""
    block = find(network, path)
    branch = getattr(block, "adaptmlp", None)
    if (branch is None or branch.sequential or branch.layernorm != "none" or not isinstance(block, Block)
            or not isinstance(block.mlp, Mlp)
            or any(hooked(layer) for layer in (block.mlp, block.mlp.act, block.mlp.fc2, block.mlp.drop))):
        return False
    mlp = FoldedMlp(block)
    remove_layer(network, path, "adaptmlp")
    block.mlp, block.norm2 = mlp, nn.Identity()
    return True


class FoldedMlp(nn.Layer):
    """MLP and branch of a block, from the residual stream to what is added to it: [N, L, D] -> [N, L, D]."""

    def __init__(self, block: Block):
        super().__init__()
        branch, fc2 = block.adaptmlp, block.mlp.fc2
        scale = branch.scale if isinstance(branch.scale, float) else values(branch.scale)
        self.norm, self.fc1, self.act, self.down = block.norm2, block.mlp.fc1, block.mlp.act, branch.down_proj
        self.fc2 = _linear(np.concatenate([values(fc2.weight), scale * values(branch.up_proj.weight)]),
                           values(fc2.bias) + scale * values(branch.up_proj.bias))

    def forward(self, x):
        return self.fc2(paddle.concat([self.act(self.fc1(self.norm(x))), F.relu(self.down(x))], axis=-1))


class ClassTokenBlock(nn.Layer):
    """A block as far as its first token goes: [N, L, D] -> [N, 1, D]."""

    def __init__(self, block: Block):
        super().__init__()
        self.norm1, self.attn = block.norm1, ClassTokenAttention(block.attn)
        self.norm2, self.mlp = block.norm2, block.mlp

    def forward(self, x):
        x = x[:, :1] + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ClassTokenAttention(nn.Layer):
    """What `Attention` gives the first token: [N, L, D] -> [N, 1, D]."""

    def __init__(self, attention: Attention):
        super().__init__()
        weight = values(attention.qkv.weight)
        bias, dim = np.broadcast_to(bias_of(attention.qkv), weight.shape[1]), len(weight)
        self.num_heads, self.proj = attention.num_heads, attention.proj
        self.q = _linear(weight[:, :dim] * attention.scale, bias[:dim] * attention.scale)
        self.kv = _linear(weight[:, dim:], bias[dim:])

    def forward(self, x):
        n, tokens, dim = x.shape
        heads = [self.num_heads, dim // self.num_heads]
        q = self.q(x[:, :1]).reshape([n, 1, *heads]).transpose([0, 2, 1, 3])
        k, v = self.kv(x).reshape([n, tokens, 2, *heads]).transpose([2, 0, 3, 1, 4]).unbind(0)
        attention = F.softmax(paddle.matmul(q, k, transpose_y=True), axis=-1)
        return self.proj(paddle.matmul(attention, v).transpose([0, 2, 1, 3]).reshape([n, 1, dim]))


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(*weight.shape)
    layer.weight.set_value(weight.astype("float32"))
    layer.bias.set_value(bias.astype("float32"))
    return layer


def _plain(block: nn.Layer) -> bool:
    """Whether a block is one of ours that nothing hooks into."""
    return (type(block) in (Block, ClassTokenLast) and isinstance(block.mlp, (Mlp, FoldedMlp))
            and isinstance(block.attn, Attention)
            and not any(hooked(layer) for layer in block.sublayers(include_self=True)))
