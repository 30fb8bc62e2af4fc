"""SSF: scale and shift what every operation returns.

Lian et al., "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning" (NeurIPS 2022,
arXiv 2210.08823), equation 2, after every Linear, LayerNorm and the patch convolution:

    y = gamma * x + beta,   one gamma and one beta a channel

As in the authors' code, gamma starts at N(1, 0.02^2) and beta at N(0, 0.02^2), so attaching changes the output
a little. Equations 4 and 5 fold them into the operation before.
"""
from __future__ import annotations

from typing import Iterator

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from ...models.anatomy import Anatomy, find
from ..folding import bias_of, fold_into, values
from ..frozen.layers import quick_on_cpu, wants_gradient
from ..method import Added, Method, TuningError
from ..per_sample import over_rows
from ..slots import After


class SSF(Method):
    """A gamma and a beta after each operation of the network. It has no options."""

    keeps_output = False
    token_by_token = True

    def adds(self, network: nn.Layer, anatomy: Anatomy) -> Iterator[Added]:
        for owner, paths in _operations(network, anatomy):
            layers = nn.LayerDict({path.replace(".", "_"): ScaleShift(find(network, _join(owner, path)))
                                   for path in paths})
            yield Added(owner, "ssf", layers, [(After(_join(owner, path), replaces=True), layer)
                                               for path, layer in zip(paths, layers.values())])

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """gamma W and gamma b + beta in the place of W and b."""
        for owner, paths in _operations(network, anatomy):
            layers = find(network, _join(owner, "ssf")).values()
            for operation, layer in zip((find(network, _join(owner, path)) for path in paths), layers):
                gamma, beta = values(layer.scale), values(layer.shift)
                weight = values(operation.weight)
                by_channel = gamma.reshape([-1] + [1] * (weight.ndim - 1)) if _is_conv(operation) else gamma
                fold_into(operation, weight * by_channel, bias_of(operation) * gamma + beta)


def _operations(network: nn.Layer, anatomy: Anatomy) -> Iterator[tuple[str, list[str]]]:
    """The path of each layer that owns ScaleShifts, with the paths in it of the operations they follow."""
    for path, block in anatomy.named_blocks(network):
        yield path, [anatomy.norm1, anatomy.branch_in,
                     *dict.fromkeys(anatomy.part(block, name).path for name in anatomy.linears)]
    yield "", [anatomy.stem, *(path for path, _ in anatomy.final_norms(network))]


def _join(owner: str, path: str) -> str:
    return f"{owner}.{path}" if owner else path


def _is_conv(layer: nn.Layer) -> bool:
    return isinstance(layer, (nn.Conv2D, nn.Conv3D))


class ScaleShift(nn.Layer):
    """gamma * x + beta over the channels of what `operation` returns: the last axis, or axis 1 of a convolution's."""

    def __init__(self, operation: nn.Layer):
        super().__init__()
        if not (_is_conv(operation) or isinstance(operation, (nn.Linear, nn.LayerNorm))):
            raise TuningError(f"SSF follows Linear, LayerNorm and convolutions, and a {type(operation).__name__} is "
                              "none of them: this network is not supported")
        conv = _is_conv(operation)
        channels = operation.weight.shape[0 if conv else -1]
        self.shape = [channels] + [1] * (operation.weight.ndim - 2 if conv else 0)
        self.scale = self.create_parameter([channels], default_initializer=nn.initializer.Normal(1.0, 0.02))
        self.shift = self.create_parameter([channels], default_initializer=nn.initializer.Normal(0.0, 0.02))

    @property
    def stacks(self) -> bool:
        """Whether scale and shift may be [n, 1, C], a pair for each sample."""
        return len(self.shape) == 1

    def forward(self, x):
        pair = self.scale, self.shift
        if self.scale.ndim == 3:
            return x * over_rows(self.scale, x) + over_rows(self.shift, x)
        if len(self.shape) == 1 and wants_gradient(x, *pair) and quick_on_cpu(x, *pair):
            return _ScaleShift.apply(x, *pair)
        return (x * self.scale.reshape(self.shape).astype(x.dtype)
                + self.shift.reshape(self.shape).astype(x.dtype))


class _ScaleShift(PyLayer):
    """gamma * x + beta over the last axis, for a CPU, where Paddle's sums over rows take five times as long as this.

    Sums and broadcasts are matrix products with ones.
    """

    @staticmethod
    def forward(ctx, x, scale, shift):
        ctx.save_for_backward(x, scale)
        ctx.wants_input = not x.stop_gradient
        ones, rows = _ones(x)
        scaled = paddle.matmul(ones, scale.unsqueeze(0)).multiply_(rows)
        return paddle.addmm(scaled, ones, shift.unsqueeze(0)).reshape(x.shape)

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensor()
        ones, rows = _ones(grad)
        grad_shift = paddle.matmul(ones, rows, transpose_x=True).squeeze(0)
        grad_scale = paddle.matmul(ones, rows * x.reshape(rows.shape), transpose_x=True).squeeze(0)
        grad_x = None
        if ctx.wants_input:
            grad_x = paddle.matmul(ones, scale.unsqueeze(0)).multiply_(rows).reshape(x.shape)
        return grad_x, grad_scale, grad_shift


def _ones(x):
    """A column of ones, a row for each of x's: ([R, 1], x as [R, C])."""
    rows = x.reshape([-1, x.shape[-1]])
    return paddle.ones([rows.shape[0], 1], x.dtype), rows
