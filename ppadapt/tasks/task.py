"""The contract of a task kind: all that the rest of the package asks about what is asked of a sample."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import paddle

from ..errors import UserError
from .metric import Metric


class TaskError(UserError):
    """Data, losses or answers that are not of the kind that the task asks for."""


class Task:
    """One kind of question. A subclass says what differs; its constructor takes the options of the config's `Task`.

    The network has one output per name in `classes`. A target is a row of the data set's `labels`, whatever its
    shape; N targets are one array [N, ...] (`collate`).

    Attributes:
        losses, metrics: name -> class (or function), what the config's `Loss` and `Metric` may name.
        default_losses, default_metrics: what they hold where the config says nothing, in PaddleClas's form.
        headline: key of a result -> its heading in a table. The first is what methods are compared by.
        axis: what the first is called on the axis of a picture.
        output: what an exported network answers, in words.
        options: the constructor's, as plain data.
    """

    losses: Mapping[str, Callable]
    metrics: Mapping[str, Callable]
    default_losses: ClassVar[list]
    default_metrics: ClassVar[list]
    headline: ClassVar[dict[str, str]]
    axis: ClassVar[str]
    output: ClassVar[str]
    options: Mapping[str, Any] = {}

    def manifest(self) -> dict[str, Any]:
        """What the tuned file and the export say of the task: its kind and options."""
        return {"kind": type(self).__name__, **self.options}

    @property
    def main(self) -> str:
        """The key of a result that methods are compared by."""
        return next(iter(self.headline))

    # Data

    def check(self, labels: np.ndarray, classes: Sequence[str], where: str) -> None:
        """Raises TaskError, with the way out, for the labels [N, ...] of a data set that are of another kind."""
        raise NotImplementedError

    def collate(self, targets: Sequence) -> np.ndarray:
        """Targets of a batch as one array [N, ...], which becomes a Tensor of the same type."""
        return np.stack([np.asarray(target) for target in targets])

    def groups(self, labels: np.ndarray) -> np.ndarray:
        """int64 [N]: the class that each image is drawn for where classes are to come equally often.

        Raises:
            TaskError: where an image has no single class.
        """
        raise TaskError(f"Task {type(self).__name__} has no single class per image to balance by: use "
                        "sampler.name: DistributedBatchSampler")

    # Evaluation

    def reports(self) -> list[Metric]:
        """Metrics of every evaluation beside those of the config: they give details rather than numbers."""
        return []

    def score(self, result: Mapping[str, Any]) -> float:
        """What the best model is chosen by, of a result of `evaluate`: higher is better."""
        raise NotImplementedError

    # Answers

    def probabilities(self, logits: paddle.Tensor) -> paddle.Tensor:
        """What is answered: logits float32 [N, C] -> [N, C]. Also traced into the exported network."""
        raise NotImplementedError

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """The inverse of `probabilities` up to what no loss or metric sees, for answers that come from an export."""
        raise NotImplementedError

    def difference(self, found: np.ndarray, expected: np.ndarray) -> float:
        """How far an export's answers [N, C] are from dygraph's, in what `measure` names."""
        return float(np.abs(found - expected).max())

    measure: ClassVar[str] = "an answer"

    def answer(self, probabilities: np.ndarray, classes: Sequence[str], topk: int) -> list[dict]:
        """One image's answer, of its probabilities [C]: a list of plain dicts with the same keys, best first."""
        raise NotImplementedError

    def text(self, answer: Sequence[Mapping]) -> str:
        """An answer in a line, for people."""
        raise NotImplementedError

    def caption(self, probabilities: np.ndarray, target: Any, classes: Sequence[str]) -> tuple[str, bool]:
        """What a picture says below an image: the answer, what was right, and whether the answer is."""
        raise NotImplementedError

    def wrongness(self, probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """How wrong each of N answers [N, C] is, 0 where it is right. By it those mistakes are chosen that are shown,
        with their `caption`; none is where a task leaves it at 0.
        """
        return np.zeros(len(probabilities), np.float32)

    def post_process(self, classes: Sequence[str], topk: int) -> dict[str, dict]:
        """How a server turns the output into an answer, in PaddleClas's form: one operator with its `label_list`."""
        return {type(self).__name__: {"label_list": list(classes)}}
