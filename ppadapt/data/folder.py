"""Images in files: one folder per class, or PaddleClas's list of paths and labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..files import IMAGE_SUFFIXES
from .base import Dataset, data_home
from .decode import decode_image
from .errors import DataError


def find_images(folder: Path) -> list[Path]:
    """Image files below ``folder``, sorted, without hidden ones; links to folders are followed."""
    found = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(files)
                  if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    return found


def _class_folders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
                  key=lambda p: p.name)


class _Files(Dataset):
    """Images that are decoded when asked for."""

    paths: list[Path]
    per_image: ClassVar = ("paths", "labels")

    def image(self, i: int) -> np.ndarray:
        return decode_image(self.paths[i])

    def content(self, i: int) -> bytes:
        try:
            return self.paths[i].read_bytes()
        except OSError:
            return b""

    def name(self, i: int) -> str:
        return str(self.paths[i])


class ImageFolder(_Files):
    """One folder per class; the classes are the folders' names, sorted.

    ``root`` holds ``train`` and ``test`` (or ``val``) folders, whose classes are those of ``train``; or it
    holds the class folders themselves, and then both splits read the same images. A ``limit`` takes the
    images of the classes in turn.

    Raises:
        DataError: naming the folder that is missing, empty or not a class of ``train``.
    """

    def __init__(self, split: str = "train", transform: list | None = None, seed: int = 0,
                 on_error: str = "raise", limit: int | None = None,
                 root: str | os.PathLike | None = None) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        root = data_home(root)
        if not root.is_dir():
            raise DataError(f"ImageFolder.root {root} is no folder: give one that holds a folder per class.")
        # A class may be called "train" too: a split is a folder of folders.
        splits = {name: root / name for name in ("train", "test", "val")
                  if (root / name).is_dir() and _class_folders(root / name)}
        folder = splits.get("train") if split == "train" else splits.get("test", splits.get("val"))
        if splits and folder is None:
            needed = "train" if split == "train" else "test or val"
            raise DataError(f"{root} has {', '.join(splits)} but no {needed} folder, which split {split!r} "
                            "needs: add it, or set root to a folder of classes.")
        folder = folder or root
        self.classes = [p.name for p in _class_folders(splits.get("train", folder))]
        if not self.classes:
            raise DataError(f"{folder} holds no folder per class: put the images of each class into one.")
        self.paths, labels = [], []
        for place in _class_folders(folder):
            if place.name not in self.classes:
                raise DataError(f"{place} is no class of {splits['train']}: rename or remove it.")
            images = find_images(place)
            if not images:
                raise DataError(f"Class folder {place} holds no image ({', '.join(IMAGE_SUFFIXES)}): "
                                "add some or remove it.")
            self.paths += images
            labels += [self.classes.index(place.name)] * len(images)
        self.labels = np.array(labels, np.int64)
        if limit is not None and limit < len(labels):
            # The first files of the list would all be of the first class.
            starts = np.searchsorted(self.labels, self.labels)
            keep = np.sort(np.argsort(np.arange(len(labels)) - starts, kind="stable")[:limit])
            self.paths, self.labels = [self.paths[k] for k in keep], self.labels[keep]


class ImageNetDataset(_Files):
    """PaddleClas's image list: lines of a path below ``image_root`` and a label.

    Args:
        image_root: folder that the paths start from.
        cls_label_path: the list of this split (``split`` itself changes nothing).
        delimiter: between path and label, a space by default; the last one of a line counts.
        relabel: number the labels that occur 0, 1, ... in rising order.
        class_id_map_file: lines "label name"; without it a class is called by its label.

    Raises:
        DataError: with file and line number for a bad line, and naming an image that is missing
            (with ``on_error='skip'`` it is skipped and counted instead).
    """

    def __init__(self, split: str = "train", transform: list | None = None, seed: int = 0,
                 on_error: str = "raise", limit: int | None = None,
                 image_root: str | os.PathLike | None = None,
                 cls_label_path: str | os.PathLike | None = None, delimiter: str | None = None,
                 relabel: bool = False, class_id_map_file: str | os.PathLike | None = None) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        if not image_root or not cls_label_path:
            raise DataError("ImageNetDataset needs image_root and cls_label_path: the folder of the images "
                            "and the file of 'path label' lines.")
        root, listing = Path(image_root).expanduser(), Path(cls_label_path).expanduser()
        if not root.is_dir():
            raise DataError(f"ImageNetDataset.image_root {root} is no folder.")
        delimiter = delimiter or " "
        self.paths, labels = [], []
        for line_number, line in _lines(listing, "cls_label_path"):
            path, _, label = line.rpartition(delimiter)
            if not path.strip() or not label.strip().isdigit():
                raise DataError(f"{listing}, line {line_number}: {line!r} is not 'path{delimiter}label' "
                                "with a label of 0 or more: correct it, or set delimiter.")
            self.paths.append(root / path.strip())
            labels.append(int(label))
            if on_error == "raise" and not self.paths[-1].is_file():
                raise DataError(f"{listing}, line {line_number}: image {self.paths[-1]} does not exist. "
                                "Correct image_root or the line, or set on_error: skip.")
        if not labels:
            raise DataError(f"{listing} names no image.")
        self.labels = np.array(labels, np.int64)
        ids = np.arange(self.labels.max() + 1)
        if relabel:
            ids, self.labels = np.unique(self.labels, return_inverse=True)
            self.labels = self.labels.astype(np.int64)
        names = _class_names(Path(class_id_map_file).expanduser()) if class_id_map_file else {}
        if names and not relabel:
            ids = np.arange(max(ids[-1], max(names)) + 1)
        self.classes = [names.get(int(n), str(n)) for n in ids]
        self.paths, self.labels = self.paths[:limit], self.labels[:limit]


def _lines(path: Path, option: str) -> list[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"ImageNetDataset.{option} {path} cannot be read as UTF-8 text ({error}).") from None
    return [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def _class_names(path: Path) -> dict[int, str]:
    names = {}
    for line_number, line in _lines(path, "class_id_map_file"):
        label, _, name = line.partition(" ")
        if not label.isdigit() or not name.strip():
            raise DataError(f"{path}, line {line_number}: {line!r} is not 'label name'.")
        names[int(label)] = name.strip()
    return names
