"""One label per image: softmax, cross-entropy, top-k."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import paddle
from paddle.nn import functional as F

from .single_label_losses import CELoss, FocalLoss
from .single_label_metrics import ConfusionMatrix, TopkAcc
from .task import Task, TaskError

LEAST = 1e-30  # of a probability whose logarithm is taken


class SingleLabel(Task):
    """Each image is of one class: labels int64 [N]; the probabilities of an answer add up to 1."""

    losses: Mapping = {"CELoss": CELoss, "FocalLoss": FocalLoss}
    metrics: Mapping = {"TopkAcc": TopkAcc}
    default_losses: ClassVar = [{"CELoss": {"weight": 1.0}}]
    default_metrics: ClassVar = [{"TopkAcc": {"topk": [1, 5]}}]
    headline: ClassVar = {"top1": "top-1", "top5": "top-5"}
    axis, output, measure = "top-1 accuracy (%)", "probabilities", "a log-probability"

    def check(self, labels: np.ndarray, classes: Sequence[str], where: str) -> None:
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            kind = (f"several labels per image ({len(classes)} classes): set Task.name: MultiLabel" if labels.ndim == 2
                    else f"labels of type {labels.dtype} and shape {list(labels.shape)}: choose the Task that fits")
            raise TaskError(f"Task SingleLabel takes one label per image, and {where} has {kind}, or use another data "
                            "set")

    def collate(self, targets: Sequence) -> np.ndarray:
        return np.asarray(targets, np.int64)

    def groups(self, labels: np.ndarray) -> np.ndarray:
        return labels

    def reports(self) -> list:
        return [ConfusionMatrix()]

    def score(self, result: Mapping[str, Any]) -> float:
        """Top-1, or the loss where there is no top-1."""
        top1 = result.get("top1")
        return -result["loss"] if top1 is None else top1

    def probabilities(self, logits: paddle.Tensor) -> paddle.Tensor:
        return F.softmax(logits, axis=-1)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(probabilities, np.float32(LEAST)))

    def difference(self, found: np.ndarray, expected: np.ndarray) -> float:
        return float(np.abs(self.logits(found) - self.logits(expected)).max())

    def answer(self, probabilities: np.ndarray, classes: Sequence[str], topk: int) -> list[dict]:
        best = probabilities.argsort()[::-1][:topk]
        return [{"class": classes[i], "id": int(i), "probability": float(probabilities[i])} for i in best]

    def text(self, answer: Sequence[Mapping]) -> str:
        return ", ".join(f"{p['class']} {p['probability']:.2%}" for p in answer)

    def caption(self, probabilities: np.ndarray, target: Any, classes: Sequence[str]) -> tuple[str, bool]:
        best = int(probabilities.argmax())
        said = classes[best] if best == target else f"{classes[best]}, is {classes[target]}"
        return f"{said}\n{probabilities[best]:.0%}", best == target

    def wrongness(self, probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The probability of the wrong answer."""
        return probabilities.max(axis=1) * (probabilities.argmax(axis=1) != targets)

    def post_process(self, classes: Sequence[str], topk: int) -> dict[str, dict]:
        return {"Topk": {"topk": min(topk, len(classes)), "label_list": list(classes)}}
