"""What the network is shown, as pictures for people."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from .base import Dataset
from .errors import DataError
from .transforms import Compose, DecodeImage, NormalizeImage

if TYPE_CHECKING:
    from .loader import Loader


def look(dataset: Dataset, rows: Iterable[int]) -> tuple[np.ndarray, list]:
    """Images of a data set after its transforms, float32 [n, C, H, W], and their labels; broken ones, and those of
    another shape than the first, are left out and counted nowhere."""
    images: list[np.ndarray] = []
    labels: list = []
    for i in rows:
        with suppress(DataError):
            image = dataset.transform.array(dataset.image(i), dataset.generator(i))
            if not images or image.shape == images[0].shape:
                images.append(image)
                labels.append(dataset.labels[i])
    return (np.stack(images) if images else np.empty((0, 0, 0, 0), np.float32)), labels


def first_images(loader: Loader, count: int, epoch: int = 1) -> np.ndarray:
    """The first images of an epoch after all transforms and mixing: float32 [n, C, H, W], n at most ``count``.

    The loader's place in its epochs is then the start of that epoch.
    """
    import paddle

    loader.set_epoch(epoch)
    rows = next(iter(loader.order()), [])[:count]
    images, labels = look(loader.dataset, rows)
    if loader.batch_transforms and len(images):
        mixed, targets = paddle.to_tensor(images), paddle.to_tensor(loader.collate(labels))
        rng = np.random.default_rng((loader.seed, epoch, *rows))
        for mix in loader.batch_transforms:
            mixed, targets = mix(mixed, targets, rng)
        images = mixed.numpy()
    return images


def pixels(images: np.ndarray, transform: Compose) -> np.ndarray:
    """Transformed images as pixels again: float32 [N, 3, H, W] -> uint8 [N, H, W, 3] RGB, without the normalisation."""
    shown = images.transpose(0, 2, 3, 1)
    for op in reversed(transform.ops):
        if isinstance(op, NormalizeImage):
            shown = (shown * op.std + op.mean) / op.scale
        elif isinstance(op, DecodeImage) and not op.to_rgb:
            shown = shown[..., ::-1]
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int = 8, least: int = 64, gap: int = 2) -> np.ndarray:
    """Pictures side by side: uint8 [N, H, W, 3] -> [rows, width, 3]. Small ones are enlarged to ``least`` pixels."""
    factor = max(1, -(-least // max(images.shape[1:3])))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top:top + height, left:left + width] = image
    return canvas
