"""What data sets of image files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from .base import Dataset
from .decode import FORMATS, decode_image
from .errors import BrokenImageError, DataError


class ImagesInFiles(Dataset):
    """Images that are decoded when asked for."""

    paths: list[Path]
    per_image: ClassVar = ("paths", "labels")

    def image(self, i: int) -> np.ndarray:
        # A pipe would wait for ever for somebody to write into it.
        if os.path.exists(self.paths[i]) and not os.path.isfile(self.paths[i]):
            raise BrokenImageError(f"Image {self.paths[i]} is no file.")
        return decode_image(self.paths[i])

    def check_readable(self) -> None:
        """Of every file the beginning; with ``on_error='skip'``, one whole image is enough."""
        broken = None
        for i, path in enumerate(self.paths):
            try:
                if self.on_error == "skip":
                    self.image(i)
                    return
                _check_beginning(path)
            except BrokenImageError as error:
                if self.on_error == "raise":
                    raise BrokenImageError(f"{error} Replace or remove it, or set on_error: skip.") from None
                broken = error
        if broken:
            raise DataError(f"none of the {len(self.paths)} {self.split} images can be read. The last: {broken}")

    def content(self, i: int) -> bytes:
        try:
            return self.paths[i].read_bytes() if self.paths[i].is_file() else b""
        except OSError:
            return b""

    def outline(self, i: int) -> bytes:
        """Its name and size: to read a thousand files would take long."""
        try:
            size = self.paths[i].stat().st_size
        except OSError:
            size = -1
        return f"{self.paths[i].name} {size}\n".encode("utf-8", "replace")

    def name(self, i: int) -> str:
        return str(self.paths[i])


def _check_beginning(path: Path) -> None:
    """Raises BrokenImageError for a file that does not begin as an image does."""
    try:
        if not os.path.isfile(path):  # False for a name that no file system takes; Path.is_file would raise
            raise BrokenImageError(f"Image {path} does not exist or is no file.")
        with Image.open(path, formats=FORMATS):
            pass
    except BrokenImageError:
        raise
    except Exception as error:  # whatever a damaged file raises
        raise BrokenImageError(f"Image {path} cannot be read ({type(error).__name__}: {error}).") from None
