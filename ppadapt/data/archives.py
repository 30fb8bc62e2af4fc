"""Images and labels written as an archive in the form of CIFAR's."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Mapping

import numpy as np

from .. import files
from .cifar import CIFAR10

Split = tuple[np.ndarray, Mapping[str, np.ndarray]]


def write(path: Path, kind: type[CIFAR10], splits: Mapping[str, Split], meta: Mapping[str, list[str]]) -> None:
    """A .tar.gz that `kind` reads.

    Args:
        splits: "train" and "test" -> images, uint8 [N, 32, 32, 3], and labels, key -> int [N].
        meta: the names of the classes, as the official archive has them.
    """
    members: dict[str, Mapping] = {}
    for split, (images, labels) in splits.items():
        parts = np.array_split(np.arange(len(images)), len(kind.batches[split]))
        for name, rows in zip(kind.batches[split], parts):
            data = images[rows].transpose(0, 3, 1, 2).reshape(len(rows), -1)
            members[name] = {"data": data, **{key: values[rows].tolist() for key, values in labels.items()}}
    members[kind.meta] = dict(meta)
    files.replace(path, lambda temporary: _write(temporary, kind.folder, members))


def _write(path: Path, folder: str, members: Mapping[str, Mapping]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            data = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
