"""PaddleClas's data set: a list of image files and their labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import numpy as np

from .. import limits
from ..errors import brief, printable
from ..ranges import Count
from .base import log
from .errors import DataError
from .in_files import ImagesInFiles
from .labels import check_names, is_number
from .lines import lines
from .places import Places, first, optional, others


class ImageNetDataset(ImagesInFiles):
    """PaddleClas's image list: lines of a path below ``image_root`` and a label. A ``limit`` takes the images of the
    classes in turn.

    Args:
        image_root: folder that the paths start from.
        cls_label_path: the list of this split (``split`` itself changes nothing).
        delimiter: between path and label, a space by default; the last one of a line counts.
        relabel: number the labels that occur 0, 1, ... in rising order.
        class_id_map_file: lines "label name"; without it a class is called by its label.
            Each of the three may be a list of places (`places`): the first that is there counts.

    Raises:
        DataError: with file and line number for a bad line, a label that the map does not name or an image with two
            labels, and naming an image that is missing (with ``on_error='skip'`` it is skipped and counted instead).
    """

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None,
                 image_root: Places = None, cls_label_path: Places = None, delimiter: Optional[str] = None,
                 relabel: bool = False, class_id_map_file: Places = None) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        if not image_root or not cls_label_path:
            raise DataError("ImageNetDataset needs image_root and cls_label_path: the folder of the images "
                            "and the file of 'path label' lines.")
        root = first(image_root, Path.is_dir, "image_root")
        listing = first(cls_label_path, Path.is_file, "cls_label_path")
        if not root.is_dir():
            raise DataError(f"ImageNetDataset.image_root {root} is no folder{others(image_root, root)}.")
        map_file = optional(class_id_map_file, Path.is_file, "class_id_map_file")
        names = _class_names(map_file) if map_file else {}
        self.paths, labels = _listed(root, listing, delimiter or " ", names, on_error == "raise")
        self.implied = not names
        self.labels = np.array(labels, np.int64)
        most = max(self.labels.max(), max(names, default=0)) + 1
        if relabel:
            ids, self.labels = np.unique(self.labels, return_inverse=True)
            self.labels = self.labels.astype(np.int64).reshape(-1)
            most = len(ids)
        if most > limits.limit("PPADAPT_MAX_CLASSES"):
            raise DataError(f"{listing}: label {most - 1} of {self.name(int(self.labels.argmax()))} would make "
                            f"{limits.beyond('PPADAPT_MAX_CLASSES', int(most))}. Correct it, or set relabel: True.")
        self.classes = [names.get(int(n), str(n)) for n in (ids if relabel else np.arange(most))]
        check_names(self.classes, str(map_file or listing))
        self.keep(limit)


def _listed(root: Path, listing: Path, delimiter: str, names: dict[int, str],
            must_exist: bool) -> tuple[list[Path], list[int]]:
    paths, labels, seen, twice = [], [], {}, 0
    for line_number, line in lines(listing, "ImageNetDataset.cls_label_path"):
        path, _, label = line.rpartition(delimiter)
        path, label, where = path.strip(), label.strip(), f"{listing}, line {line_number}"
        if not path or not is_number(label):
            raise DataError(f"{where}: {brief(line)} is not 'path{delimiter}label' with a label from 0 to 999999999: "
                            "correct it, or set delimiter.")
        if names and int(label) not in names:
            raise DataError(f"{where}: label {int(label)} is not in class_id_map_file, which names {len(names)} "
                            f"classes from {min(names)} to {max(names)}.")
        first = seen.setdefault(os.path.normpath(path), (line_number, int(label)))
        twice += first[0] != line_number
        if first[1] != int(label):
            raise DataError(f"{where}: {path} has label {int(label)}, and {first[1]} in line {first[0]}: remove one.")
        paths.append(root / path)
        labels.append(int(label))
        if must_exist and not os.path.isfile(paths[-1]):
            raise DataError(f"{where}: image {printable(str(paths[-1]), 300)} does not exist. Correct image_root or "
                            "the line, or set on_error: skip.")
    if not labels:
        raise DataError(f"{listing} names no image.")
    if twice:
        log.warning("%s names %d images twice or more: each line counts", listing, twice)
    return paths, labels


def _class_names(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for line_number, line in lines(path, "ImageNetDataset.class_id_map_file"):
        label, _, name = line.partition(" ")
        if not is_number(label) or not name.strip():
            raise DataError(f"{path}, line {line_number}: {brief(line)} is not 'label name' with a label from 0 to "
                            "999999999.")
        if names.setdefault(int(label), name.strip()) != name.strip():
            raise DataError(f"{path}, line {line_number}: label {label} is {names[int(label)]!r} already.")
    if max(names, default=0) >= limits.limit("PPADAPT_MAX_CLASSES"):
        raise DataError(f"{path}: label {max(names)} would make {limits.beyond('PPADAPT_MAX_CLASSES', max(names) + 1)}")
    return names
