"""scikit-learn's handwritten digits (UCI optdigits, Alpaydin and Kaynak 1998): always on the machine."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Optional

import numpy as np

from ..ranges import Count
from .base import Dataset
from .errors import DataError

TRAIN = 1297


@lru_cache(maxsize=1)
def _read() -> np.ndarray:
    """float64 [1797, 65]: the 64 pixels of a digit and its label.

    scikit-learn's own file is read without importing scikit-learn, which takes a second and crashes
    after ``import paddle`` 2.6.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None:
        raise DataError("Digits comes with scikit-learn, which is not installed: pip install scikit-learn.")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # a version that keeps its file elsewhere
    data = load_digits()
    return np.column_stack([data.data, data.target])


class Digits(Dataset):
    """1,797 grey 8 x 8 digits, values 0..16 stretched to 0..255 in three equal channels.

    They are stored in the order of their writers, so the split (the first 1,297 train, the last 500
    test) tests on writers that training has not seen.

    Raises:
        DataError: when scikit-learn is missing.
    """

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        table = _read()
        part = (table[:TRAIN] if split == "train" else table[TRAIN:])[:limit]
        grey = np.rint(part[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        self.images = np.repeat(grey, 3, axis=-1)
        self.labels = part[:, 64].astype(np.int64)
        self.classes = [str(n) for n in range(10)]
