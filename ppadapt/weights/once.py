"""Many networks from one file: it is read and converted once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from .convert import Converted, to_ours
from .files import read_file

_kept: dict[tuple[str, int, int], Converted] | None = None


@contextmanager
def reading_once() -> Iterator[None]:
    """Inside, `load_weights` keeps what it has read, as read-only arrays; afterwards they are let go."""
    global _kept
    outer, _kept = _kept, {} if _kept is None else _kept
    try:
        yield
    finally:
        _kept = outer


def load_weights(path: str | os.PathLike) -> Converted:
    """`to_ours(read_file(path))`. Raises WeightsError, UnsafeCheckpointError."""
    if _kept is None or not os.path.isfile(path):
        return to_ours(read_file(path))
    stat = os.stat(path)
    key = (os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
    if key not in _kept:
        converted = to_ours(read_file(path))
        for array in converted.tensors.values():
            array.flags.writeable = False  # what one network changed would be in the next
        _kept[key] = converted
    return _kept[key]
