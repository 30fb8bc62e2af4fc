"""The loss of a pass over images, kept on the device until it is read."""
from __future__ import annotations

import paddle


class MeanLoss:
    """The mean loss over images; reading it is the only time the host waits for the device."""

    def __init__(self):
        self.sum, self.images = None, 0

    def add(self, images: int, loss: paddle.Tensor) -> None:
        """Add the mean loss of a batch of `images`."""
        value = (loss * images).detach().astype("float32")
        self.sum = value if self.sum is None else self.sum + value
        self.images += images

    def read(self) -> float:
        """The mean so far."""
        return float(self.sum) / self.images
