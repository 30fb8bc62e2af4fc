"""Paddle's `.pdparams`: a pickle of name -> numpy array."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, BinaryIO, Callable

import numpy as np

from ...files import atomic_write
from ...limits import NO_VERIFY, verifying
from ..errors import WeightsError
from ..raw import RawCheckpoint, from_object
from .dtypes import widen_bfloat16
from .mapped import map_file, read_pickle
from .pickle_write import dump

# After the pickle's end, where `paddle.load` does not look: a pickle has no checksum of its own.
SEAL = b"\nppadapt sha256 "
SEAL_LENGTH = len(SEAL) + 64 + 1


def read_paddle(path: str) -> RawCheckpoint:
    """Reads what `paddle.save(state_dict, path)` writes; arrays are views of the mapped file.

    A file of `save_pdparams` is compared with its checksum. Raises WeightsError, UnsafeCheckpointError.
    """
    mapped = map_file(path)
    tree, end = read_pickle(mapped, path)
    _check_end(mapped, end, path)
    raw = from_object(tree, "paddle", path)
    # numpy has no bfloat16, so Paddle saves its bits as uint16, a dtype no Paddle parameter has.
    raw.tensors = {k: widen_bfloat16(v) if v.dtype == np.uint16 else v for k, v in raw.tensors.items()}
    return raw


def _check_end(mapped: np.ndarray, end: int, path: str) -> None:
    """Raises WeightsError where what follows the pickle is not its checksum, or another one."""
    rest = mapped[end:end + SEAL_LENGTH + 1].tobytes()
    if not rest or not verifying():
        return
    if len(rest) != SEAL_LENGTH or not rest.startswith(SEAL):
        raise WeightsError(f"{path} is damaged: something follows the end of its pickle; get the file again "
                           f"({NO_VERIFY}=1 reads it as it is)")
    found = hashlib.sha256(mapped[:end]).hexdigest()
    if found.encode() != rest[len(SEAL):-1]:
        raise WeightsError(f"{path} is damaged: its content does not have the checksum (SHA-256) it was written with; "
                           f"get the file again ({NO_VERIFY}=1 reads it as it is)")


def save_pdparams(path: str, tensors: Mapping[str, np.ndarray],
                  progress: Callable[[str], None] | None = None) -> None:
    """Writes a file that `paddle.load` reads as a state dict; `path` is replaced whole or not at all.

    Its SHA-256 follows the pickle, where `paddle.load` does not look and `read_paddle` does.
    """
    def contiguous():
        for name, array in tensors.items():
            if progress:
                progress(name)
            yield name, np.asarray(array)

    with atomic_write(path) as file:
        sealed = _Sealed(file)
        dump(sealed, _Items(contiguous()), protocol=4)
        file.write(SEAL + sealed.sha.hexdigest().encode() + b"\n")


class _Sealed:
    """Writes, and sums up what was written."""

    def __init__(self, file: BinaryIO):
        self.file, self.sha = file, hashlib.sha256()

    def write(self, data: Any) -> None:
        self.file.write(data)
        self.sha.update(data)


class _Items(dict):
    """A dict that hands over its items one at a time, so that one contiguous copy exists at once."""

    def __init__(self, pairs):
        super().__init__()
        self._pairs = pairs

    def items(self):
        return self._pairs
