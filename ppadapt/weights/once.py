"""Many networks from one file: it is read and converted once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .convert import Converted, to_ours
from .formats import any_file as files
from .raw import RawCheckpoint

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
    """The tensors of a weights file under their own names. Raises as `files.read_file`."""
    return _once(files.read_file, path)


def load_weights(path: str | os.PathLike) -> Converted:
    """`to_ours(read_file(path))`. Raises WeightsError, UnsafeCheckpointError."""
    return _once(_convert, path)


def _convert(path: str | os.PathLike) -> Converted:
    return to_ours(files.read_file(path))


def _once(read: Callable, path: str | os.PathLike) -> RawCheckpoint | Converted:
    if _kept is None or not os.path.isfile(path):
        return read(path)
    stat = os.stat(path)
    key = (read, os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
    if key not in _kept:
        found = read(path)
        for array in found.tensors.values():
            array.flags.writeable = False  # what one network changed would be in the next
        _kept[key] = found
    return _kept[key]
