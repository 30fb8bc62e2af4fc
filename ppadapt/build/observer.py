"""What a run with curves looks at beside its numbers: what its branches do, and its worst mistakes."""
from __future__ import annotations

import heapq
import inspect
from typing import Any, Mapping, NamedTuple, Optional

import numpy as np
import paddle

from ..config import Config
from ..data import Dataset
from ..data.sample import look, pixels
from ..engine.curves import Observer
from ..tasks import Task
from ..tuning import Adaptation, observe

IMAGES = 16  # that the branches are looked at with
MISTAKES = 32


class Mistake(NamedTuple):
    """One image with its answer. Of equal ones the first seen is kept."""

    wrong: float
    order: int
    image: np.ndarray  # uint8 [H, W, 3]
    probabilities: np.ndarray
    target: Any


class Watching(Observer):
    """Looks at `data`, what is evaluated (or trained on, where nothing is).

    Attributes:
        mistakes: the worst of the evaluation that was last, worst first.
    """

    def __init__(self, adaptation: Adaptation, task: Task, data: Dataset, precision: Any, whole: bool,
                 most: int = IMAGES, kept: bool = False):
        """`whole`: an evaluation goes through all of `data` in its order. `most`: images that fit into a batch. `kept`:
        batches are not of pixels.
        """
        self.adaptation, self.task, self.data, self.precision, self.whole = adaptation, task, data, precision, whole
        self.most, self.kept = min(most, IMAGES), kept
        self._images: Optional[paddle.Tensor] = None
        self.begin()

    def begin(self) -> None:
        self._worst: list[tuple[float, int, Mistake]] = []
        self._count = 0

    def batch(self, images: paddle.Tensor, logits: paddle.Tensor, targets: paddle.Tensor) -> None:
        answers = self.task.probabilities(logits.astype("float32")).numpy()
        truth, first = targets.numpy(), self._count
        self._count += len(answers)
        wrong = self.task.wrongness(answers, truth)
        for i in np.argsort(-wrong, kind="stable")[:MISTAKES]:
            key = float(wrong[i]), -(first + int(i))
            if key[0] <= 0 or len(self._worst) == MISTAKES and key <= self._worst[0][:2]:
                break
            image = self._pixels(images[int(i)], first + int(i))
            if image is None:
                return
            push = heapq.heappush if len(self._worst) < MISTAKES else heapq.heapreplace
            push(self._worst, (*key, Mistake(key[0], -key[1], image, answers[i], truth[i])))

    def _pixels(self, image: paddle.Tensor, place: int) -> Optional[np.ndarray]:
        if not self.kept:
            return pixels(image.unsqueeze(0).numpy(), self.data.transform)[0]
        # Of what is kept the place tells which image it was.
        return self.data.image(place) if self.whole else None

    @property
    def mistakes(self) -> list[Mistake]:  # type: ignore[override]
        return [one for *_, one in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    def layers(self) -> Mapping[str, float]:
        found = {f"tuned-scale/{name}": value for name, value in observe.scales(self.adaptation).items()}
        if observe.branches(self.adaptation):
            images = self._sample()
            if images is not None:
                with self.precision.context():
                    norms = observe.norms_to_mlp(self.adaptation, images)
                found.update({f"tuned-vs-mlp/{name}": value for name, value in norms.items()})
        return found

    def _sample(self) -> Optional[paddle.Tensor]:
        """The same images every time."""
        if self._images is None:
            found, _ = look(self.data, range(min(self.most, len(self.data))))
            self._images = paddle.to_tensor(found) if len(found) else None
        return self._images


def settings_of(config: Config, adaptation: Adaptation, batch_size: int) -> dict[str, Any]:
    """What runs are compared by: names and numbers, each of one type in all runs.

    An option of a method that may be a number or text is a number under its name, and text under another.
    """
    optimizer, schedule = config.Optimizer, config.Optimizer.get("lr") or {}
    found: dict[str, Any] = {"method": " + ".join(type(method).__name__ for method in adaptation.methods)}
    for method in adaptation.methods:
        of = f"{type(method).__name__}." if len(adaptation.methods) > 1 else ""
        for name, value in method.options.items():
            usual = inspect.signature(type(method).__init__).parameters.get(name)
            number = isinstance(usual.default if usual else value, (int, float)) and not isinstance(value, bool)
            if number and isinstance(value, (int, float)):
                found[f"{of}{name}"] = value
            else:
                found[f"{of}{name} (text)" if number else f"{of}{name}"] = str(value)
    found.update({
        "lr": schedule.get("learning_rate"), "batch": batch_size, "epochs": config.Global.epochs,
        "trained parameters": adaptation.counts()[0], "weight decay": optimizer.get("weight_decay"),
        "seed": config.Global.seed, "optimizer": str(optimizer.get("name")), "schedule": str(schedule.get("name")),
        "network": config.Arch.name})
    return {name: value for name, value in found.items() if isinstance(value, (str, int, float))}
