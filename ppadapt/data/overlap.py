"""Images that are there twice: the same file, or the same content under another name.

Among the test images and the training images, or under two labels.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from ..errors import brief
from .base import Dataset, log
from .in_files import ImagesInFiles

# Files whose content is read: about two seconds. Images in memory are all compared.
MOST_READ = 20_000


def warn_of_overlap(train: Dataset, test: Dataset) -> int:
    """Count the test images that are among the training images, and warn of them with an example."""
    pairs = dict(_pairs(train, test))
    if pairs:
        example = next(iter(pairs))
        log.warning("%d of %d test images are training images too (%s is %s): the evaluation is not of unseen images",
                    len(pairs), len(test), test.name(example), train.name(pairs[example]))
    return len(pairs)


def warn_of_two_labels(data: Dataset, where: str) -> int:
    """Count the images that an earlier one of another label is the same as, and warn of them with an example."""
    found = [(i, j) for i, j in _same(data) if not np.array_equal(data.labels[i], data.labels[j])]
    if found:
        first, second = found[0]
        log.warning("%s: %d images stand under two labels, %s as %s and %s as %s: one of them is wrong", where,
                    len(found), data.name(first), _label(data, first), data.name(second), _label(data, second))
    return len(found)


def _label(data: Dataset, i: int) -> str:
    label = data.labels[i]
    if np.ndim(label) == 0:
        return brief(data.classes[label])
    return brief([data.classes[k] for k in np.flatnonzero(label)])


def _same(data: Dataset) -> Iterator[tuple[int, int]]:
    """The first of each image and each later one that is the same."""
    if data.images is not None:
        known: dict[int, int] = {}
        for j, image in enumerate(data.images):
            i = known.setdefault(_checksum(image), j)
            if i != j and np.array_equal(data.images[i], image):
                yield i, j
    elif isinstance(data, ImagesInFiles):
        files: dict[tuple, int] = {}
        sizes = defaultdict(list)
        for j, stat in _stats(data):
            i = files.setdefault((stat.st_dev, stat.st_ino), j)
            if i != j:
                yield i, j
            else:
                sizes[stat.st_size].append(j)
        alike = [rows for rows in sizes.values() if len(rows) > 1]
        if sum(map(len, alike)) <= MOST_READ:
            contents: dict[bytes, int] = {}
            for j in (j for rows in alike for j in rows):
                i = contents.setdefault(_digest(data, j), j)
                if i != j:
                    yield i, j


def _pairs(train: Dataset, test: Dataset) -> Iterator[tuple[int, int]]:
    """Each test image that is a training image, with one that it is."""
    if isinstance(train, ImagesInFiles) and isinstance(test, ImagesInFiles):
        yield from _same_files(train, test)
    elif train.images is not None and test.images is not None and train.images.shape[1:] == test.images.shape[1:]:
        known = defaultdict(list)
        for i, image in enumerate(train.images):
            known[_checksum(image)].append(i)
        for j, image in enumerate(test.images):
            found = (i for i in known.get(_checksum(image), ()) if np.array_equal(train.images[i], image))
            yield from ((j, i) for i, _ in zip(found, range(1)))


def _same_files(train: ImagesInFiles, test: ImagesInFiles) -> Iterator[tuple[int, int]]:
    files, sizes = {}, defaultdict(list)
    for i, stat in _stats(train):
        files.setdefault((stat.st_dev, stat.st_ino), i)
        sizes[stat.st_size].append(i)
    alike = []
    for j, stat in _stats(test):
        same = files.get((stat.st_dev, stat.st_ino))
        if same is not None:
            yield j, same
        elif stat.st_size in sizes:
            alike.append((j, stat.st_size))
    wanted = {size for _, size in alike}
    if len(alike) + sum(len(sizes[size]) for size in wanted) > MOST_READ:
        log.info("test and training images are compared by file, not by content (more than %d files would be read)",
                 MOST_READ)
        return
    contents = {_digest(train, i): i for size in wanted for i in sizes[size]}
    for j, _ in alike:
        same = contents.get(_digest(test, j))
        if same is not None:
            yield j, same


def _stats(data: ImagesInFiles) -> Iterator[tuple[int, os.stat_result]]:
    for i, path in enumerate(data.paths):
        try:
            yield i, os.stat(path)
        except OSError:  # reported when it is read
            continue


def _digest(data: Dataset, i: int) -> bytes:
    return hashlib.sha256(data.content(i)).digest()


def _checksum(image: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(image))
