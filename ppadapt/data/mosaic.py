"""2 x 2 mosaics of CIFAR-10's images: a small data set of several labels per image, made of real ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from .cifar import CIFAR10
from .errors import DataError


def make_mosaics(root: str | os.PathLike | None, folder: Path, counts: dict[str, int], seed: int = 0,
                 download: bool = True) -> dict[str, np.ndarray]:
    """Write mosaics of 64 x 64 pixels as PNG, with lists for ``MultiLabelDataset``.

    The four images of a mosaic are drawn at random, each image of the split at most once before all had their turn; its
    labels are the classes that are in it. Training mosaics are made of training images alone, test ones of test images.

    Args:
        root, download: as of ``CIFAR10``.
        folder: gets ``train/``, ``test/``, ``multilabel_train_list.txt``, ``multilabel_test_list.txt`` and
            ``classes.txt``; it must be new or empty.
        counts: mosaics of each split, {"train": 2000, "test": 500}.
        seed: the same seed and archive make the same files.

    Returns:
        By split, labels float32 [mosaics, 10].

    Raises:
        DataError: for a folder that holds something, counts below 1, and what is wrong with the archive.
    """
    if any(count < 1 for count in counts.values()):
        raise DataError(f"mosaics {counts}: give 1 or more of each.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists already and is not empty: give another folder.")
    made = {}
    for number, (split, count) in enumerate(counts.items()):
        data = CIFAR10(split, root=root, download=download)
        rng = np.random.default_rng((seed, number))
        rounds = [rng.permutation(len(data)) for _ in range(-(-4 * count // len(data)))]
        four = np.concatenate(rounds)[:4 * count].reshape(count, 4)
        labels = np.zeros((count, len(data.classes)), np.float32)
        labels[np.arange(count)[:, None], data.labels[four]] = 1
        (folder / split).mkdir(parents=True)
        lines = []
        for k, images in enumerate(data.images[four]):
            top, bottom = (np.concatenate(list(images[i:i + 2]), axis=1) for i in (0, 2))
            name = f"{split}/{k:05d}.png"
            Image.fromarray(np.concatenate([top, bottom])).save(folder / name)
            lines.append(f"{name}\t{','.join(str(int(value)) for value in labels[k])}\n")
        (folder / f"multilabel_{split}_list.txt").write_text("".join(lines), encoding="utf-8")
        made[split] = labels
    names = "".join(f"{k} {name}\n" for k, name in enumerate(data.classes))
    (folder / "classes.txt").write_text(names, encoding="utf-8")
    return made
