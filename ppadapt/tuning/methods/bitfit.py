"""BitFit: train the biases.

Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models"
(ACL 2022, arXiv 2106.10199), section 3: every b of y = W x + b and of the LayerNorms, nothing else.
"""
from __future__ import annotations

from paddle import nn

from ...models.anatomy import Anatomy
from ..adaptation import is_batch_norm
from ..method import Method


class BitFit(Method):
    """Every bias of the network trains, but those of BatchNorms: Paddle gives them no gradient while the weight
    beside them is frozen. It has no options.
    """

    def __init__(self):
        self._skipped: frozenset[str] = frozenset()

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        self._skipped = frozenset(f"{path}.bias" for path, layer in network.named_sublayers() if is_batch_norm(layer))

    def trains(self, name: str) -> bool:
        return name.endswith("bias") and name not in self._skipped  # also Swin v2's q_bias and v_bias
