"""Resizing along one axis as a matrix: what each new place takes of each old one. For images and position tables."""
from __future__ import annotations

from typing import Callable, Optional

import numpy as np


def cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic (IEEE ASSP 29(6), 1981); `a` is -0.5 in Pillow and antialiased PyTorch, else mostly -0.75."""
    x = abs(distance)
    near, far = ((a + 2) * x - (a + 3)) * x ** 2 + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def low_pass(function: Callable[[np.ndarray], np.ndarray], support: float, size: int, new_size: int) -> np.ndarray:
    """float64 [new_size, size], rows adding up to 1: the filter is stretched where it shrinks (libImaging/Resample.c).

    Args:
        function: weight at a distance. support: the largest distance that has one.
    """
    scale = size / new_size
    stretch = max(scale, 1)
    centre = (np.arange(new_size)[:, None] + 0.5) * scale
    first, last = np.trunc(centre - support * stretch + 0.5), np.trunc(centre + support * stretch + 0.5)
    place = np.arange(size)
    weights = np.where((place >= first) & (place < last), function((place + 0.5 - centre) / stretch), 0)
    return weights / weights.sum(1, keepdims=True)


def sampled_cubic(size: int, new_size: int, scale: Optional[float] = None) -> np.ndarray:
    """float64 [new_size, size]: the cubic of -0.75 at four neighbours, borders repeated, no low-pass.

    PyTorch's `F.interpolate(mode="bicubic", align_corners=False)`; with `scale`, that of its `scale_factor`.
    """
    at = (np.arange(new_size) + 0.5) / (scale or new_size / size) - 0.5
    first = np.floor(at).astype(np.int64)
    matrix = np.zeros((new_size, size))
    for tap in range(-1, 3):
        columns = np.clip(first + tap, 0, size - 1)
        np.add.at(matrix, (np.arange(new_size), columns), cubic(at - (first + tap), -0.75))
    return matrix
