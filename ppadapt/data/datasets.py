"""The family of datasets: what a config's ``dataset.name`` may be."""

from __future__ import annotations

from .base import Dataset
from .cifar import CIFAR10, CIFAR100
from .digits import Digits
from .folder import ImageFolder
from .image_list import ImageNetDataset
from .multi_label import NUSWIDE, MultiLabelDataset

DATASETS: dict[str, type[Dataset]] = {
    "CIFAR10": CIFAR10,
    "CIFAR100": CIFAR100,
    "Digits": Digits,
    "ImageFolder": ImageFolder,
    "ImageNetDataset": ImageNetDataset,
    "MultiLabelDataset": MultiLabelDataset,
    "NUSWIDE": NUSWIDE,
}
