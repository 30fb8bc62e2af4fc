"""What data sets of image files share."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Dataset
from .decode import decode_image
from .errors import BrokenImageError


class ImagesInFiles(Dataset):
    """Images that are decoded when asked for."""

    paths: list[Path]
    per_image: ClassVar = ("paths", "labels")

    def image(self, i: int) -> np.ndarray:
        # A pipe would wait for ever for somebody to write into it.
        if self.paths[i].exists() and not self.paths[i].is_file():
            raise BrokenImageError(f"Image {self.paths[i]} is no file.")
        return decode_image(self.paths[i])

    def content(self, i: int) -> bytes:
        try:
            return self.paths[i].read_bytes() if self.paths[i].is_file() else b""
        except OSError:
            return b""

    def name(self, i: int) -> str:
        return str(self.paths[i])
