"""BitFit: train the biases.

Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models"
(ACL 2022, arXiv 2106.10199), section 3: every b of y = W x + b and of the LayerNorms, nothing else.
"""
from __future__ import annotations

from paddle import nn

from ..models.anatomy import Anatomy
from .base import Method


class BitFit(Method):
    """Every bias of the network trains. It has no options."""

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        pass

    def trains(self, name: str) -> bool:
        return name.endswith("bias")  # also the q_bias and v_bias of BEiT and its kin
