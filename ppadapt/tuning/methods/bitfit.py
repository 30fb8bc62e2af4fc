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

    def trains(self, network: nn.Layer, anatomy: Anatomy) -> list[str]:
        skipped = {f"{path}.bias" for path, layer in network.named_sublayers() if is_batch_norm(layer)}
        return [name for name, _ in network.named_parameters()
                if name.endswith("bias") and name not in skipped]  # also Swin v2's q_bias and v_bias
