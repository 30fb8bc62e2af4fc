"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the official archives, without running their pickles."""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, ClassVar, Optional

import numpy as np

from .. import limits
from ..errors import FileError, brief
from ..pickles import Walk, read_pickle
from ..ranges import Count
from .base import Dataset
from .download import download
from .errors import DataError, choose
from .places import Places, first, others

_SMALL = 1 << 24  # bytes that any archive may unpack to
_COPIES = 8  # what is read is held as files, as images and as images in another order: an eighth of the room
_CHUNK = 1 << 20
_MOST_MEMBERS = 1000


def read_batch(data: bytes, name: str) -> dict[str, object]:
    """One pickled batch as plain data with str keys; arrays may be views of `data`.

    Raises:
        DataError: when it is damaged, or holds anything but arrays and plain data (nothing is run).
    """
    try:
        batch = Walk(lambda array: array.numpy()).plain(read_pickle(data, name, python2="bytes")[0])
    except FileError as error:
        raise DataError(f"{name} is not a CIFAR batch ({error}). Use the files of the official archive.") from None
    if not isinstance(batch, dict):
        raise DataError(f"{name} is not a CIFAR batch (it holds a {type(batch).__name__}). Use the files of the "
                        "official archive.")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in batch.items()}


def _read_files(path: Path, wanted: tuple[str, ...], folder: str) -> dict[str, bytes]:
    """The wanted files of an archive or an extracted folder, read once. Nothing is unpacked onto the disk."""
    found: dict[str, bytes] = {}
    if path.is_dir():
        found = {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
        seen = sorted(p.name for p in path.iterdir())[:5]
    else:
        seen = []
        try:
            with open(path, "rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
                file.seek(0)
                stream = _Bounded(gzip.open(file) if packed else file, path)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    for member in archive:
                        name = Path(member.name).name
                        seen.append(member.name)
                        if len(seen) > _MOST_MEMBERS:
                            raise DataError(f"{path} holds over {_MOST_MEMBERS} files: it is not the official archive.")
                        if not member.isreg() or name not in wanted or Path(member.name).parent.name != folder:
                            continue
                        if name in found:
                            raise DataError(f"{path} holds {folder}/{name} twice: it is not the official archive.")
                        found[name] = archive.extractfile(member).read()
                stream.read_on()  # gzip's checksum is at the very end
        except DataError:
            raise
        # Headers of tar are text that is read as numbers: whatever a damaged one raises.
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, struct.error) as error:
            raise DataError(f"{path} is damaged or no tar archive ({type(error).__name__}: {error}). "
                            "Remove it to have it downloaded again.") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)} of {folder} (it holds {', '.join(seen[:5])}...). "
                        f"Give the official archive or its extracted folder {folder}.")
    return found


class _Bounded:
    """What tarfile reads, as far as an archive of this size may unpack, and never backwards.

    Its headers say how much to read next, and a size below zero would lead back to where it was.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path, self.at = file, path, 0
        size = path.stat().st_size
        self.most = max(limits.limit("PPADAPT_MAX_RATIO") * size // _COPIES, _SMALL)

    def read(self, count: int) -> bytes:
        self._check(self.at + count)
        data = self.file.read(count)
        self.at += len(data)
        return data

    def seek(self, place: int) -> int:
        if place < self.at - tarfile.BLOCKSIZE:
            raise ValueError("a header that leads back")
        self._check(place)
        self.at = self.file.seek(place)
        return self.at

    def tell(self) -> int:
        return self.at

    def read_on(self) -> None:
        """To the end."""
        while self.read(min(_CHUNK, max(self.most - self.at, 1))):
            pass

    def _check(self, place: int) -> None:
        if place > self.most:
            raise DataError(f"{self.path} unpacks to more than {self.most / 1e6:,.0f} MB, which its size does not "
                            "allow: it is not the official archive. If you trust it, raise PPADAPT_MAX_RATIO.")


def _images(data: object) -> np.ndarray:
    """[N, 3, 32, 32] from the rows of a batch. Raises ValueError for anything but bytes of that size."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.size % 3072:
        raise ValueError(f"data is {_what(data)}, expected uint8 [N, 3072]")
    return data.reshape(-1, 3, 32, 32)


def _labels(values: object, key: str, classes: int) -> np.ndarray:
    """int64 [N]. Raises ValueError for what are no whole numbers from 0 to `classes` - 1."""
    wrong = [v for v in values if type(v) is not int] if isinstance(values, list) else (
        not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or values.ndim != 1)
    if wrong:
        raise ValueError(f"{key} is {_what(values)}, expected whole numbers")
    labels = np.asarray(values, np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{key} goes from {labels.min()} to {labels.max()}, and there are {classes} classes from 0 on")
    return labels


def _what(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else brief(value)


@lru_cache(maxsize=2)
def _load(kind: type, path: Path, stamp: tuple[int, int]) -> dict[str, dict[str, np.ndarray] | list[str]]:
    """Both splits of the archive: ``images`` uint8 [N, 32, 32, 3] and one int64 [N] per kind of label."""
    files = _read_files(path, (*kind.batches["train"], *kind.batches["test"], kind.meta), kind.folder)
    names = read_batch(files[kind.meta], f"{path}: {kind.meta}")
    result: dict[str, dict[str, np.ndarray] | list[str]] = {}
    for split, batches in kind.batches.items():
        parts = [read_batch(files.pop(name), f"{path}: {name}") for name in batches]
        try:
            images = np.concatenate([_images(part["data"]) for part in parts])
            if not len(images):
                raise ValueError("they hold no image")
            arrays = {"images": np.ascontiguousarray(images.transpose(0, 2, 3, 1))}
            for label, (key, names_key) in kind.label_keys.items():
                result[f"{label}_names"] = [name.decode() if isinstance(name, bytes) else str(name)
                                            for name in names[names_key]]
                classes = len(result[f"{label}_names"])
                if classes > limits.limit("PPADAPT_MAX_CLASSES"):
                    raise ValueError(limits.beyond("PPADAPT_MAX_CLASSES", classes))
                arrays[label] = np.concatenate([_labels(part[key], key, classes) for part in parts])
                if len(arrays[label]) != len(images):
                    raise ValueError(f"{len(images)} images do not fit {len(arrays[label])} labels")
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{path}: the {split} batches do not hold {kind.__name__} "
                            f"({type(error).__name__}: {error}). Use the official archive.") from None
        result[split] = arrays
    return result


class CIFAR10(Dataset):
    """CIFAR-10: 50,000 and 10,000 images of 32 x 32 in 10 classes; order data_batch_1, data_batch_2, ...

    Args:
        root: the official ``.tar.gz``, its extracted folder, or a folder that holds either one (or where
            it is downloaded to); ``$PPADAPT_DATA`` or ``./dataset`` by default. A list is looked through in its order,
            a pattern (``/home/aistudio/data/*``) stands for what fits it. A file that is given is not checksummed, so
            a subset in the same format works.
        download: fetch the archive when it is not there.

    Raises:
        DataError: saying where the archive belongs and where it comes from, or what is wrong with it.
    """

    folder = "cifar-10-batches-py"
    archive = "cifar-10-python.tar.gz"
    md5 = "c58f30108f718f92721af3b95e74349a"
    batches: ClassVar = {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)}
    meta = "batches.meta"
    label_keys: ClassVar = {"label": ("labels", "label_names")}
    # Paddle's mirror first: it is the near one for AI Studio, where the project mostly runs.
    mirrors = ("https://dataset.bj.bcebos.com/cifar/", "https://www.cs.toronto.edu/~kriz/")
    label = "label"

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None,
                 root: Places = None, download: bool = True) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        path = self._find(root, download)
        stat = path.stat()
        arrays = _load(type(self), path.resolve(), (stat.st_size, stat.st_mtime_ns))
        self.classes: list[str] = list(arrays[f"{self.label}_names"])
        self.images: np.ndarray = arrays[split]["images"][:limit]
        self.labels: np.ndarray = arrays[split][self.label][:limit]

    def _find(self, given: Places, fetch: bool) -> Path:
        root = first(given, lambda place: self._at(place) is not None)
        found = self._at(root)
        if found is not None:
            return found
        urls = [mirror + self.archive for mirror in self.mirrors]
        named = root.name.endswith((".gz", ".tgz", ".tar"))
        target = root if named else root / self.archive
        if not fetch or target.name != self.archive:
            raise DataError(
                f"{type(self).__name__} is not at {root}{others(given, root)}. Put {self.archive} or the folder "
                f"{self.folder} there (from {' or '.join(urls)}), set root to where it is, or set download: True.")
        return download(urls, target, self.md5)

    def _at(self, place: Path) -> Path | None:
        """The archive or its folder, at a place or in it."""
        if place.is_file() or (place / self.meta).is_file():
            return place
        folder, archive = place / self.folder, place / self.archive
        return folder if (folder / self.meta).is_file() else archive if archive.is_file() else None


class CIFAR100(CIFAR10):
    """CIFAR-100: 50,000 and 10,000 images of 32 x 32 in 100 classes.

    Args:
        label: "fine" (100 classes) or "coarse" (20); the rest is as in CIFAR10.
    """

    folder = "cifar-100-python"
    archive = "cifar-100-python.tar.gz"
    md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    batches: ClassVar = {"train": ("train",), "test": ("test",)}
    meta = "meta"
    label_keys: ClassVar = {"fine": ("fine_labels", "fine_label_names"),
                            "coarse": ("coarse_labels", "coarse_label_names")}

    def __init__(self, split: str = "train", transform: Optional[list] = None, seed: int = 0,
                 on_error: str = "raise", limit: Optional[Count] = None,
                 root: Places = None, download: bool = True, label: str = "fine") -> None:
        if label not in self.label_keys:
            raise DataError(choose("CIFAR100.label", label, self.label_keys))
        self.label = label
        super().__init__(split, transform, seed, on_error, limit, root, download)
