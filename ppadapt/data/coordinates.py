"""An image whose pixels are their own places, so that the operators that move pixels tell what they do."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .errors import DataError


class Coordinates:
    """One image as the rows and columns it consists of. Cropping, flipping and padding work as on an array.

    Attributes:
        rows, columns: int [H] and [W]: where in the original (after ``resize``: in the resized image) each row and
            column comes from; -1 is outside, which is black.
        before: what was resized, or None.
        filter: Pillow's filter of the resizing.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, before: Coordinates | None = None,
                 filter_: Image.Resampling | None = None) -> None:
        self.rows, self.columns, self.before, self.filter = rows, columns, before, filter_

    @classmethod
    def of(cls, height: int, width: int) -> Coordinates:
        """An untouched image."""
        return cls(np.arange(height), np.arange(width))

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), len(self.columns), 3

    def __getitem__(self, key: tuple[slice, slice]) -> Coordinates:
        return Coordinates(self.rows[key[0]], self.columns[key[1]], self.before, self.filter)

    def pad(self, rows: np.ndarray, columns: np.ndarray) -> Coordinates:
        """The rows and columns of these indices, -1 for outside."""
        return Coordinates(np.append(self.rows, -1)[rows], np.append(self.columns, -1)[columns], self.before,
                           self.filter)

    def resize(self, size: tuple[int, int], filter_: Image.Resampling) -> Coordinates:
        """At ``size`` = (width, height).

        Raises:
            DataError: the second time: the first resizing rounds, so the two are not one.
        """
        if self.before is not None:
            raise DataError("the image is resized twice")
        return Coordinates(np.arange(size[1]), np.arange(size[0]), self, filter_)
