"""Writes a .pth as `torch.save` does, without PyTorch: a zip of one pickle and the raw storages."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...files import atomic_write
from ..errors import WeightsError
from .dtypes import DTYPES, STORAGES
from .pickle_write import Call, Global, Persistent, dump

ALIGNMENT = 64  # torch aligns storages so that they can be mapped
_STORAGE_OF = {DTYPES[dtype]: name for name, dtype in STORAGES.items() if dtype != "bfloat16"}


def write_torch(path: str, tensors: Mapping[str, np.ndarray],
                extras: Mapping[str, Any] | None = None, wrapped: bool = True) -> None:
    """Writes `{'model': tensors, **extras}`, or the tensors alone, readable by `torch.load(path, weights_only=True)`.

    `tensors`: already in PyTorch's names and layout (see `to_authors`); `extras`: plain data.
    Raises WeightsError on a dtype that torch has no storage for; the old file then stays.
    """
    arrays: dict[str, np.ndarray] = {}
    model: dict[str, Any] = {}
    for number, (name, array) in enumerate(tensors.items()):
        code = array.dtype.str.lstrip("<>|=")
        code = "?" if code == "b1" else code
        if code not in _STORAGE_OF:
            raise WeightsError(f"{name} has dtype {array.dtype}, which a PyTorch storage does not hold; "
                               f"choose from: {', '.join(sorted(_STORAGE_OF))}")
        kind = Global("torch", _STORAGE_OF[code])
        storage = Persistent(("storage", kind, str(number), "cpu", int(array.size)))
        strides = [int(np.prod(array.shape[axis + 1:], dtype=np.int64)) for axis in range(array.ndim)]
        hooks = Call(Global("collections", "OrderedDict"), ())
        model[name] = Call(Global("torch._utils", "_rebuild_tensor_v2"),
                           (storage, 0, tuple(map(int, array.shape)), tuple(strides), False, hooks))
        arrays[str(number)] = array
    pickled = io.BytesIO()
    dump(pickled, {"model": model, **(extras or {})} if wrapped else model, protocol=2)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, file, "archive/data.pkl", pickled.getvalue())
        _add(archive, file, "archive/byteorder", b"little")
        for key, array in arrays.items():
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            _add(archive, file, f"archive/data/{key}", memoryview(little.reshape(-1)).cast("B"))
        _add(archive, file, "archive/version", b"3\n")


def _add(archive: zipfile.ZipFile, file: Any, name: str, data: Any) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # a fixed date: same tensors, same file
    info.file_size = len(data)
    start = file.tell() + 30 + len(name) + 4
    padding = -start % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=False) as stream:
        stream.write(data)
