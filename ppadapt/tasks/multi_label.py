"""Several labels per image: a sigmoid per class, binary cross-entropy, mean average precision."""
from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import paddle
from paddle.nn import functional as F

from ..ranges import Probability
from .multi_label_losses import MultiLabelAsymmetricLoss, MultiLabelLoss
from .multi_label_metrics import AccuracyScore, HammingDistance, MultiLabelF1, MultiLabelMAP
from .task import Task, TaskError

LEAST = 1e-30  # of a probability whose logarithm is taken


class MultiLabel(Task):
    """Any number of classes is in an image: labels float32 [N, C] of 0 and 1; each class is asked for on its own.

    Args:
        threshold: the probability from which on a class counts as answered.
    """

    losses: Mapping = {"MultiLabelLoss": MultiLabelLoss, "MultiLabelAsymmetricLoss": MultiLabelAsymmetricLoss}
    metrics: Mapping = {kind.__name__: kind for kind in (MultiLabelMAP, MultiLabelF1, HammingDistance, AccuracyScore)}
    default_losses: ClassVar = [{"MultiLabelLoss": {"weight": 1.0}}]
    default_metrics: ClassVar = [{"MultiLabelMAP": {}}, {"MultiLabelF1": {}}]
    headline: ClassVar = {"mAP": "mAP", "micro_f1": "micro F1", "macro_f1": "macro F1"}
    axis, output, measure = "mAP (%)", "independent probabilities", "a log-probability"

    def __init__(self, threshold: Probability = 0.5):
        if isinstance(threshold, bool) or not 0 < threshold < 1:
            raise TaskError(f"Task.threshold {threshold} is not allowed: give a probability between 0 and 1, such as "
                            "0.5")
        self.threshold = threshold
        self.options = {"threshold": threshold}
        self.metrics = {name: kind if kind is MultiLabelMAP else functools.partial(kind, threshold=threshold)
                        for name, kind in self.metrics.items()}

    def check(self, labels: np.ndarray, classes: Sequence[str], where: str) -> None:
        if labels.ndim != 2 or labels.shape[1] != len(classes):
            kind = ("one label per image: set Task.name: SingleLabel" if labels.ndim == 1 else
                    f"labels of shape {list(labels.shape)} for {len(classes)} classes: choose the Task that fits")
            raise TaskError(f"Task MultiLabel takes a 0 or 1 for each class, and {where} has {kind}, or use another "
                            "data set (MultiLabelDataset, NUSWIDE)")
        wrong = np.flatnonzero(((labels != 0) & (labels != 1)).any(axis=1))
        if len(wrong):
            raise TaskError(f"Task MultiLabel takes a 0 or 1 for each class, and {where} has "
                            f"{labels[wrong[0]].tolist()} for image {wrong[0]}: correct its list of labels")

    def collate(self, targets: Sequence) -> np.ndarray:
        return np.asarray(targets, np.float32)

    def score(self, result: Mapping[str, Any]) -> float:
        """The mAP, or the loss where there is none."""
        found = result.get("mAP")
        return -result["loss"] if found is None else found

    def probabilities(self, logits: paddle.Tensor) -> paddle.Tensor:
        return F.sigmoid(logits)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        p = np.clip(probabilities.astype(np.float64), LEAST, 1 - np.finfo(np.float64).eps)
        return (np.log(p) - np.log1p(-p)).astype(np.float32)

    def difference(self, found: np.ndarray, expected: np.ndarray) -> float:
        return float(np.abs(np.log(np.maximum(found, LEAST)) - np.log(np.maximum(expected, LEAST))).max())

    def answer(self, probabilities: np.ndarray, classes: Sequence[str], topk: int) -> list[dict]:
        """All classes from the threshold on, whatever `topk` is; none is an answer too."""
        likeliest = probabilities.argsort(kind="stable")[::-1]
        return [{"class": classes[i], "id": int(i), "probability": float(probabilities[i])}
                for i in likeliest if probabilities[i] >= self.threshold]

    def text(self, answer: Sequence[Mapping]) -> str:
        return (", ".join(f"{p['class']} {p['probability']:.2%}" for p in answer)
                or f"no class reaches {self.threshold:.2%}")

    def caption(self, probabilities: np.ndarray, target: Any, classes: Sequence[str]) -> tuple[str, bool]:
        said, there = probabilities >= self.threshold, np.asarray(target) > 0
        names = [[name for name, has in zip(classes, flags) if has] or ["nothing"] for flags in (said, there)]
        right = bool((said == there).all())
        return ", ".join(names[0]) + ("" if right else f"\nis {', '.join(names[1])}"), right

    def wrongness(self, probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """How far the probabilities of the classes that are wrong are from what is right, added up."""
        return (np.abs(probabilities - targets) * ((probabilities >= self.threshold) != (targets > 0))).sum(axis=1)

    def post_process(self, classes: Sequence[str], topk: int) -> dict[str, dict]:
        return {"MultiLabelThreshOutput": {"threshold": self.threshold, "label_list": list(classes)}}
