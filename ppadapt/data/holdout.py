"""A held-out part of the training data: where choices are made that the test data must not see."""

from __future__ import annotations

import numpy as np

from .base import Dataset
from .errors import DataError

PART = "holdout"
_DRAW = 20220526  # one split for every seed of a comparison; the date of AdaptFormer's first version


def hold_out(dataset: Dataset, share: float, part: str) -> None:
    """Leave one part of the training data in ``dataset``, in place.

    The held-out part is drawn from all images (lists are often sorted by class), by a generator of its own:
    the same for every seed, after ``limit``.

    Args:
        share: of the images that is held out, above 0 and below 1.
        part: "train" keeps the rest, "holdout" the held-out part.

    Raises:
        DataError: for a share that is no such number, or that leaves one part empty.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise DataError(f"holdout is {share!r}: give the share of the training data to hold out, such as 0.1.")
    count = round(len(dataset) * share)
    if not 0 < count < len(dataset):
        raise DataError(f"holdout {share} of {len(dataset)} training images leaves one part empty: "
                        "take more images, or another share.")
    order = np.random.default_rng(_DRAW).permutation(len(dataset))
    dataset.select(np.sort(order[:count] if part == PART else order[count:]))
