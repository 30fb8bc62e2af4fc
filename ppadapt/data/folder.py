"""Images in one folder per class."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

import numpy as np

from ..errors import brief
from ..files import IMAGE_SUFFIXES
from ..ranges import Count
from .base import log
from .errors import DataError
from .find import UNREADABLE, Found, find_images, is_hidden, unreadable
from .in_files import ImagesInFiles
from .labels import check_names, written_alike
from .places import Places, first, others

# What folders of splits are called, in any case.
SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation")}
_SKIP = ", or set on_error: skip"
_SPLIT_WORDS = {word for words in SPLITS.values() for word in words}


def class_folders(folder: Path, skip_unreadable: bool = False) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones.

    Raises:
        DataError: for a folder that cannot be read, unless ``skip_unreadable`` takes it for an empty one.
    """
    try:
        return sorted((p for p in folder.iterdir() if p.is_dir() and not is_hidden(p.name)), key=lambda p: p.name)
    except OSError as error:
        if skip_unreadable:
            return []
        raise unreadable(folder, error, _SKIP) from None


class ImageFolder(ImagesInFiles):
    """One folder per class; the classes are the folders' names, sorted.

    ``root`` holds folders of splits (``train`` or ``Training``; ``test``, or else ``val``, ``valid``,
    ``Validation``), whose classes are those of ``train``; or it holds the class folders themselves, and then both
    splits read the same images. Of a list of roots the first that is a folder counts (`places`). A ``limit`` takes the
    images of the classes in turn.

    Raises:
        DataError: naming the folder that is missing, empty, not readable, not a class of ``train``, or a split where a
            class should be.
    """

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None,
                 root: Places = None) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        given, skip = root, on_error == "skip"
        root = first(given, Path.is_dir)
        if not root.is_dir():
            raise DataError(f"ImageFolder.root {root} is no folder{others(given, root)}: give one that holds a folder "
                            "per class.")
        splits, found = _splits(root, skip), Found()
        folder = splits.get("train") if split == "train" else splits.get("test", splits.get("val"))
        if splits and folder is None:
            needed = "train" if split == "train" else "test or val"
            raise DataError(f"{root} has {', '.join(p.name for p in splits.values())} but no {needed} folder, which "
                            f"split {split!r} needs: add it, or set root to a folder of classes.")
        for path in class_folders(root, skip) if splits else ():
            if path not in splits.values():
                found.leave_out("beside the folders of splits", path)
        folder = folder or root
        known = class_folders(splits.get("train", folder), skip)
        self.classes = [p.name for p in known]
        if not self.classes:
            raise DataError(f"{folder} holds no folder per class: put the images of each class into one.")
        check_names(self.classes, str(folder))
        for path in sorted(folder.iterdir()):
            if path.is_file() and not is_hidden(path.name):
                found.leave_out("in no class folder", path)
        labels = []
        for place in class_folders(folder, skip):
            inside = find_images(place, skip, _SKIP)
            found.add(inside)
            if place.name not in self.classes and inside.images:
                raise DataError(f"{place} is no class of {splits['train']}{written_alike(place.name, self.classes)}: "
                                "rename or remove it, or add training images of it.")
            if not inside.images and split == "train" and UNREADABLE not in inside.left_out:
                raise DataError(f"Class folder {place} holds no image ({', '.join(IMAGE_SUFFIXES)}): add some or "
                                f"remove it.{' It holds ' * bool(inside.left_out)}{inside.said()}")
            labels += [self.classes.index(place.name) for _ in inside.images]
        self.paths = found.images
        if not self.paths:
            raise DataError(f"The class folders of {folder} hold no image ({', '.join(IMAGE_SUFFIXES)}).")
        _refuse_splits([p for p in known if folder == splits.get("train", folder)], self.paths, folder)
        if found.linked:
            _refuse_two_labels(self.paths, labels, self.classes)
        if found.left_out:
            log.warning("ImageFolder: below %s are left out: %s", folder, found.said())
        self.labels = np.array(labels, np.int64)
        self.keep(limit)


def _splits(root: Path, skip: bool) -> dict[str, Path]:
    """Which folders of ``root`` are splits. A class may be called "train" too: a split is a folder of folders."""
    splits: dict[str, Path] = {}
    for path in class_folders(root, skip):
        kind = next((kind for kind, names in SPLITS.items() if path.name.lower() in names), None)
        if kind is None or not class_folders(path, skip):
            continue
        if kind in splits:
            raise DataError(f"{root} has two folders of the {kind} split, {splits[kind].name} and {path.name}: remove "
                            "one, or set root for each side.")
        splits[kind] = path
    return splits


def _refuse_splits(classes: list[Path], images: list[Path], folder: Path) -> None:
    """Raises DataError for classes without an image of their own that hold the same folders or are called after
    different splits: they are splits. And for one folder that holds the classes."""
    own = {image.parent for image in images}
    nested = {path.name: [p.name for p in class_folders(path, True)] for path in classes if path not in own}
    words = {word for name in nested for word in _SPLIT_WORDS & set(re.split("[^a-z]+", name.lower()))}
    same = len(nested) == len(classes) and len(set(map(tuple, nested.values()))) == 1
    if len(nested) > 1 and (len(words) > 1 or same and len(next(iter(nested.values()))) > 1):
        raise DataError(f"{folder} holds {', '.join(list(nested)[:4])}, folders of folders such as "
                        f"{', '.join(next(iter(nested.values()))[:4])}: they look like splits, and would be taken for "
                        "classes. Call them train and test, or set root to the one of each side; if they are classes, "
                        "put the images into them and not below.")
    if len(classes) == 1 and any(nested.values()):
        name, inside = next(iter(nested.items()))
        raise DataError(f"{folder} holds the folder {name} alone, and that holds {', '.join(inside[:4])}: set root to "
                        f"{folder / name}.")


def _refuse_two_labels(paths: list[Path], labels: list[int], classes: list[str]) -> None:
    """Raises DataError where links put one file under two labels."""
    seen: dict[str, int] = {}
    for i, path in enumerate(paths):
        other = seen.setdefault(os.path.realpath(path), i)
        if labels[other] != labels[i]:
            raise DataError(f"{path} and {paths[other]} are the same file under two labels, "
                            f"{brief(classes[labels[i]])} and {brief(classes[labels[other]])}: remove one.")
