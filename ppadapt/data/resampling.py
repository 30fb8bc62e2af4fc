"""Pillow's ``resize`` as matrices: what each output pixel takes of each input pixel along one axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..resampling import cubic, low_pass
from .errors import DataError

# Pillow's fixed point for 8-bit images (libImaging/Resample.c: PRECISION_BITS).
_STEP = 2.0 ** -22


# filter -> (weight at a distance, the largest distance); libImaging/Resample.c
_FILTERS: dict[int, tuple[Callable, float]] = {
    Image.Resampling.BOX: (lambda x: ((x > -0.5) & (x <= 0.5)).astype(float), 0.5),
    Image.Resampling.BILINEAR: (lambda x: np.maximum(1 - abs(x), 0), 1),
    Image.Resampling.HAMMING: (lambda x: np.where(abs(x) < 1, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0), 1),
    Image.Resampling.BICUBIC: (lambda x: cubic(x, -0.5), 2),
    Image.Resampling.LANCZOS: (lambda x: np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0), 3),
}


def matrix(filter_: Image.Resampling, size: int, new_size: int) -> np.ndarray:
    """float64 [new_size, size] that resizes an axis; its rows add up to 1.

    Shrinking stretches the filter, which makes it a low-pass. Every number is a multiple of 2^-22, as in Pillow, so
    float32 holds it exactly.

    Raises:
        DataError: for Pillow's nearest, which is no weighted sum.
    """
    if filter_ not in _FILTERS:
        raise DataError(f"{filter_.name.lower()} interpolation is no weighted sum")
    return np.rint(low_pass(*_FILTERS[filter_], size, new_size) / _STEP) * _STEP


def matrices(filter_: Image.Resampling, largest: int, new_size: int) -> np.ndarray:
    """The matrices for all sizes 1 to ``largest`` in one: float32 [largest new_size + 1, largest].

    Row ``(size - 1) new_size + k`` makes pixel k from the first ``size``; the last row, of zeros, makes black.
    """
    table = np.zeros((largest * new_size + 1, largest), np.float32)
    for size in range(1, largest + 1):
        table[(size - 1) * new_size:size * new_size, :size] = matrix(filter_, size, new_size)
    return table
