"""One pass over labelled images."""
from __future__ import annotations

from typing import Callable, Iterable

import paddle

from .metrics import Totals


@paddle.no_grad()
def evaluate(network: Callable, batches: Iterable, losses: list, metrics: list, amp: Callable) -> dict[str, float]:
    """Mean loss and accuracies in percent of a network in eval mode.

    Args:
        batches: pairs of images [N, C, H, W] and labels [N].
        losses, metrics: what to compute of logits and labels.
        amp: makes the context that mixed precision needs.

    Returns:
        {"loss": ..., "top1": ..., "top5": ..., "images": ...}

    Raises:
        ValueError: when there is no image.
    """
    totals = Totals()
    for images, labels in batches:
        with amp():
            logits = network(images)
        n = images.shape[0]
        hits = {name: value for metric in metrics for name, value in metric(logits, labels).items()}
        totals.add(n, loss=sum(loss(logits, labels) for loss in losses) * n, **hits)
    if not totals.images:
        raise ValueError("the evaluation set has no image that could be read")
    return {**totals.read(), "images": totals.images}
