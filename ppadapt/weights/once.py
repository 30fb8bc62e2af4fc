"""Many networks from one file: it is read and converted once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from . import folder
from .convert import Converted, to_ours
from .raw import RawCheckpoint
from .settings import read_settings

_kept: dict[tuple, RawCheckpoint | Converted] | None = None


@contextmanager
def reading_once() -> Iterator[None]:
    """Inside, what `read_file` and `load_weights` have read is kept, as read-only arrays; then it is let go."""
    global _kept
    outer, _kept = _kept, {} if _kept is None else _kept
    try:
        yield
    finally:
        _kept = outer


def read_file(path: str | os.PathLike) -> RawCheckpoint:
    """The tensors of weights under their own names: a file, a folder of `save_pretrained`, or an index of files.

    Raises WeightsError, UnsafeCheckpointError.
    """
    return _once(_read, path)


def load_weights(path: str | os.PathLike, key: Optional[str] = None, of: Optional[str] = None) -> Converted:
    """The weights under our names, by the settings of the library that stand beside them.

    `key`: where the network is, in a file that holds several. `of`: which published model it is, of `PUBLISHED`.
    Raises WeightsError, UnsafeCheckpointError.
    """
    return _once(_convert, path, key, of)


def _read(path: str | os.PathLike) -> RawCheckpoint:
    return folder.read(Path(path))


def _convert(path: str | os.PathLike, key: Optional[str], of: Optional[str]) -> Converted:
    file = folder.weight_file(Path(path))
    return to_ours(folder.read(file), key, read_settings(str(file)), of)


def _once(read: Callable, path: str | os.PathLike, *chosen: Optional[str]) -> RawCheckpoint | Converted:
    if _kept is None or not os.path.isfile(path):
        return read(path, *chosen)
    stat = os.stat(path)
    kept = (read, os.path.realpath(path), stat.st_size, stat.st_mtime_ns, *chosen)
    if kept not in _kept:
        found = read(path, *chosen)
        for array in found.tensors.values():
            array.flags.writeable = False  # what one network changed would be in the next
        _kept[kept] = found
    return _kept[kept]
