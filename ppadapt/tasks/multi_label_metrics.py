"""Measures of several labels per image, in percent where they are shares."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from paddle.nn import functional as F

from ..ranges import Probability
from .metric import Metric, dominant
from .single_label_metrics import per_class


def average_precision(scores: np.ndarray, there: np.ndarray) -> float:
    """The area below the steps of precision over recall, as scikit-learn's `average_precision_score`.

    Args:
        scores: [N]. there: [N] of 0 and 1, at least one of them 1. Equal scores are one step.
    """
    order = np.argsort(-scores, kind="stable")
    scores, there = scores[order], there[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    found = np.cumsum(there)[ends]
    return float(np.sum(np.diff(found, prepend=0) * found / (ends + 1)) / found[-1])


class MultiLabelMAP(Metric):
    """Mean over the classes of the average precision. A class that no image has is reported and left out."""

    rows: ClassVar = ("scores", "targets")

    def update(self, logits, targets) -> None:
        # Logits order images as probabilities do, without the ties where a float32 sigmoid is 1.
        self.keep(scores=logits.astype("float32"), targets=dominant(targets))

    def names(self) -> list[str]:
        return ["mAP"]

    def compute(self) -> dict[str, float]:
        found = [row for row in self._each() if row is not None]
        return {"mAP": float(np.mean(found))} if found else {}

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        images = self.kept("targets").sum(0).astype(int).tolist()
        rows = [{"class": name, "images": n, "ap": ap} for name, n, ap in zip(classes, images, self._each())]
        return {"per_class": rows, "classes_without_images": [row["class"] for row in rows if not row["images"]]}

    def _each(self) -> list:
        scores, targets = self.kept("scores"), self.kept("targets")
        return [100.0 * average_precision(scores[:, c], targets[:, c]) if targets[:, c].any() else None
                for c in range(targets.shape[1])]


class _Counts(Metric):
    """Counts of right and wrong answers per class, at a threshold."""

    def __init__(self, threshold: Probability = 0.5):
        super().__init__()
        self.threshold = threshold

    def update(self, logits, targets) -> None:
        there = dominant(targets) > 0.5
        said = F.sigmoid(logits.astype("float32")) >= self.threshold
        self.add(images=logits.shape[0], exact=(said == there).all(axis=-1).astype("int64").sum(), **{
            name: flags.astype("int64").sum(axis=0) for name, flags in (
                ("right", said & there), ("said", said), ("there", there))})

    def counts(self) -> tuple[np.ndarray, ...]:
        """(right, said, there), int64 [C] each."""
        return tuple(np.asarray(self.seen[name]) for name in ("right", "said", "there"))

    def wrong(self) -> float:
        """The share of wrong decisions, class by class and image by image."""
        right, said, there = self.counts()
        return float((said + there - 2 * right).sum() / (int(self.seen["images"]) * len(right)))


class MultiLabelF1(_Counts):
    """F1 of all decisions together (micro), and its mean over the classes that occur (macro).

    Args:
        threshold: of the probability; that of the Task when absent.
    """

    def names(self) -> list[str]:
        return ["micro_f1", "macro_f1"]

    def compute(self) -> dict[str, float]:
        right, said, there = self.counts()
        occurs = there > 0
        if not occurs.any():
            return {}
        each = 2 * right[occurs] / (said + there)[occurs]
        return {"micro_f1": 100.0 * float(2 * right.sum() / (said + there).sum()),
                "macro_f1": 100.0 * float(each.mean())}

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        right, said, there = self.counts()
        return {"per_class": per_class(right, said, there, classes), "threshold": self.threshold}


class HammingDistance(_Counts):
    """The share of wrong decisions; PaddleClas's name, from 0 to 1, lower is better."""

    def names(self) -> list[str]:
        return ["HammingDistance"]

    def compute(self) -> dict[str, float]:
        return {"HammingDistance": self.wrong()}


class AccuracyScore(_Counts):
    """The share of right decisions ("label"), or of images that are right in all ("sample"); PaddleClas's name.

    Args:
        base: "label" or "sample". threshold: of the probability; that of the Task when absent.
    """

    def __init__(self, base: str = "label", threshold: Probability = 0.5):
        super().__init__(threshold)
        if base not in ("label", "sample"):
            raise ValueError(f"base {base!r} is not allowed: give label or sample")
        self.base = base

    def names(self) -> list[str]:
        return ["AccuracyScore"]

    def compute(self) -> dict[str, float]:
        if self.base == "label":
            return {"AccuracyScore": 1 - self.wrong()}
        return {"AccuracyScore": int(self.seen["exact"]) / int(self.seen["images"])}
