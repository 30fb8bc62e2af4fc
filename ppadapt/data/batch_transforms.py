"""Mixing the images of a batch, under PaddleClas's operator names.

An operator is called as ``op(images [N, C, H, W], labels [N], rng)`` with Tensors, works where they are and returns
``(images, (labels_a, labels_b, lam))``: ``lam`` is the share of ``labels_a``. Where PaddleClas builds soft
labels here, the pair of labels stays apart, so that the loss needs no class count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

import numpy as np

from ..ranges import Count, Range
from .errors import DataError
from .options import build_op, number

if TYPE_CHECKING:
    import paddle

Mixed = tuple  # (images [N, C, H, W], (labels_a [N], labels_b [N], lam))


# Of a Beta distribution: below, nearly every share is 0 or 1, and numpy's generator comes to no end.
_ALPHA = Range(0.01, 1000)


class MixupOperator:
    """mixup (Zhang et al. 2018, arXiv:1710.09412): ``lam x + (1 - lam) x[shuffled]``.

    ``lam`` is drawn from Beta(alpha, alpha), once per batch.

    ``class_num`` is accepted as PaddleClas's files write it, and not needed.
    """

    def __init__(self, alpha: float = 1.0, class_num: Optional[Count] = None) -> None:
        self.alpha = number(alpha, "MixupOperator.alpha", _ALPHA)

    def __call__(self, images: paddle.Tensor, labels: paddle.Tensor, rng: np.random.Generator) -> Mixed:
        order = rng.permutation(len(images))
        share = float(rng.beta(self.alpha, self.alpha))
        mixed = images * share + images[order] * (1 - share)
        return mixed, (labels, labels[order], share)


class CutmixOperator:
    """CutMix (Yun et al. 2019, arXiv:1905.04899): a box of another image, a share 1 - lam before clipping.

    ``lam`` is then set to what the clipped box leaves of the first image.
    """

    def __init__(self, alpha: float = 0.2, class_num: Optional[Count] = None) -> None:
        self.alpha = number(alpha, "CutmixOperator.alpha", _ALPHA)

    def __call__(self, images: paddle.Tensor, labels: paddle.Tensor, rng: np.random.Generator) -> Mixed:
        order = rng.permutation(len(images))
        height, width = images.shape[2:]
        side = np.sqrt(1 - rng.beta(self.alpha, self.alpha))
        half_h, half_w = int(height * side) // 2, int(width * side) // 2
        y, x = int(rng.integers(height)), int(rng.integers(width))
        top, bottom = max(0, y - half_h), min(height, y + half_h)
        left, right = max(0, x - half_w), min(width, x + half_w)
        if top == bottom or left == right:  # nothing is cut out
            return images, (labels, labels[order], 1.0)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[order, :, top:bottom, left:right]
        return mixed, (labels, labels[order], 1 - (bottom - top) * (right - left) / (height * width))


class OpSampler:
    """One of several operators per batch: ``OpSampler: {MixupOperator: {alpha: 0.8, prob: 0.5}, ...}``.

    What the ``prob`` leave of 1 is the chance that the batch stays as it is.

    Raises:
        DataError: when a ``prob`` is missing, or they add up to more than 1.
    """

    def __init__(self, class_num: Optional[Count] = None, **ops: dict) -> None:
        self.ops, self.limits, total = [], [], 0.0
        single = {name: op for name, op in BATCH_TRANSFORMS.items() if op is not OpSampler}
        for name, options in ops.items():
            if not isinstance(options, dict) or "prob" not in options:
                raise DataError(f"OpSampler.{name} needs prob: the chance of the operator, 0 to 1.")
            chance = number(options["prob"], f"OpSampler.{name}.prob")
            total += chance
            if chance < 0 or total > 1 + 1e-9:
                raise DataError(f"OpSampler: the prob add up to {total:g} at {name}: "
                                "make them 0 or more and at most 1 together.")
            rest = {key: value for key, value in options.items() if key != "prob"}
            self.ops.append(build_op({name: rest}, single, "OpSampler's operator"))
            self.limits.append(total)
        if not self.ops:
            raise DataError(f"OpSampler has no operator: give it some of {', '.join(single)}.")

    def __call__(self, images: paddle.Tensor, labels: paddle.Tensor, rng: np.random.Generator) -> Mixed:
        draw = rng.random()
        for op, limit in zip(self.ops, self.limits):
            if draw < limit:
                return op(images, labels, rng)
        return images, (labels, labels, 1.0)


BATCH_TRANSFORMS: dict[str, type] = {op.__name__: op for op in (MixupOperator, CutmixOperator, OpSampler)}


def build_batch_transforms(ops: Sequence[dict] | None) -> list:
    """The operators of ``batch_transform_ops``, checked: at most one, since each mixes pairs of labels.

    Raises:
        DataError: for an unknown name or option, or for several operators.
    """
    if ops is not None and not isinstance(ops, (list, tuple)):
        raise DataError(f"batch_transform_ops is {ops!r}: give a list of '- Name: {{option: value}}'.")
    built = [build_op(entry, BATCH_TRANSFORMS, "Batch transform") for entry in ops or ()]
    if len(built) > 1:
        raise DataError(f"batch_transform_ops has {len(built)} operators and takes one: "
                        "put them into an OpSampler, each with its prob.")
    return built
