"""Streams of images between two blocks, kept in files: computed once, checked whenever they are read.

A file holds some images, as an array uint8 [R, B + 4] (.npy): an image's numbers in float32 or bfloat16, then their
CRC-32. Files appear one by one, so a run that is cut off has lost one at most, several processes fill one folder
together, and what is read is mapped rather than held.
"""
from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import numpy as np
import paddle

from ...errors import UserError
from ...files import atomic_write, locked, remove_leftovers
from ...log import LOGGER, progress
from .remainder import KeptLoader, Watch

DTYPES = {"float32": np.dtype("<f4"), "bfloat16": np.dtype("<u2")}
SUM, FILE = 4, 2**26  # bytes: of a checksum, of a file at most
MISSING = "it is not there"
Compute = Callable[[int, int], Iterator[np.ndarray]]


class Streams:
    """The streams of the images of a data set, in each of its views.

    Args:
        root: folder of all that is kept. key: what these streams depend on, plain data.
        count: of images. shape: of an image's stream. dtype: what its numbers are kept in.
        compute: (view, first image) -> float32 arrays [n, *shape] from there on; `per_file` is a multiple of n.
        turn: (rank, number) of processes that fill the folder together.
    """

    def __init__(self, root: Path, key: Mapping[str, Any], count: int, views: list[int], shape: tuple[int, ...],
                 dtype: str, compute: Compute, turn: tuple[int, int] = (0, 1)):
        self.root, self.count, self.views, self.shape, self.dtype = root, count, views, shape, DTYPES[dtype]
        text = json.dumps({**key, "dtype": dtype, "shape": shape}, sort_keys=True, default=str)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.width, self.per_file = _width(shape, dtype), per_file(shape, dtype)
        self.compute, self.turn = compute, turn
        self._files: dict[tuple[int, int], np.ndarray] = {}

    def fill(self, limit: float, watch: Watch, what: str) -> None:
        """Open the files, computing those that are not there.

        Args:
            limit: bytes that `root` may hold; older streams go where these need their place.
            watch: what goes from file to file, and may stop there.

        Raises:
            UserError: when there is no room for them, or they cannot be written.
        """
        wanted = [(view, number) for view in self.views for number in self._numbers()]
        missing = [(view, number) for view, number in wanted if not self._is_there(view, number)]
        if not missing:
            with suppress(OSError):
                os.utime(self.folder)  # the last use
            LOGGER.info("%s: from %s", what, self.folder)
            return
        needed = sum(self._rows(number) for _, number in missing) * self.width
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
            make_room(self.root, self.folder, needed, limit)
        except OSError as error:
            raise self._unwritable(error) from None
        LOGGER.info("%s: computed once, kept in %s (%.2f GB in all)", what, self.folder,
                    self.count * len(self.views) * self.width / 1e9)
        sources = {view: _Source(self.compute, view) for view in self.views}
        for view, number in watch(progress(missing, what)):
            self._bring(view, number, sources[view])

    def read(self, view: int, indices: list[int]) -> np.ndarray:
        """float32 [n, *shape]; a damaged file is computed anew, and said."""
        found = np.empty((len(indices), math.prod(self.shape)), np.float32)
        for place, index in zip(found, indices):
            number, row = divmod(index, self.per_file)
            kept = self._files[view, number][row]
            if zlib.crc32(kept[:-SUM]) != int.from_bytes(kept[-SUM:].tobytes(), "little"):
                LOGGER.warning("%s is damaged: it is computed anew", self._path(view, number))
                self._bring(view, number, _Source(self.compute, view), anew=True)
                kept = self._files[view, number][row]
            place[:] = _as_float32(kept[:-SUM].view(self.dtype))
        return found.reshape(len(indices), *self.shape)

    def _numbers(self) -> list[int]:
        """Of the files; processes that share a folder begin at different ones."""
        (rank, of), numbers = self.turn, list(range(math.ceil(self.count / self.per_file)))
        return sorted(numbers, key=lambda number: ((number - rank) % of, number))

    def _rows(self, number: int) -> int:
        return min(self.per_file, self.count - number * self.per_file)

    def _path(self, view: int, number: int) -> Path:
        return self.folder / f"view-{view}-{number:05d}.npy"

    def _open(self, view: int, number: int) -> str:
        """Map a file; "" or why that cannot be."""
        try:
            rows = np.asarray(np.load(self._path(view, number), mmap_mode="r", allow_pickle=False))
        except FileNotFoundError:
            return MISSING
        except (OSError, ValueError, EOFError) as error:
            return str(error)
        if rows.dtype != np.uint8 or rows.shape != (self._rows(number), self.width):
            return f"it holds {rows.dtype} {list(rows.shape)}"
        self._files[view, number] = rows
        return ""

    def _is_there(self, view: int, number: int) -> bool:
        why_not = self._open(view, number)
        if why_not not in ("", MISSING):
            LOGGER.warning("%s is damaged (%s): it is computed anew", self._path(view, number), why_not)
        return not why_not

    def _bring(self, view: int, number: int, source: _Source, anew: bool = False) -> None:
        path = self._path(view, number)
        try:
            with locked(path):
                if not anew and not self._open(view, number):  # another process was quicker
                    return
                rows = self._packed(source.take(number * self.per_file, self._rows(number)))
                with atomic_write(path) as file:
                    np.save(file, rows)
        except OSError as error:
            if "(External)" in str(error):  # of Paddle, not of the disk
                raise
            raise self._unwritable(error) from None
        why_not = self._open(view, number)
        if why_not:
            raise UserError(f"{path} was written and cannot be read ({why_not}): give Global.feature_cache another "
                            "place")

    def _packed(self, streams: np.ndarray) -> np.ndarray:
        if not np.isfinite(streams).all():
            raise UserError("the network's streams are NaN or infinite: its weights are damaged, the images are not "
                            "normalised, or half precision overflowed")
        rows = np.empty((len(streams), self.width), np.uint8)
        numbers = streams.reshape(len(streams), -1)
        rows[:, :-SUM] = np.ascontiguousarray(_as_kept(numbers, self.dtype)).view(np.uint8)
        for row in rows:
            row[-SUM:] = np.frombuffer(zlib.crc32(row[:-SUM]).to_bytes(SUM, "little"), np.uint8)
        return rows

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"Global.cache_features: {self.folder} cannot be written ({error.strerror or error}): give "
                         "Global.feature_cache a place with more room, or set cache_features to False")


class _Source:
    """What is computed of a view, file by file: it goes on where it stopped, or begins anew elsewhere."""

    def __init__(self, compute: Compute, view: int):
        self.compute, self.view, self.at = compute, view, -1
        self.batches: Iterator[np.ndarray] = iter(())

    def take(self, start: int, count: int) -> np.ndarray:
        """float32 [count, ...], from image `start` on."""
        if start != self.at:
            self.batches = self.compute(self.view, start)
        parts = [next(self.batches)]
        while sum(map(len, parts)) < count:
            parts.append(next(self.batches))
        self.at = start + count
        return np.concatenate(parts)


class StreamLoader(KeptLoader):
    """A Loader with streams [N, ...] in the place of images.

    `make()` gives the Streams, `limit` is what their folder may hold in bytes, `dtype` what the network is given.
    """

    how = "seen by the stream that leaves the blocks below what trains, which is computed once"

    def __init__(self, loader: Any, make: Callable[[list[int]], Streams], limit: float, dtype: str):
        super().__init__(loader)
        self.make, self.limit, self.dtype = make, limit, dtype
        self.streams: Streams | None = None

    def rows(self, indices: list[int]) -> paddle.Tensor:
        if self.streams is None:
            streams, data = self.make(self.views), self.dataset
            views = f" in {len(self.views)} views" if self.loader.views else ""
            streams.fill(self.limit, self.watch, f"streams of {len(data)} {data.split} images{views}")
            self.streams = streams
        return paddle.to_tensor(self.streams.read(self.view, indices)).astype(self.dtype)


def size(count: int, views: int, shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of what is kept of so many images."""
    return count * views * _width(shape, dtype)


def per_file(shape: tuple[int, ...], dtype: str) -> int:
    """How many images a file holds: a power of two, so that batches of any other such number fill it."""
    return min(1024, 2 ** int(math.log2(max(1, FILE // _width(shape, dtype)))))


def _width(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * DTYPES[dtype].itemsize + SUM


def room(root: Path) -> int:
    """Bytes that streams in `root` may take at most: what is free, and what is kept there already."""
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free + sum(map(_bytes, _folders(root)))


def make_room(root: Path, keep: Path, needed: int, limit: float) -> None:
    """Remove what was used longest ago, `keep` apart, until `needed` bytes more are within `limit` and fit the disk.

    Raises:
        OSError: where that is not enough.
    """
    others = sorted((folder for folder in _folders(root) if folder != keep), key=_last_use)
    while others and (sum(map(_bytes, _folders(root))) + needed > limit
                      or shutil.disk_usage(root).free < needed):
        folder = others.pop(0)
        LOGGER.info("%s (%.2f GB) makes room: it was used longest ago (Global.cache_limit)", folder,
                    _bytes(folder) / 1e9)
        shutil.rmtree(folder, ignore_errors=True)
    if shutil.disk_usage(root).free < needed:
        raise OSError(f"{needed / 1e9:.2f} GB are needed and {shutil.disk_usage(root).free / 1e9:.2f} GB are free")


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _last_use(folder: Path) -> float:
    with suppress(OSError):  # gone meanwhile, as below: another process makes room too
        return folder.stat().st_mtime
    return 0.0


def _bytes(folder: Path) -> int:
    total = 0
    with suppress(OSError):
        for path in folder.iterdir():
            total += path.stat().st_size
    return total


def _as_kept(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype != DTYPES["bfloat16"]:
        return numbers.astype(dtype)
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(dtype)  # rounded to the nearest, ties to even


def _as_float32(kept: np.ndarray) -> np.ndarray:
    return kept if kept.dtype != DTYPES["bfloat16"] else (kept.astype(np.uint32) << 16).view(np.float32)
