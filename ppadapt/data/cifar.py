"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the official archives, without running their pickles."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import Dataset, data_home
from .download import download
from .errors import DataError, choose

# The functions a pickled array is rebuilt by: numpy 2 moved their module and warns at the old name.
_ARRAY = {"_reconstruct": np.empty(0).__reduce__()[0], "scalar": np.float32(0).__reduce__()[0]}
_ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class _PlainUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain data, and refuses every other name before anything is called."""

    def find_class(self, module: str, name: str) -> object:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in _ARRAY:
            return _ARRAY[name]
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}, which no CIFAR batch needs")
        return super().find_class(module, name)


def read_batch(data: bytes, name: str) -> dict[str, object]:
    """One pickled batch as plain data with str keys.

    Raises:
        DataError: when it is damaged, or holds anything but arrays and plain data (nothing is run).
    """
    try:
        batch = _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    except Exception as error:
        raise DataError(f"{name} is not a CIFAR batch ({type(error).__name__}: {error}). "
                        "Use the files of the official archive.") from None


def _read_files(path: Path, wanted: tuple[str, ...], folder: str) -> dict[str, bytes]:
    """The wanted files of an archive or an extracted folder, read once."""
    found: dict[str, bytes] = {}
    if path.is_dir():
        found = {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
        seen = sorted(p.name for p in path.iterdir())[:5]
    else:
        seen = []
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = Path(member.name).name
                    seen.append(member.name)
                    if member.isfile() and name in wanted and Path(member.name).parent.name == folder:
                        found[name] = archive.extractfile(member).read()
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path} is damaged or no tar archive ({type(error).__name__}: {error}). "
                            "Remove it to have it downloaded again.") from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)} of {folder} (it holds {', '.join(seen[:5])}...). "
                        f"Give the official archive or its extracted folder {folder}.")
    return found


@lru_cache(maxsize=2)
def _load(kind: type, path: Path, stamp: tuple[int, int]) -> dict[str, dict[str, np.ndarray] | list[str]]:
    """Both splits of the archive: ``images`` uint8 [N, 32, 32, 3] and one int64 [N] per kind of label."""
    files = _read_files(path, (*kind.batches["train"], *kind.batches["test"], kind.meta), kind.folder)
    names = read_batch(files[kind.meta], f"{path}: {kind.meta}")
    result: dict[str, dict[str, np.ndarray] | list[str]] = {}
    for split, batches in kind.batches.items():
        parts = [read_batch(files.pop(name), f"{path}: {name}") for name in batches]
        try:
            flat = np.concatenate([np.asarray(part["data"], np.uint8) for part in parts])
            images = flat.reshape(-1, 3, 32, 32)
            arrays = {"images": np.ascontiguousarray(images.transpose(0, 2, 3, 1))}
            for label, (key, names_key) in kind.label_keys.items():
                arrays[label] = np.concatenate([np.asarray(part[key], np.int64) for part in parts])
                result[f"{label}_names"] = [name.decode() if isinstance(name, bytes) else str(name)
                                            for name in names[names_key]]
                if len(arrays[label]) != len(images) or arrays[label].max() >= len(result[f"{label}_names"]):
                    raise ValueError(f"{len(images)} images do not fit {len(arrays[label])} labels")
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path}: the {split} batches do not hold {kind.__name__} "
                            f"({type(error).__name__}: {error}). Use the official archive.") from None
        result[split] = arrays
    return result


class CIFAR10(Dataset):
    """CIFAR-10: 50,000 and 10,000 images of 32 x 32 in 10 classes; order data_batch_1, data_batch_2, ...

    Args:
        root: the official ``.tar.gz``, its extracted folder, or a folder that holds either one (or where
            it is downloaded to); ``$PPADAPT_DATA`` or ``./dataset`` by default. A file that is given is not
            checksummed, so a subset in the same format works.
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

    def __init__(self, split: str = "train", transform: list | None = None, seed: int = 0,
                 on_error: str = "raise", limit: int | None = None,
                 root: str | os.PathLike | None = None, download: bool = True) -> None:
        super().__init__(split, transform, seed, on_error, limit)
        path = self._find(data_home(root), download)
        stat = path.stat()
        arrays = _load(type(self), path.resolve(), (stat.st_size, stat.st_mtime_ns))
        self.classes: list[str] = list(arrays[f"{self.label}_names"])
        self.images: np.ndarray = arrays[split]["images"][:limit]
        self.labels: np.ndarray = arrays[split][self.label][:limit]

    def _find(self, root: Path, fetch: bool) -> Path:
        if root.is_file() or (root / self.meta).is_file():
            return root
        for name in (self.folder, self.archive):
            if (root / name / self.meta).is_file() or (name == self.archive and (root / name).is_file()):
                return root / name
        urls = [mirror + self.archive for mirror in self.mirrors]
        named = root.name.endswith((".gz", ".tgz", ".tar"))
        target = root if named else root / self.archive
        if not fetch or target.name != self.archive:
            raise DataError(
                f"{type(self).__name__} is not at {root}. Put {self.archive} or the folder {self.folder} "
                f"there (from {' or '.join(urls)}), set root to where it is, or set download: True.")
        return download(urls, target, self.md5)


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

    def __init__(self, split: str = "train", transform: list | None = None, seed: int = 0,
                 on_error: str = "raise", limit: int | None = None,
                 root: str | os.PathLike | None = None, download: bool = True, label: str = "fine") -> None:
        if label not in self.label_keys:
            raise DataError(choose("CIFAR100.label", label, self.label_keys))
        self.label = label
        super().__init__(split, transform, seed, on_error, limit, root, download)
