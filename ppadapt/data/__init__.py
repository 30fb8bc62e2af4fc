"""Datasets, transforms under PaddleClas's operator names, and loaders.

Only ``loader`` uses paddle, and imports it when it is iterated: the rest needs numpy and Pillow alone.
"""

from .base import Dataset
from .batch_transforms import BATCH_TRANSFORMS
from .datasets import DATASETS
from .decode import decode_image
from .errors import BrokenImageError, DataError
from .loader import Loader, build_loader
from .transforms import TRANSFORMS, Compose, build_transforms, describe_transforms

__all__ = ["BATCH_TRANSFORMS", "DATASETS", "TRANSFORMS", "BrokenImageError", "Compose", "DataError",
           "Dataset", "Loader", "build_loader", "build_transforms", "decode_image", "describe_transforms"]
