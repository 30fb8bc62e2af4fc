"""Losses of several labels per image, under PaddleClas's names and with its numbers (ppcls/loss/multilabelloss.py)."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Optional

import numpy as np
import paddle
from paddle.nn import functional as F

from ..ranges import Below1, Positive, Range, Share
from .loss import Loss

_Power = Annotated[float, Range(0, 100)]


class MultiLabelLoss(Loss):
    """Binary cross-entropy of each class.

    Args:
        weight: factor of this loss in the sum.
        epsilon: label smoothing, (1 - epsilon) target + epsilon / C; null is none. (PaddleClas takes what is not
            between 0 and 1 for none, too.)
        size_sum: sum over the classes instead of their mean.
        weight_ratio: weight a class's positives by exp(1 - r) and its negatives by exp(r), where r is the share of
            images that have it in the data the loss is for (Li et al., 2015, for pedestrian attributes).
    """

    def __init__(self, weight: Positive = 1.0, epsilon: Optional[Below1] = None, size_sum: bool = False,
                 weight_ratio: bool = False):
        self.weight, self.size_sum, self.weight_ratio = weight, size_sum, weight_ratio
        self.epsilon = epsilon or 0.0
        self.ratio = None

    def prepare(self, labels: np.ndarray, classes: Sequence[str]) -> None:
        if self.weight_ratio:
            self.ratio = paddle.to_tensor(labels.mean(0).astype("float32"))

    def per_image(self, logits, targets):
        smooth = (1 - self.epsilon) * targets + self.epsilon / logits.shape[-1] if self.epsilon else targets
        cost = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        if self.ratio is not None:
            positive = (smooth > 0.5).astype("float32")
            cost = cost * paddle.exp(positive * (1 - self.ratio) + (1 - positive) * self.ratio)
        return cost.sum(axis=-1) if self.size_sum else cost.mean(axis=-1)


class MultiLabelAsymmetricLoss(Loss):
    """Focal loss whose negatives are pushed down harder and let go below `clip` (Ben-Baruch et al., 2021).

    Args:
        weight: factor of this loss in the sum.
        gamma_pos, gamma_neg: powers of 1 - p for positives and negatives.
        clip: added to the probability that a class is not there, at most 1.
        epsilon: the least probability whose logarithm is taken.
        disable_focal_loss_grad: no gradient through the powers.
        reduction: "sum" over classes and images, as PaddleClas has it, or "mean" over both.
    """

    def __init__(self, weight: Positive = 1.0, gamma_pos: _Power = 1, gamma_neg: _Power = 4,
                 clip: Optional[Share] = 0.05, epsilon: Annotated[float, Range(0, 0.5, above=True)] = 1e-8,
                 disable_focal_loss_grad: bool = True, reduction: str = "sum"):
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction {reduction!r} is not allowed: give sum or mean")
        self.weight, self.gamma_pos, self.gamma_neg, self.clip = weight, gamma_pos, gamma_neg, clip or 0.0
        self.epsilon, self.disable_focal_loss_grad, self.reduction = epsilon, disable_focal_loss_grad, reduction

    def per_image(self, logits, targets):
        p = F.sigmoid(logits)
        right = (1 - p + self.clip).clip(max=1) * (1 - targets) + p * targets
        wrong = 1 - (right.detach() if self.disable_focal_loss_grad else right)
        focus = wrong ** (self.gamma_pos * targets + self.gamma_neg * (1 - targets))
        cost = -paddle.log(right.clip(min=self.epsilon)) * focus
        return cost.mean(axis=-1) if self.reduction == "mean" else cost.sum(axis=-1)

    def reduce(self, rows):
        return rows.mean() if self.reduction == "mean" else rows.sum()
