"""scikit-learn's digits in the form of CIFAR's archives: for a machine that has no CIFAR and no network to fetch it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from . import archives
from .cifar import CIFAR10, CIFAR100
from .digits import Digits

# Ink and paper of the ten colours that make 100 classes of ten digits.
_COLOURS = {"red": (220, 50, 47), "orange": (230, 130, 20), "yellow": (190, 160, 0), "green": (60, 150, 60),
            "cyan": (30, 150, 160), "blue": (40, 90, 200), "violet": (120, 80, 190), "pink": (220, 90, 160),
            "brown": (130, 90, 50), "grey": (110, 110, 110)}


def stand_in(folder: Path, seed: int = 0) -> dict[str, Path]:
    """Write `cifar-10-python.tar.gz` and `cifar-100-python.tar.gz` of coloured digits, 32 x 32, in the official format.

    What the classes of CIFAR-10 are is the digit; of CIFAR-100 the digit and its colour ("red 3"). Training and test
    images are those of `Digits`. They are not CIFAR: no number that is found on them compares with one of CIFAR.

    Returns:
        The archives by their names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(_COLOURS)
    digits, paths = [str(n) for n in range(10)], {}
    drawn = {split: _draw(split, seed) for split in ("train", "test")}
    for kind in (CIFAR10, CIFAR100):
        splits = {}
        for split, (images, labels, colours) in drawn.items():
            told = {"labels": labels} if kind is CIFAR10 else {
                "fine_labels": labels * len(names) + colours, "coarse_labels": labels}
            splits[split] = images, told
        meta = {"label_names": digits} if kind is CIFAR10 else {
            "fine_label_names": [f"{colour} {digit}" for digit in digits for colour in names],
            "coarse_label_names": digits}
        paths[kind.archive] = folder / kind.archive
        archives.write(paths[kind.archive], kind, splits, meta)
    return paths


def _draw(split: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 [N, 32, 32, 3], the digits' labels and the numbers of their colours."""
    data, rng = Digits(split), np.random.default_rng((seed, split == "test"))
    colours = rng.integers(len(_COLOURS), size=len(data))
    ink = np.array(list(_COLOURS.values()), np.float32)[colours]
    images = np.empty((len(data), 32, 32, 3), np.uint8)
    for i, grey in enumerate(data.images):
        drawn = np.asarray(Image.fromarray(grey[..., 0]).resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
        paper = rng.normal(235, 8, (32, 32, 3))
        images[i] = np.clip(paper + (ink[i] - paper) * drawn[..., None], 0, 255).round()
    return images, data.labels, colours
