"""PyTorch checkpoints without PyTorch: the zip format (1.6 and later) and the legacy pickle before it.

Layouts as in PyTorch's torch/serialization.py. A tensor stays a `LazyTensor` until its values are asked
for, and then is a view of the mapped file: an optimizer state three times the network's size costs nothing.
"""

from __future__ import annotations

import struct
from typing import Any, Callable

import numpy as np

from ...errors import brief
from ...pickles import Mark, StandInFunction
from ..errors import UnsafeCheckpointError, WeightsError
from ..raw import RawCheckpoint, from_object
from .dtypes import DTYPES, STORAGES, widen_bfloat16
from .mapped import map_file, read_pickle
from .zip_file import ZipFile

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
MAX_DIMENSIONS = 32  # numpy's own
QUANTISED = ("QInt8Storage", "QUInt8Storage", "QInt32Storage")


class Storage:
    """A block of bytes of the file that tensors share; `read` gives it as uint8."""

    __slots__ = ("dtype", "nbytes", "order", "read")

    def __init__(self, dtype: str | None, nbytes: int, order: str, read: Callable[[], np.ndarray]):
        self.dtype, self.nbytes, self.order, self.read = dtype, nbytes, order, read


class LazyTensor:
    """A strided window into a `Storage`: offset and strides in elements."""

    __slots__ = ("dtype", "offset", "shape", "storage", "strides")

    def __init__(self, storage: Storage, dtype: str, offset: int, shape: tuple[int, ...],
                 strides: tuple[int, ...]):
        told = f"a tensor with offset {brief(offset)}, shape {brief(shape)}, strides {brief(strides)}"
        if not isinstance(storage, Storage) or dtype not in DTYPES:
            raise ValueError(f"{told} over {brief(storage)} of dtype {brief(dtype)}")
        numbers = (offset, *shape, *strides)
        if (len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS
                or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)):
            raise ValueError(told)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides))
        count, size = int(np.prod(shape, dtype=object)) if shape else 1, np.dtype(DTYPES[dtype]).itemsize
        if count and (last + 1) * size > storage.nbytes:
            raise ValueError(f"{told} reaches beyond its storage of {storage.nbytes} bytes")
        self.storage, self.dtype, self.offset = storage, dtype, offset
        self.shape, self.strides = shape, strides

    @property
    def nbytes(self) -> int:
        """As numbers in memory: an expanded tensor is more than its few bytes on disk."""
        size = 4 if self.dtype == "bfloat16" else np.dtype(DTYPES[self.dtype]).itemsize
        return size * (int(np.prod(self.shape, dtype=object)) if self.shape else 1)

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


def _not_plain(what: str) -> StandInFunction:
    def refuse(*_: Any) -> None:
        raise WeightsError(f"it holds {what} tensors, with which nothing is computed here: give the file in float32, "
                           "float16 or bfloat16")

    return StandInFunction(refuse)


def _rebuild_v3(storage: Storage, offset: int, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any,
                *_: Any) -> LazyTensor:
    if not isinstance(dtype, str):
        raise TypeError(f"dtype {brief(dtype)}")
    if "float8" in dtype:
        raise WeightsError(f"it holds tensors of {dtype}, with which nothing is computed here: give the file in "
                           "float32, float16 or bfloat16")
    return LazyTensor(storage, str(dtype).replace("torch.", ""), offset, tuple(shape), tuple(strides))


def _first(tensor: LazyTensor, *_: Any) -> LazyTensor:
    if not isinstance(tensor, LazyTensor):
        raise TypeError("a parameter that is no tensor")
    return tensor


def _from_type(function: Any, _type: Any, args: Any, _state: Any) -> LazyTensor:
    if function not in _REBUILDERS or not isinstance(args, tuple):
        raise TypeError(f"a tensor made by {brief(function)}")
    return _first(function.call(None, *args))


_REBUILDERS = [StandInFunction(f) for f in (_rebuild, _rebuild_v3, _first)]
TORCH: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _REBUILDERS[0],
    "torch._utils._rebuild_tensor_v2": _REBUILDERS[0],
    "torch._utils._rebuild_tensor_v3": _REBUILDERS[1],
    "torch._utils._rebuild_parameter": _REBUILDERS[2],
    "torch._utils._rebuild_parameter_with_state": _REBUILDERS[2],
    "torch._tensor._rebuild_from_type_v2": StandInFunction(_from_type),
    "torch._utils._rebuild_qtensor": _not_plain("quantised"),
    **{f"torch._utils._rebuild_sparse{kind}_tensor": _not_plain("sparse") for kind in ("", "_csr")},
    "torch.serialization._get_layout": StandInFunction(lambda name: str(name)),
    **{f"torch.{name}": Mark(f"torch.{name}") for name in (
        "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "qint8", "quint8",
        "qint32", "per_tensor_affine", "per_channel_affine")},
    **{f"torch.{name}": Mark(name) for name in QUANTISED},
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
        raise UnsafeCheckpointError(f"{path}: refused a pickled {brief(what)}: it holds a whole nn.Module, not "
                                    "weights alone. Save model.state_dict() instead")
    kind, key, numel = pid[1], pid[2], pid[4]
    if kind in QUANTISED:
        raise WeightsError(f"{path} holds quantised tensors ({kind}), with which nothing is computed here: give the "
                           "file in float32, float16 or bfloat16")
    if kind not in STORAGES and kind != "UntypedStorage":
        raise WeightsError(f"{path}: storage type {brief(kind)} is not supported; choose from: "
                           f"{', '.join(STORAGES)}")
    if not isinstance(key, (str, int)) or type(numel) is not int or numel < 0:
        raise ValueError(f"storage {brief(key)} of {brief(numel)} elements")
    dtype = STORAGES.get(kind)
    return dtype, str(key), numel * (np.dtype(DTYPES[dtype]).itemsize if dtype else 1)


def read_zip(path: str, archive: ZipFile) -> RawCheckpoint:
    """Reads what `torch.save` writes since PyTorch 1.6. Raises WeightsError, UnsafeCheckpointError."""
    pickles = [name for name in archive.entries if name.rpartition("/")[2] == "data.pkl"]
    root = pickles[0][:-len("data.pkl")]
    if root + "constants.pkl" in archive.entries:
        raise WeightsError(f"{path} is a TorchScript archive (torch.jit.save), which holds code. Save the "
                           "weights alone: torch.save(torch.jit.load(...).state_dict(), ...)")
    order = "<"
    if root + "byteorder" in archive.entries:
        text = archive.read(root + "byteorder")[:16].tobytes().strip()
        if text not in (b"little", b"big"):
            raise WeightsError(f"{path}: byte order {text!r} is unknown; expected little or big")
        order = "<" if text == b"little" else ">"
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        dtype, key, nbytes = _describe(pid, path)
        if key not in storages:
            name = f"{root}data/{key}"
            if name not in archive.entries or archive.size(name) < nbytes:
                raise WeightsError(f"{path} is damaged: storage {key} is missing or short; get the file "
                                   "again")
            storages[key] = Storage(dtype, nbytes, order, _once(lambda: archive.read(name)[:nbytes]))
        elif storages[key].dtype != dtype:  # two dtypes over one storage
            return Storage(dtype, min(nbytes, storages[key].nbytes), order, storages[key].read)
        return storages[key]

    tree = read_pickle(archive.read(pickles[0]), path, TORCH, persistent)[0]
    return from_object(tree, "torch-zip", path)


def _once(read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """Many tensors may share a storage: it is unpacked, and its checksum compared, once."""
    kept: list[np.ndarray] = []

    def first() -> np.ndarray:
        if not kept:
            kept.append(read())
        return kept[0]

    return first


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
        if not all(type(n) is int and n >= 0 for n in (offset, numel)):
            raise ValueError(f"a view of {brief(numel)} elements from {brief(offset)}")
        size = np.dtype(DTYPES[dtype]).itemsize if dtype else 1
        whole, end = storages[key], offset + numel
        if end * size > whole.nbytes:
            raise ValueError("a view beyond its storage")
        return Storage(dtype, numel * size, order, lambda: whole.read()[offset * size:end * size])

    at, head = 0, []
    for _ in range(3):
        part, at = read_pickle(mapped, path, start=at)
        head.append(part)
    magic, protocol, system = head
    if magic != LEGACY_MAGIC or protocol != 1001 or not isinstance(system, dict):
        raise WeightsError(f"{path}: legacy PyTorch file of protocol {brief(protocol)}; only 1001 exists")
    order = "<" if system.get("little_endian", True) else ">"
    tree, at = read_pickle(mapped, path, TORCH, persistent, start=at)
    keys, at = read_pickle(mapped, path, start=at)
    _locate(mapped, at, path, keys, storages, where, order)
    return from_object(tree, "torch-legacy", path)


def _locate(mapped: np.ndarray, at: int, path: str, keys: Any, storages: dict[str, Storage],
            where: dict[str, tuple[int, int]], order: str) -> None:
    for key in keys if isinstance(keys, list) else ():
        head = mapped[at:at + 8].tobytes()
        storage = storages.get(key if isinstance(key, str) else brief(key))
        if storage is None or len(head) < 8:
            raise WeightsError(f"{path} is cut short or damaged at storage {brief(key)}; get the file again")
        item = np.dtype(DTYPES[storage.dtype]).itemsize if storage.dtype else 1
        size, start = struct.unpack(order + "q", head)[0] * item, at + 8
        if size < storage.nbytes or start + size > len(mapped):
            raise WeightsError(f"{path} is cut short: storage {brief(key)} needs {size} bytes from {start}, the "
                               f"file has {len(mapped)}; get it again")
        where[str(key)] = (start, size)
        at = start + size
    missing = set(storages) - set(where)
    if missing:
        raise WeightsError(f"{path} is damaged: {len(missing)} of its storages are not in the file; get it "
                           "again")
