"""PyTorch checkpoints without PyTorch: the zip format (1.6 and later) and the legacy pickle before it.

Layouts as in PyTorch's torch/serialization.py. A tensor stays a `LazyTensor` until its values are asked
for, and then is a view of the mapped file: an optimizer state three times the network's size costs nothing.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any, BinaryIO, Callable

import numpy as np

from ..errors import UnsafeCheckpointError, WeightsError
from ..raw import RawCheckpoint, from_object
from .safe_pickle import DTYPES, STORAGES, Mark, SafeUnpickler, _Callable, widen_bfloat16

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
MAX_BROADCAST = 1 << 28  # elements of an expanded tensor: a few bytes on disk may claim any size


class Storage:
    """A block of bytes of the file that tensors share; `read` gives it as uint8."""

    __slots__ = ("dtype", "nbytes", "order", "read")

    def __init__(self, dtype: str | None, nbytes: int, order: str, read: Callable[[], np.ndarray]):
        self.dtype, self.nbytes, self.order, self.read = dtype, nbytes, order, read

    def __setstate__(self, state: Any) -> None:
        raise UnsafeCheckpointError("refused to alter a storage")


class LazyTensor:
    """A strided window into a `Storage`: offset and strides in elements."""

    __slots__ = ("dtype", "offset", "shape", "storage", "strides")

    def __init__(self, storage: Storage, dtype: str, offset: int, shape: tuple[int, ...],
                 strides: tuple[int, ...]):
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError(f"tensor with offset {offset}, shape {shape}, strides {strides}")
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
        count, size = int(np.prod(shape, dtype=object)) if shape else 1, np.dtype(DTYPES[dtype]).itemsize
        if count and (last + 1) * size > storage.nbytes:
            raise ValueError(f"tensor of shape {shape} reaches beyond its storage of {storage.nbytes} bytes")
        if count * size > max(storage.nbytes, MAX_BROADCAST):
            raise ValueError(f"tensor of shape {shape} over a storage of only {storage.nbytes} bytes")
        self.storage, self.dtype, self.offset = storage, dtype, offset
        self.shape, self.strides = shape, strides

    def __setstate__(self, state: Any) -> None:
        raise UnsafeCheckpointError("refused to alter a tensor")

    def numpy(self) -> np.ndarray:
        """The values: a read-only view of the file, or float32 widened from bfloat16."""
        dtype = np.dtype(DTYPES[self.dtype]).newbyteorder(self.storage.order)
        if 0 in self.shape:
            array = np.zeros(self.shape, dtype)
        else:
            data, size = self.storage.read(), dtype.itemsize
            flat = np.frombuffer(data, dtype, len(data) // size)[self.offset:]
            if sum((n - 1) * s for n, s in zip(self.shape, self.strides)) >= flat.size:
                raise WeightsError(f"its storage has {len(data)} bytes, too few for a tensor of shape "
                                   f"{self.shape}")
            strides = [s * size for s in self.strides]
            array = np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)
        return widen_bfloat16(array) if self.dtype == "bfloat16" else array


def _rebuild(storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> LazyTensor:
    if storage.dtype is None:
        raise ValueError("an untyped storage without a dtype")
    return LazyTensor(storage, storage.dtype, offset, tuple(shape), tuple(strides))


def _rebuild_v3(storage: Storage, offset: int, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any,
                *_: Any) -> LazyTensor:
    return LazyTensor(storage, str(dtype).replace("torch.", ""), offset, tuple(shape), tuple(strides))


def _first(tensor: LazyTensor, *_: Any) -> LazyTensor:
    if not isinstance(tensor, LazyTensor):
        raise TypeError("a parameter that is no tensor")
    return tensor


def _from_type(function: Any, _type: Any, args: Any, _state: Any) -> LazyTensor:
    return _first(function(*args))


TORCH: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _Callable(_rebuild),
    "torch._utils._rebuild_tensor_v2": _Callable(_rebuild),
    "torch._utils._rebuild_tensor_v3": _Callable(_rebuild_v3),
    "torch._utils._rebuild_parameter": _Callable(_first),
    "torch._utils._rebuild_parameter_with_state": _Callable(_first),
    "torch._tensor._rebuild_from_type_v2": _Callable(_from_type),
    **{f"torch.{name}": Mark(name) for name in STORAGES},
    **{f"torch.storage.{name}": Mark(name) for name in (*STORAGES, "UntypedStorage")},
    **{f"torch.{name}": Mark(f"torch.{name}") for name in DTYPES},
    "torch.UntypedStorage": Mark("UntypedStorage"),
    "torch.nn.parameter.Parameter": Mark("torch.nn.Parameter"),
    "torch.Tensor": Mark("torch.Tensor"),
}


def _describe(pid: Any, path: str) -> tuple[str | None, str, int]:
    """A persistent id -> (dtype or None, storage key, bytes). Raises on anything but a storage."""
    if not isinstance(pid, tuple) or not pid or pid[0] != "storage":
        what = pid[0] if isinstance(pid, tuple) and pid else pid
        raise UnsafeCheckpointError(f"{path}: refused a pickled {what!r}: it holds a whole nn.Module, not "
                                    "weights alone. Save model.state_dict() instead")
    kind, key, numel = str(pid[1]), pid[2], pid[4]
    if kind not in STORAGES and kind != "UntypedStorage":
        raise WeightsError(f"{path}: storage type {kind} is not supported; choose from: "
                           f"{', '.join(STORAGES)}")
    if not isinstance(numel, int) or numel < 0:
        raise ValueError(f"a storage of {numel!r} elements")
    dtype = STORAGES.get(kind)
    return dtype, str(key), numel * (np.dtype(DTYPES[dtype]).itemsize if dtype else 1)


def map_file(path: str) -> np.ndarray:
    """The file's bytes, mapped: read from disk when touched."""
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)


def read_zip(path: str, archive: zipfile.ZipFile) -> RawCheckpoint:
    """Reads what `torch.save` writes since PyTorch 1.6. Raises WeightsError, UnsafeCheckpointError."""
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    root = pickles[0][:-len("data.pkl")]
    if root + "constants.pkl" in entries:
        raise WeightsError(f"{path} is a TorchScript archive (torch.jit.save), which holds code. Save the "
                           "weights alone: torch.save(torch.jit.load(...).state_dict(), ...)")
    order = "<"
    if root + "byteorder" in entries:
        text = archive.read(root + "byteorder").strip()
        if text not in (b"little", b"big"):
            raise WeightsError(f"{path}: byte order {text!r} is unknown; expected little or big")
        order = "<" if text == b"little" else ">"
    mapped = map_file(path)
    storages: dict[str, Storage] = {}

    def entry(info: zipfile.ZipInfo) -> np.ndarray:
        if info.compress_type != zipfile.ZIP_STORED:  # torch never compresses, a tool that re-zips does
            return np.frombuffer(archive.read(info), np.uint8)
        head = mapped[info.header_offset:info.header_offset + 30].tobytes()
        if head[:4] != b"PK\x03\x04":
            raise WeightsError(f"{path} is damaged: no entry {info.filename} where its directory says; get "
                               "it again")
        start = info.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        if start + info.file_size > len(mapped):
            raise WeightsError(f"{path} is cut short: entry {info.filename} reaches beyond its end; get it "
                               "again")
        return mapped[start:start + info.file_size]

    def persistent(pid: Any) -> Storage:
        dtype, key, nbytes = _describe(pid, path)
        if key not in storages:
            info = entries.get(f"{root}data/{key}")
            if info is None or info.file_size < nbytes:
                raise WeightsError(f"{path} is damaged: storage {key} is missing or short; get the file "
                                   "again")
            storages[key] = Storage(dtype, nbytes, order, lambda: entry(info)[:nbytes])
        elif storages[key].dtype != dtype:  # two dtypes over one storage
            return Storage(dtype, min(nbytes, storages[key].nbytes), order, storages[key].read)
        return storages[key]

    with archive.open(pickles[0]) as stream:
        tree = SafeUnpickler(io.BytesIO(stream.read()), path, TORCH, persistent).read()
    return from_object(tree, "torch-zip", path)


def read_legacy(path: str) -> RawCheckpoint:
    """Reads the format before PyTorch 1.6: magic, protocol, system, object, then the storages."""
    storages: dict[str, Storage] = {}
    where: dict[str, tuple[int, int]] = {}
    mapped = map_file(path)
    order = "<"

    def persistent(pid: Any) -> Storage:
        dtype, key, nbytes = _describe(pid, path)
        if key not in storages:
            def read() -> np.ndarray:
                start, size = where[key]
                return mapped[start:start + size]
            storages[key] = Storage(dtype, nbytes, order, read)
        view = pid[5] if len(pid) > 5 else None
        if view is None:
            return storages[key]
        # A storage that is a window of another one: files before PyTorch 0.4.
        _, offset, numel = view
        size = np.dtype(DTYPES[dtype]).itemsize if dtype else 1
        whole, end = storages[key], offset + numel
        if offset < 0 or end * size > whole.nbytes:
            raise ValueError("a view beyond its storage")
        return Storage(dtype, numel * size, order, lambda: whole.read()[offset * size:end * size])

    with open(path, "rb") as file:
        magic, protocol, system = (SafeUnpickler(file, path).read() for _ in range(3))
        if magic != LEGACY_MAGIC or protocol != 1001 or not isinstance(system, dict):
            raise WeightsError(f"{path}: legacy PyTorch file of protocol {protocol!r}; only 1001 exists")
        order = "<" if system.get("little_endian", True) else ">"
        tree = SafeUnpickler(file, path, TORCH, persistent).read()
        keys = SafeUnpickler(file, path).read()
        _locate(file, path, keys, storages, where, order, len(mapped))
    return from_object(tree, "torch-legacy", path)


def _locate(file: BinaryIO, path: str, keys: Any, storages: dict[str, Storage],
            where: dict[str, tuple[int, int]], order: str, total: int) -> None:
    for key in keys if isinstance(keys, list) else ():
        head = file.read(8)
        storage = storages.get(str(key))
        if storage is None or len(head) < 8:
            raise WeightsError(f"{path} is cut short or damaged at storage {key}; get the file again")
        item = np.dtype(DTYPES[storage.dtype]).itemsize if storage.dtype else 1
        size, start = struct.unpack(order + "q", head)[0] * item, file.tell()
        if size < storage.nbytes or start + size > total:
            raise WeightsError(f"{path} is cut short: storage {key} needs {size} bytes from {start}, the "
                               f"file has {total}; get it again")
        where[str(key)] = (start, size)
        file.seek(start + size)
    missing = set(storages) - set(where)
    if missing:
        raise WeightsError(f"{path} is damaged: {len(missing)} of its storages are not in the file; get it "
                           "again")
