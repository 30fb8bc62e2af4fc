"""LayerNorm tuning: train the weight and bias of every LayerNorm.

Basu et al., "Strong Baselines for Parameter-Efficient Few-Shot Fine-Tuning" (AAAI 2024, arXiv 2304.01917):
gamma and beta of y = gamma * (x - mean) / std + beta, nothing else.
"""
from __future__ import annotations

from paddle import nn

from ...models.anatomy import Anatomy
from ..method import Method, TuningError


class LayerNormTuning(Method):
    """Every LayerNorm of the network trains. It has no options.

    Raises:
        TuningError: by `attach`, for a network without a LayerNorm.
    """

    def __init__(self):
        self._names: frozenset[str] = frozenset()

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        self._names = frozenset(f"{path}.{name}" for path, layer in network.named_sublayers()
                                if isinstance(layer, nn.LayerNorm) for name, _ in layer.named_parameters())
        if not self._names:
            raise TuningError(f"{type(network).__name__} has no LayerNorm for LayerNormTuning to train")

    def trains(self, name: str) -> bool:
        return name in self._names
