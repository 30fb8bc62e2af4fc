"""A file's bytes, and the pickles in them."""

from __future__ import annotations

from typing import Any, Callable, Mapping

import numpy as np

from ...errors import UnsafeFileError, UserError
from ...pickles import read_pickle as read
from ..errors import UnsafeCheckpointError, WeightsError


def map_file(path: str) -> np.ndarray:
    """The file's bytes as uint8, mapped: read from disk when touched."""
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)


def read_pickle(data: Any, path: str, more: Mapping[str, Any] | None = None,
                persistent: Callable[[Any], Any] | None = None, start: int = 0) -> tuple[Any, int]:
    """`pickles.read_pickle` with this package's errors."""
    try:
        return read(data, path, more, persistent, start=start)
    except UnsafeFileError as error:
        raise UnsafeCheckpointError(str(error)) from None
    except UserError as error:
        raise WeightsError(str(error)) from None
