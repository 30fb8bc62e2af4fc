"""Measures of one label per image."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Optional

import numpy as np
import paddle

from .metric import Metric, dominant, packed


class TopkAcc(Metric):
    """Top-k accuracy in percent, for each k (a k above the number of classes counts every image).

    Args:
        topk: the values of k, e.g. [1, 5].
    """

    def __init__(self, topk: Optional[list] = None):
        super().__init__()
        self.topk = [1, 5] if topk is None else list(topk)
        if not self.topk or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in self.topk):
            raise ValueError(f"topk {self.topk} is not allowed: give whole numbers from 1, such as [1, 5]")

    def update(self, logits, targets) -> None:
        labels = dominant(targets)
        most = min(max(self.topk), logits.shape[-1])
        ranked = paddle.topk(logits, most, axis=-1)[1] == labels.reshape([-1, 1])
        self.add(images=logits.shape[0], **{f"top{k}": ranked[:, :k].astype("float32").sum() for k in self.topk})

    def names(self) -> list[str]:
        return [f"top{k}" for k in self.topk]

    def compute(self) -> dict[str, float]:
        return {f"top{k}": 100.0 * float(self.seen[f"top{k}"]) / int(self.seen["images"]) for k in self.topk}

    def notes(self, class_num: int) -> dict[str, str]:
        return {f"top{k}": f"of {class_num} classes" for k in self.topk if k >= class_num}


class ConfusionMatrix(Metric):
    """Which class was answered for which; recall, precision and F1 of each class, in percent."""

    rows: ClassVar = ("answers", "labels")

    def update(self, logits, targets) -> None:
        self.keep(answers=logits.argmax(axis=-1), labels=dominant(targets))

    def names(self) -> list[str]:
        return []

    def compute(self) -> dict[str, float]:
        return {}

    def details(self, classes: Sequence[str]) -> dict[str, Any]:
        """`confusion`: rows are the right classes, columns the answers, in the order of `classes`; `right`: each image.

        A share without a denominator (no image of a class, no answer) is None and left out of the means.
        """
        count = len(classes)
        labels, answers = (self.kept(name).astype(np.int64) for name in ("labels", "answers"))
        pairs = labels * count + answers
        matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)
        return {"per_class": per_class(np.diag(matrix), matrix.sum(0), matrix.sum(1), classes),
                "confusion": matrix.tolist(), "right": packed(answers == labels)}


def per_class(right: np.ndarray, answered: np.ndarray, images: np.ndarray, classes: Sequence[str]) -> list[dict]:
    """A row for each class with its counts and shares in percent.

    Args:
        right: [C], images of a class for which it was answered. answered, images: [C], all of its answers and images.
    """
    rows = []
    for name, hit, said, there in zip(classes, right.tolist(), answered.tolist(), images.tolist()):
        rows.append({"class": name, "images": there, "recall": share(hit, there), "precision": share(hit, said),
                     "f1": share(2 * hit, said + there) if there else None})
    return rows


def share(part: float, whole: float) -> Optional[float]:
    """In percent; None of nothing."""
    return 100.0 * part / whole if whole else None
