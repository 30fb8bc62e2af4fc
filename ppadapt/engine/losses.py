"""Losses: logits [N, C] and labels -> a scalar."""
from __future__ import annotations

from paddle.nn import functional as F


class CELoss:
    """Cross-entropy with label smoothing (`epsilon`, Szegedy et al., 2016), for plain and mixed labels.

    Args:
        weight: factor of this loss in the sum.
        epsilon: share of the target spread evenly over all classes, in [0, 1).
    """

    def __init__(self, weight: float = 1.0, epsilon: float = 0.0):
        if not 0 <= epsilon < 1:
            raise ValueError(f"epsilon {epsilon} is not allowed: give a number in [0, 1)")
        self.weight, self.epsilon = weight, epsilon

    def __call__(self, logits, labels):
        """labels: int64 [N], or (labels_a, labels_b, share of a) as mixup and cutmix make them."""
        logits = logits.astype("float32")
        if isinstance(labels, (tuple, list)):
            a, b, share = labels
            rows = share * self._per_image(logits, a) + (1 - share) * self._per_image(logits, b)
        else:
            rows = self._per_image(logits, labels)
        return rows.mean() * self.weight

    def _per_image(self, logits, labels):
        loss = F.cross_entropy(logits, labels, reduction="none").reshape([-1])
        if not self.epsilon:
            return loss
        even = -F.log_softmax(logits, axis=-1).mean(axis=-1)
        return (1 - self.epsilon) * loss + self.epsilon * even


LOSSES = {"CELoss": CELoss}
