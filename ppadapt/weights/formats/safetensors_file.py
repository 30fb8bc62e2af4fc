"""`.safetensors`: 8 bytes of header length, a JSON header, raw little-endian tensors.

Read and written here rather than by the safetensors package because its numpy side has no bfloat16 and
copies every tensor at once when it writes. Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from ...files import atomic_write
from ..errors import WeightsError
from ..raw import RawCheckpoint
from .safe_pickle import widen_bfloat16
from .torch_file import map_file

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
CODES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
MAX_HEADER = 100_000_000  # the format's own limit


def looks_like_safetensors(start: bytes) -> bool:
    """True when the first bytes of a file are a header length and the brace that opens the JSON."""
    return len(start) > 8 and struct.unpack("<Q", start[:8])[0] <= MAX_HEADER and start[8:9] == b"{"


def read_safetensors(path: str) -> RawCheckpoint:
    """Tensors as read-only views of the mapped file; the `__metadata__` strings become `extras`."""
    mapped = map_file(path)
    header, begin = _header(path, mapped)
    metadata = header.pop("__metadata__", None) or {}
    raw = RawCheckpoint({}, "safetensors", path, extras=dict(metadata))
    for name, entry in header.items():
        try:
            dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            good = all(isinstance(n, int) and n >= 0 for n in (*shape, first, last))
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise WeightsError(f"{path} is damaged: its header describes {name} as {str(entry)[:80]}; get "
                               "it again")
        if dtype not in DTYPES:
            raise WeightsError(f"{path}: {name} has dtype {dtype}; choose from: {', '.join(DTYPES)}")
        code = np.dtype(DTYPES[dtype])
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if begin + last > len(mapped):
            raise WeightsError(f"{path} is cut short: {name} ends at byte {begin + last}, the file has "
                               f"{len(mapped)}; get it again")
        if last - first != count * code.itemsize:
            raise WeightsError(f"{path} is damaged: {name} of shape {list(shape)} has {last - first} bytes; "
                               "get it again")
        array = np.frombuffer(mapped, code, count, begin + first) if count else np.zeros(0, code)
        raw.tensors[name] = (widen_bfloat16(array) if dtype == "BF16" else array).reshape(shape)
    return raw


def _header(path: str, mapped: np.ndarray) -> tuple[dict[str, Any], int]:
    length = struct.unpack("<Q", mapped[:8].tobytes())[0]
    if 8 + length > len(mapped):
        raise WeightsError(f"{path} is cut short: its header needs {8 + length} bytes, the file has "
                           f"{len(mapped)}; get it again")
    try:
        header = json.loads(mapped[8:8 + length].tobytes().decode("utf-8"))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__") or {}, dict):
        raise WeightsError(f"{path} begins like .safetensors, but its header is not the JSON it should be; "
                           "get it again")
    return header, 8 + length


def save_safetensors(path: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None,
                     progress: Callable[[str], None] | None = None) -> None:
    """Writes `tensors` with string `metadata`; `path` is replaced whole or not at all.

    The same tensors give the same bytes. Raises WeightsError on a dtype that the format lacks.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    header: dict[str, Any] = {"__metadata__": {str(k): str(v) for k, v in (metadata or {}).items()}}
    # Wide dtypes first, as the safetensors package does: every tensor is then aligned.
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    end = 0
    for name in names:
        array = arrays[name]
        code = CODES.get(array.dtype.newbyteorder("<") if array.dtype.kind in "iuf" else array.dtype)
        if code is None:
            raise WeightsError(f"{name} has dtype {array.dtype}; .safetensors holds: {', '.join(DTYPES)}")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": code, "shape": [int(n) for n in array.shape], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            if progress:
                progress(name)
            array = arrays[name]
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            file.write(memoryview(little.reshape(-1)).cast("B"))
