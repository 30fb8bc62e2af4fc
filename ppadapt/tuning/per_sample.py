"""The same branch with other weights: those of one task, or a weight for each sample of a batch.

A branch is an `nn.Layer` that a method built. `twin` gives it weights for the length of one call and leaves the
branch as it is, so that threads share it. With `stacked`, every weight has one more axis in front, [n, ...]: sample i
of x [n, M, C] meets weight i, in one batched product. Linears, LayerNorms and convolutions below a branch do so by
themselves; a parameter of the branch's own arrives as [n, 1, C] where it was [C], else as [n, *shape]. A branch
whose `forward` computes right with such says `stacks = True`; any other runs task by task.
"""
from __future__ import annotations

from typing import Mapping, Sequence

import paddle
from paddle import nn
from paddle.nn import functional as F

from .. import paddle_compat
from ..models.heads import BatchNorm
from .frozen.layers import CheapLinear

Weights = Mapping[str, paddle.Tensor]


def stack(weights: Sequence[Weights]) -> Weights:
    """The weights of n samples, each name once: [n, 1, C] of vectors [C], [n, *shape] of others."""
    return {name: paddle.stack([one[name].unsqueeze(0) if one[name].ndim < 2 else one[name] for one in weights])
            for name in weights[0]}


def twin(layer: nn.Layer, weights: Weights, stacked: bool = False, prefix: str = "") -> nn.Layer:
    """A layer that computes as `layer` does, with `weights` in the place of its parameters and buffers."""
    classes = _STACKED if stacked else _QUICK
    below = {name: twin(child, weights, stacked, f"{prefix}{name}.") for name, child in layer.named_children()}
    own = {name[len(prefix):]: tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return paddle_compat.twin(layer, classes.get(type(layer), type(layer)), own, below)


def stackable(layer: nn.Layer) -> bool:
    """Whether a twin of it computes right with a weight for each sample."""
    if type(layer) in _STACKED or isinstance(layer, BatchNorm):
        return not isinstance(layer, nn.Conv2D) or paddle_compat.convolution(layer)[-1] == "zeros"
    own = any(True for named in (layer.named_parameters, layer.named_buffers) for _ in named(include_sublayers=False))
    return (not own or getattr(layer, "stacks", False)) and all(map(stackable, layer.children()))


def over_rows(vector: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
    """A vector in the type of x [n, M, C] and a form that meets it: one vector a sample, [n, 1, C], becomes [n, M, C]
    on a CPU, as a product with ones, which takes a tenth of the time of Paddle's own broadcast. [C] stays [C].
    """
    vector = vector.astype(x.dtype)
    if vector.ndim < 3 or x.shape[1] == 1 or not x.place.is_cpu_place():
        return vector
    return paddle.matmul(paddle.ones([vector.shape[0], x.shape[1], 1], x.dtype), vector)


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """x W + b: [n, M, I] -> [n, M, O] with W [I, O] for all samples or [n, I, O], one for each."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    y = paddle.matmul(x, weight.astype(x.dtype))
    return y if bias is None else y + over_rows(bias, y)


class _Linear(nn.Linear):
    def forward(self, x):
        return linear(x, self.weight, self.bias)


class _LayerNorm(nn.LayerNorm):
    def forward(self, x):
        x = F.layer_norm(x, paddle_compat.normalized_shape(self), None, None, paddle_compat.epsilon(self))
        x = x if self.weight is None else x * over_rows(self.weight, x)
        return x if self.bias is None else x + over_rows(self.bias, x)


class _Conv2D(nn.Conv2D):
    """[n k, C, H, W] -> [n k, O, H', W'], k images in a row a sample: one convolution in n groups."""

    def forward(self, x):
        weight, (stride, padding, dilation, groups, _) = self.weight.astype(x.dtype), paddle_compat.convolution(self)
        n, outputs = weight.shape[:2]
        images, size = x.shape[0] // n, x.shape[1:]
        x = x.reshape([n, images, *size]).transpose([1, 0, 2, 3, 4]).reshape([images, n * size[0], *size[1:]])
        y = F.conv2d(x, weight.flatten(0, 1), None if self.bias is None else self.bias.astype(x.dtype).flatten(),
                     stride, padding, dilation, n * groups)
        size = [outputs, *y.shape[2:]]
        return y.reshape([images, n, *size]).transpose([1, 0, 2, 3, 4]).reshape([n * images, *size])


# Without dropout: nothing here trains.
_STACKED = {nn.Linear: _Linear, CheapLinear: _Linear, nn.LayerNorm: _LayerNorm, nn.Conv2D: _Conv2D,
            nn.Dropout: nn.Identity}
_QUICK = {nn.Linear: CheapLinear, nn.Dropout: nn.Identity}
