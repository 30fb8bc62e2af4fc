"""Losses of one label per image."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Union

import numpy as np
import paddle
from paddle.nn import functional as F

from ..ranges import Below1, Positive, Range
from .loss import Loss
from .task import TaskError

BALANCED = "balanced"


class CELoss(Loss):
    """Cross-entropy with label smoothing (`epsilon`, Szegedy et al., 2016), for plain and mixed labels.

    Args:
        weight: factor of this loss in the sum.
        epsilon: share of the target spread evenly over all classes, in [0, 1).
        class_weight: how much an image of each class counts: a number per class, {class: number} (1 for the others),
            or "balanced": images / (classes * images of the class), by the data the loss is for. The loss stays a mean
            over images, so that an image weighs the same in every batch; paddle.nn.CrossEntropyLoss divides by the
            weights in the batch instead.
    """

    def __init__(self, weight: Positive = 1.0, epsilon: Below1 = 0.0,
                 class_weight: Union[list, dict, str, None] = None):
        if not 0 <= epsilon < 1:
            raise ValueError(f"epsilon {epsilon} is not allowed: give a number in [0, 1)")
        self.weight, self.epsilon, self.class_weight = weight, epsilon, class_weight
        self.weights = None

    def prepare(self, labels: np.ndarray, classes: Sequence[str]) -> None:
        if self.class_weight is not None:
            self.weights = paddle.to_tensor(class_weights(self.class_weight, labels, classes))

    def per_image(self, logits, targets):
        loss = F.cross_entropy(logits, targets, reduction="none").reshape([-1])
        if self.epsilon:
            even = -F.log_softmax(logits, axis=-1).mean(axis=-1)
            loss = (1 - self.epsilon) * loss + self.epsilon * even
        return self._weighted(loss, targets)

    def _weighted(self, loss, targets):
        return loss if self.weights is None else loss * paddle.gather(self.weights, targets)


class FocalLoss(CELoss):
    """(1 - p)^gamma times the cross-entropy, p the probability of the right class (Lin et al., 2017, with a softmax).

    Args:
        gamma: 0 is the cross-entropy. weight, class_weight: as of CELoss; class_weight is the paper's alpha.
    """

    def __init__(self, weight: Positive = 1.0, gamma: Annotated[float, Range(0, 100)] = 2.0,
                 class_weight: Union[list, dict, str, None] = None):
        super().__init__(weight, 0.0, class_weight)
        if not gamma >= 0:
            raise ValueError(f"gamma {gamma} is not allowed: give 0 or more, such as 2.0")
        self.gamma = gamma

    def per_image(self, logits, targets):
        loss = F.cross_entropy(logits, targets, reduction="none").reshape([-1])
        wrong = (1 - paddle.exp(-loss)).clip(min=1e-12)  # a power below 1 has no gradient at 0
        return self._weighted(loss * wrong ** self.gamma, targets)


def class_weights(given: Union[list, dict, str], labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """float32 [classes] of what a config calls class_weight.

    Raises:
        TaskError: for another word, other classes, another length, and a number that is no weight.
    """
    if given == BALANCED:
        counts = np.bincount(labels, minlength=len(classes))
        empty = [classes[i] for i in np.flatnonzero(counts == 0)]
        if empty:
            raise TaskError(f"class_weight: balanced divides by the images of each class, and there is none of "
                            f"{', '.join(empty[:5])}{' ...' * (len(empty) > 5)}: give the weights as numbers")
        return (len(labels) / (len(classes) * counts)).astype("float32")
    if isinstance(given, dict):
        names = {str(name): value for name, value in given.items()}
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise TaskError(f"class_weight names {', '.join(unknown[:5])}, which is no class of the data: "
                            f"{', '.join(classes[:8])}{' ...' * (len(classes) > 8)}")
        given = [names.get(name, 1.0) for name in classes]
    if isinstance(given, str) or len(given) != len(classes):
        raise TaskError(f"class_weight is {given!r}: give {BALANCED}, a number for each of the {len(classes)} classes, "
                        "or {class: number}")
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 <= v < np.inf for v in given) \
            or not any(given):
        raise TaskError(f"class_weight is {given!r}: weights are numbers from 0, not all of them 0")
    return np.array(given, "float32")
