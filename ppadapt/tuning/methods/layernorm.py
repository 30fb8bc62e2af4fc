"""LayerNorm tuning: train the weight and bias of every LayerNorm.

Basu et al., "Strong Baselines for Parameter-Efficient Few-Shot Fine-Tuning" (AAAI 2024, arXiv 2304.01917):
gamma and beta of y = gamma * (x - mean) / std + beta, nothing else.
"""
from __future__ import annotations

from paddle import nn

from ...models.anatomy import Anatomy
from ..method import Method


class LayerNormTuning(Method):
    """Every LayerNorm of the network trains. It has no options.

    Raises:
        TuningError: by `attach`, for a network without a LayerNorm.
    """

    def trains(self, network: nn.Layer, anatomy: Anatomy) -> list[str]:
        return [f"{path}.{name}" for path, layer in network.named_sublayers()
                if isinstance(layer, nn.LayerNorm) for name, _ in layer.named_parameters()]
