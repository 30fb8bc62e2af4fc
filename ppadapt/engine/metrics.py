"""Counts over batches, kept on the device until they are read."""
from __future__ import annotations

from typing import Optional

import paddle


class TopkAcc:
    """Top-k accuracy in percent, for each k (a k above the number of classes counts every image).

    Args:
        topk: the values of k, e.g. [1, 5].
    """

    def __init__(self, topk: Optional[list] = None):
        self.topk = [1, 5] if topk is None else list(topk)
        if not self.topk or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in self.topk):
            raise ValueError(f"topk {self.topk} is not allowed: give whole numbers from 1, such as [1, 5]")

    def __call__(self, logits, labels) -> dict[str, paddle.Tensor]:
        """Hits in a batch: logits [N, C], labels int64 [N] or (a, b, share of a) -> {"top1": scalar}."""
        if isinstance(labels, (tuple, list)):
            labels = labels[0] if labels[2] >= 0.5 else labels[1]
        most = min(max(self.topk), logits.shape[-1])
        ranked = paddle.topk(logits, most, axis=-1)[1] == labels.reshape([-1, 1])
        return {f"top{k}": ranked[:, :k].astype("float32").sum() for k in self.topk}


METRICS = {"TopkAcc": TopkAcc}


class Totals:
    """Sums of named values weighted by images; reading it is the only time the host waits for the device."""

    def __init__(self):
        self.sums, self.images = {}, 0

    def add(self, images: int, **sums: paddle.Tensor) -> None:
        """Add what a batch of `images` summed up to."""
        self.images += images
        for name, value in sums.items():
            value = value.detach().astype("float32")
            self.sums[name] = value if name not in self.sums else self.sums[name] + value

    def read(self) -> dict[str, float]:
        """Means: the loss as it is, accuracies in percent."""
        scale = {name: 1.0 if name == "loss" else 100.0 for name in self.sums}
        return {name: scale[name] * float(value) / max(self.images, 1) for name, value in self.sums.items()}
