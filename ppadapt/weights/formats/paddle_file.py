"""Paddle's `.pdparams`: a pickle of name -> numpy array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

import numpy as np

from ...files import atomic_write
from ..raw import RawCheckpoint, from_object
from .pickle_write import dump
from .safe_pickle import SafeUnpickler, widen_bfloat16


def read_paddle(path: str) -> RawCheckpoint:
    """Reads what `paddle.save(state_dict, path)` writes. Raises WeightsError, UnsafeCheckpointError."""
    with open(path, "rb") as file:
        tree = SafeUnpickler(file, path).read()
    raw = from_object(tree, "paddle", path)
    # numpy has no bfloat16, so Paddle saves its bits as uint16, a dtype no Paddle parameter has.
    raw.tensors = {k: widen_bfloat16(v) if v.dtype == np.uint16 else v for k, v in raw.tensors.items()}
    return raw


def save_pdparams(path: str, tensors: Mapping[str, np.ndarray],
                  progress: Callable[[str], None] | None = None) -> None:
    """Writes a file that `paddle.load` reads as a state dict; `path` is replaced whole or not at all."""
    def contiguous():
        for name, array in tensors.items():
            if progress:
                progress(name)
            yield name, np.asarray(array)

    with atomic_write(path) as file:
        dump(file, _Items(contiguous()), protocol=4)


class _Items(dict):
    """A dict that hands over its items one at a time, so that one contiguous copy exists at once."""

    def __init__(self, pairs):
        super().__init__()
        self._pairs = pairs

    def items(self):
        return self._pairs
