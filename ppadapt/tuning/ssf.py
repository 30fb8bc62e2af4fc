"""SSF: scale and shift what every operation returns.

Lian et al., "Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning" (NeurIPS 2022,
arXiv 2210.08823), equation 2, after every Linear, LayerNorm and the patch convolution:

    y = gamma * x + beta,   one gamma and one beta a channel

As in the authors' code, gamma starts at N(1, 0.02^2) and beta at N(0, 0.02^2), so attaching changes the output
a little. Equations 4 and 5 fold them into the operation before.
"""
from __future__ import annotations

from typing import Iterator

from paddle import nn

from ..models.anatomy import Anatomy, find
from .base import Method, TuningError, add_layer
from .folding import bias_of, fold_into, remove_layer, values


class SSF(Method):
    """A gamma and a beta after each operation of the network. It has no options."""

    keeps_output = False

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        for owner, operations in _operations(network, anatomy):
            layers = nn.LayerDict({name: ScaleShift(operation) for name, operation in operations.items()})
            add_layer(owner, "ssf", layers)
            for name, operation in operations.items():
                operation.register_forward_post_hook(layers[name].leave)

    def trains(self, name: str) -> bool:
        return name.startswith("ssf.") or ".ssf." in name

    def merge(self, network: nn.Layer, anatomy: Anatomy) -> None:
        """gamma W and gamma b + beta in the place of W and b."""
        for owner, operations in _operations(network, anatomy):
            for name, operation in operations.items():
                gamma, beta = values(owner.ssf[name].scale), values(owner.ssf[name].shift)
                weight = values(operation.weight)
                by_channel = gamma.reshape([-1] + [1] * (weight.ndim - 1)) if _is_conv(operation) else gamma
                fold_into(operation, weight * by_channel, bias_of(operation) * gamma + beta)
            remove_layer(owner, "ssf")


def _operations(network: nn.Layer, anatomy: Anatomy) -> Iterator[tuple[nn.Layer, dict[str, nn.Layer]]]:
    """Each layer that owns ScaleShifts, with the operations they follow."""
    blocks = anatomy.block_list(network)
    for block in blocks:
        paths = [anatomy.norm1, anatomy.branch_in,
                 *dict.fromkeys(anatomy.part(block, name).path for name in anatomy.linears)]
        yield block, {path.replace(".", "_"): find(block, path) for path in paths}
    outside = {anatomy.stem: find(network, anatomy.stem), **dict(anatomy.final_norms(network))}
    yield network, {path.replace(".", "_"): layer for path, layer in outside.items()}


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

    def forward(self, x):
        return (x * self.scale.reshape(self.shape).astype(x.dtype)
                + self.shift.reshape(self.shape).astype(x.dtype))

    def leave(self, layer, inputs, output):
        """The hook after the operation."""
        return self(output)
