"""An epoch that shows every class equally often, however rare its images are."""

from __future__ import annotations

import numpy as np


def balanced(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many indices as there are images, the classes' shares differing by one at most, in random order.

    The images of a class come in random order, each before any comes again; those of a class with more images than
    its share are other ones in the next epoch.

    Args:
        groups: int64 [N], the class of each image; classes without an image have no share.
    """
    kinds = rng.permutation(np.unique(groups))
    shares = np.full(len(kinds), len(groups) // len(kinds))
    shares[:len(groups) % len(kinds)] += 1
    drawn = []
    for kind, share in zip(kinds, shares):
        images = np.flatnonzero(groups == kind)
        rounds = [rng.permutation(images) for _ in range(-(-share // len(images)))]
        drawn.append(np.concatenate(rounds)[:share] if rounds else images[:0])
    return rng.permutation(np.concatenate(drawn))
