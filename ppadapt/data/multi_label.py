"""Images in files with several labels each: PaddleClas's lists, and the files of NUS-WIDE."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import numpy as np

from .. import limits
from ..errors import brief
from ..ranges import Count
from .base import log
from .errors import DataError
from .in_files import ImagesInFiles
from .labels import check_names, is_number
from .lines import lines
from .places import Places, first, optional, others


class _MultiLabelFiles(ImagesInFiles):
    """Files with labels float32 [N, classes] of 0 and 1."""

    def _take(self, root: Path, names: list[str], labels: np.ndarray, classes: list[str], where: str) -> None:
        """Keep what is there: a missing image stops, or with ``on_error: skip`` is left out and counted."""
        paths = [os.path.join(root, name) for name in names]  # a Path of each is dear where there are very many
        missing = [k for k, path in enumerate(paths) if not os.path.isfile(path)]
        if missing:
            where = f"{len(missing)} of {len(paths)} images are not there, the first is {paths[missing[0]]}"
            if self.on_error == "raise":
                raise DataError(f"{where}. Correct image_root or the list, or set on_error: skip.")
            log.warning("%s: left out, as on_error: skip says", where)
        keep = np.setdiff1d(np.arange(len(paths)), missing)
        if not len(keep):
            raise DataError(f"{type(self).__name__} {self.split} has no image.")
        check_names(classes, where)
        self.paths, self.labels, self.classes = [Path(paths[k]) for k in keep], labels[keep], classes
        self.keep(self.limit)


class MultiLabelDataset(_MultiLabelFiles):
    """PaddleClas's list of several labels per image: lines of a path, a tab, and a 0 or 1 for each class.

    Args:
        image_root: folder that the paths start from.
        cls_label_path: the list of this split (``split`` itself changes nothing).
        class_id_map_file: lines "number name"; without it a class is called by its number.
            Each of the three may be a list of places (`places`): the first that is there counts.
        label_ratio: accepted as PaddleClas's files write it, and not needed: MultiLabelLoss counts by itself.

    Raises:
        DataError: with file and line number for a bad line, and naming an image that is missing (with
            ``on_error='skip'`` missing images are left out and counted).
    """

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None, image_root: Places = None,
                 cls_label_path: Places = None, class_id_map_file: Places = None, label_ratio: bool = False) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        if not image_root or not cls_label_path:
            raise DataError("MultiLabelDataset needs image_root and cls_label_path: the folder of the images and the "
                            "file of 'path<tab>0,1,1,0' lines.")
        root = first(image_root, Path.is_dir, "image_root")
        listing = first(cls_label_path, Path.is_file, "cls_label_path")
        if not root.is_dir():
            raise DataError(f"MultiLabelDataset.image_root {root} is no folder{others(image_root, root)}.")
        paths, rows, seen = [], [], {}
        for number, line in lines(listing):
            path, tab, text = line.rpartition("\t")
            row = [value.strip() for value in text.split(",")]
            if not tab or not path.strip() or any(value not in ("0", "1") for value in row):
                raise DataError(f"{listing}, line {number}: {brief(line)} is not 'path<tab>0,1,1,0': a path, a tab, "
                                "and a 0 or 1 for each class. A list of one label per image is for ImageNetDataset.")
            if rows and len(row) != len(rows[0]):
                raise DataError(f"{listing}, line {number} has {len(row)} labels and the lines before have "
                                f"{len(rows[0])}: give every image a 0 or 1 for each class.")
            before = seen.setdefault(os.path.normpath(path.strip()), (number, row))
            if before[1] != row:
                raise DataError(f"{listing}, line {number}: {path.strip()} has other labels than in line {before[0]}: "
                                "remove one.")
            paths.append(path.strip())
            rows.append(row)
        if not rows:
            raise DataError(f"{listing} names no image.")
        if len(rows[0]) > limits.limit("PPADAPT_MAX_CLASSES"):
            raise DataError(f"{listing} would make {limits.beyond('PPADAPT_MAX_CLASSES', len(rows[0]))}")
        map_file = optional(class_id_map_file, Path.is_file, "class_id_map_file")
        names = _names(map_file, len(rows[0])) if map_file else {}
        self._take(root, paths, np.array(rows, np.float32), [names.get(k, str(k)) for k in range(len(rows[0]))],
                   str(map_file or listing))


class NUSWIDE(_MultiLabelFiles):
    """NUS-WIDE (Chua et al. 2009) from its own files: a list of images, and a file of 0 and 1 per tag.

    Below ``root``: ``ImageList/TrainImagelist.txt`` and ``TestImagelist.txt`` (lines such as
    ``actor\\0001_2124494179.jpg``), ``Groundtruth/TrainTestLabels/Labels_airport_Train.txt`` and so on (a 0 or 1 per
    line of the list), ``ConceptsList/Concepts81.txt`` (the order of the tags; without it they are sorted), and the
    images.

    Args:
        root: the folder that holds these, or a list of places (`places`); ``$PPADAPT_DATA`` or ``./dataset`` by
            default.
        image_root: folder that the paths of the lists start from; ``root/Flickr`` by default.
        labelled_only: leave out images that none of the tags fits.

    Raises:
        DataError: naming what is missing, or a file whose lines do not fit the list. Many of the images are no longer
            to be had: ``on_error='skip'`` leaves out those that are missing, and counts them.
    """

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None, root: Places = None,
                 image_root: Places = None, labelled_only: bool = False) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        root, part = first(root, lambda place: (place / "ImageList").is_dir()), split.capitalize()
        images = optional(image_root, Path.is_dir, "image_root") or root / "Flickr"
        listing, folder = root / "ImageList" / f"{part}Imagelist.txt", root / "Groundtruth" / "TrainTestLabels"
        names = [line for _, line in lines(listing)]
        files = {path.name[len("Labels_"):-len(f"_{part}.txt")]: path for path in folder.glob(f"Labels_*_{part}.txt")}
        order = root / "ConceptsList" / "Concepts81.txt"
        classes = [line for _, line in lines(order)] if order.is_file() else sorted(files)
        absent = [name for name in classes if name not in files]
        if absent or not classes:
            raise DataError(f"{folder} lacks Labels_{absent[0] if absent else '*'}_{part}.txt"
                            f"{f' and {len(absent) - 1} more' if len(absent) > 1 else ''}: unpack NUS-WIDE's "
                            "Groundtruth there.")
        columns = []
        for name in classes:
            column = [line for _, line in lines(files[name])]
            wrong = next((value for value in column if value not in ("0", "1")), None)
            if wrong is not None or len(column) != len(names):
                what = f"the line {brief(wrong)}" if wrong is not None else f"{len(column)} lines"
                raise DataError(f"{files[name]} has {what}, and {listing} names {len(names)} images: it must hold a 0 "
                                "or 1 for each.")
            columns.append(np.array(column, np.float32))
        labels, paths = np.stack(columns, axis=1), [name.replace("\\", "/") for name in names]
        if labelled_only:
            rows = np.flatnonzero(labels.any(axis=1))
            labels, paths = labels[rows], [paths[k] for k in rows]
        self._take(images, paths, labels, classes, str(folder))


def _names(path: Path, count: int) -> dict[int, str]:
    names = {}
    for number, line in lines(path):
        label, _, name = line.partition(" ")
        if not is_number(label) or int(label) >= count or not name.strip():
            raise DataError(f"{path}, line {number}: {brief(line)} is not 'number name' with a number below {count}.")
        names[int(label)] = name.strip()
    return names
