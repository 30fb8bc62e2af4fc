"""Methods that choose parameters and add none."""
from __future__ import annotations

from paddle import nn

from ...models.anatomy import Anatomy
from ..method import Method


class LinearProbe(Method):
    """Only the head trains; the features stay those of the pretrained network."""

    def trains(self, network: nn.Layer, anatomy: Anatomy) -> list[str]:
        return [name for name, _ in network.named_parameters() if anatomy.answers(name)]


class FullFineTuning(Method):
    """Every parameter trains: the costly rival, and training from scratch."""

    def trains(self, network: nn.Layer, anatomy: Anatomy) -> list[str]:
        return [name for name, _ in network.named_parameters()]
