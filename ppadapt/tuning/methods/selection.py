"""Methods that choose parameters and add none."""
from __future__ import annotations

from paddle import nn

from ...models.anatomy import Anatomy
from ..method import Method


class LinearProbe(Method):
    """Only the head trains; the features stay those of the pretrained network."""

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        pass

    def trains(self, name: str) -> bool:
        return False


class FullFineTuning(Method):
    """Every parameter trains: the costly rival, and training from scratch."""

    def attach(self, network: nn.Layer, anatomy: Anatomy) -> None:
        pass

    def trains(self, name: str) -> bool:
        return True
