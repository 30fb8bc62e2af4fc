"""What a loss is: a number per image, then their mean."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle


class Loss:
    """logits [N, C] and targets -> a scalar: the mean over the images, times `weight`.

    Each image counts alike whatever its batch, so that batches may be accumulated and evaluations be of any batch size.
    """

    weight: float = 1.0

    def per_image(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        """[N] of logits float32 [N, C] and targets [N, ...]."""
        raise NotImplementedError

    def reduce(self, rows: paddle.Tensor) -> paddle.Tensor:
        """[N] -> a scalar."""
        return rows.mean()

    def prepare(self, labels: np.ndarray, classes: Sequence[str]) -> None:
        """Take what the loss needs to know of the data it is for: all labels [N, ...] and the names of the classes."""

    def __call__(self, logits: paddle.Tensor, targets: Any) -> paddle.Tensor:
        """targets [N, ...], or (targets_a, targets_b, share of a) as mixup and cutmix make them."""
        logits = logits.astype("float32")
        if isinstance(targets, (tuple, list)):
            a, b, share = targets
            rows = share * self.per_image(logits, a) + (1 - share) * self.per_image(logits, b)
        else:
            rows = self.per_image(logits, targets)
        return self.reduce(rows) * self.weight
