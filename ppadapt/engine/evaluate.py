"""One pass over labelled images."""
from __future__ import annotations

import math
from typing import Any, Callable, Iterable, Optional, Sequence

import paddle

from ..errors import UserError
from ..log import LOGGER
from .processes import ALONE, Processes
from .totals import MeanLoss


class EvaluationError(UserError):
    """An evaluation whose numbers would mean nothing."""


@paddle.no_grad()
def evaluate(network: Callable, batches: Iterable, losses: list, metrics: list, amp: Callable,
             processes: Processes = ALONE, watch: Optional[Callable] = None) -> dict[str, float]:
    """Mean loss and metrics of a network in eval mode.

    Args:
        batches: pairs of images [N, C, H, W] and targets [N, ...].
        losses, metrics: what to compute of logits and targets; the metrics keep what they saw for `details`.
        amp: makes the context that mixed precision needs.
        processes: those that have a share of the images each; the result is that of all.
        watch: called with images, logits and targets of each batch.

    Returns:
        {"loss": ..., what the metrics compute ..., "images": ...}

    Raises:
        EvaluationError: when there is no image, or a logit or loss is not finite.
    """
    total, broken = MeanLoss(), paddle.zeros([], "int64")
    for metric in metrics:
        metric.reset()
    for images, targets in batches:
        with amp():
            logits = network(images)
        broken = broken + (~paddle.isfinite(logits.astype("float32")).all(axis=-1)).astype("int64").sum()
        total.add(images.shape[0], sum(loss(logits, targets) for loss in losses))
        for metric in metrics:
            metric.update(logits, targets)
        if watch:
            watch(images, logits, targets)
    processes.combine(total, metrics)
    broken = sum(processes.gather(int(broken)))
    if not total.images:
        raise EvaluationError("the evaluation set has no image that could be read")
    result = {"loss": total.read()}
    if broken or not paddle.isfinite(total.sum):
        raise EvaluationError(
            f"the network's answer to {broken} of {total.images} images is NaN or infinite, the loss "
            f"{result['loss']}: no number of this evaluation would mean anything. The training diverged (lower "
            "Optimizer.lr.learning_rate, or Optimizer.clip_norm=1.0), float16 overflowed (AMP.dtype=bfloat16), or the "
            "weights are damaged")
    for metric in metrics:
        result.update(metric.compute())
    undefined = [name for name, value in result.items() if not math.isfinite(value)]
    if undefined:
        raise EvaluationError(f"{', '.join(undefined)} of this evaluation is NaN or infinite: a metric leaves out what "
                              "it does not define")
    return {**result, "images": total.images}


def details(metrics: list, classes: Sequence[str]) -> dict[str, Any]:
    """What the metrics of an evaluation tell beyond numbers; their rows per class become one table."""
    found: dict[str, Any] = {}
    for metric in metrics:
        more = metric.details(classes)
        rows = more.pop("per_class", [])
        table = found.setdefault("per_class", [{} for _ in classes]) if rows else []
        for row, values in zip(table, rows):
            row.update(values)
        found.update(more)
    empty = found.get("classes_without_images")
    if empty:
        LOGGER.warning("%d classes are in no test image and left out of the means: %s%s", len(empty),
                       ", ".join(empty[:8]), " ..." if len(empty) > 8 else "")
    return found


def notes(metrics: list, class_num: int) -> dict[str, str]:
    """What has to be said beside a metric's number, wherever it is shown."""
    return {name: note for metric in metrics for name, note in metric.notes(class_num).items()}
