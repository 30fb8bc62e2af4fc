"""`.safetensors`: 8 bytes of header length, a JSON header, raw little-endian tensors.

Read and written here rather than by the safetensors package because its numpy side has no bfloat16 and
copies every tensor at once when it writes. Format: https://github.com/huggingface/safetensors; what that
package refuses (names twice, overlaps, holes, bytes that belong to nothing) is refused here.

A file that is written here carries the SHA-256 of all its bytes in the metadata, and is compared with it
when it is read. While it is computed its own place in the header holds zeros.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from ... import limits
from ...errors import brief
from ...files import atomic_write
from ...limits import NO_VERIFY, verifying
from ..errors import WeightsError
from ..raw import RawCheckpoint, check_size
from .dtypes import widen_bfloat16
from .mapped import map_file

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
CODES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
MAX_HEADER = 100_000_000  # the format's own limit
MAX_DIMENSIONS = 32  # numpy's own
MAX_DIGITS = 20  # of a number in the header: Python before 3.11 takes hours over millions of digits
LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
SEAL = "ppadapt.sha256"  # the key in the metadata, always the first of the header
_SEALED = f'{{"__metadata__":{{"{SEAL}":"'.encode()
_AT = 8 + len(_SEALED)  # where the 64 digits lie
_NO_SUM = "0" * 64


def looks_like_safetensors(start: bytes) -> bool:
    """True when the first bytes of a file are a header length and the brace that opens the JSON."""
    return len(start) > 8 and struct.unpack("<Q", start[:8])[0] <= MAX_HEADER and start[8:9] == b"{"


def read_safetensors(path: str) -> RawCheckpoint:
    """Tensors as read-only views of the mapped file; the `__metadata__` strings become `extras`.

    Raises WeightsError for a file that the safetensors package refuses too, for tensors that are more than a file
    of its size may become, and where the checksum is another.
    """
    mapped = map_file(path)
    raw = parse(mapped, path)
    verify(mapped, path)
    return raw


def parse(mapped: np.ndarray, path: str) -> RawCheckpoint:
    """As `read_safetensors`, of the bytes of a file, which are not compared with their checksum."""
    header, begin = _header(path, mapped)
    metadata = header.pop("__metadata__", None) or {}
    raw = RawCheckpoint({}, "safetensors", path, extras=dict(metadata))
    at = begin
    for name, (code, shape, first, last) in sorted(
            ((name, _entry(name, entry, path)) for name, entry in header.items()), key=lambda item: item[1][2:]):
        if begin + last > len(mapped):
            raise WeightsError(f"{path} is cut short: {name} ends at byte {begin + last}, the file has "
                               f"{len(mapped)}; get it again")
        if begin + first != at:
            raise WeightsError(f"{path} is damaged: {name} begins at byte {begin + first}, where {at} is next (tensors "
                               "may not overlap or leave holes); get it again")
        at = begin + last
        array = np.frombuffer(mapped, code, (last - first) // code.itemsize, begin + first) if last > first else (
            np.zeros(0, code))
        raw.tensors[name] = array.reshape(shape)
    if at != len(mapped):
        raise WeightsError(f"{path} is damaged: its tensors end at byte {at}, the file has {len(mapped)}; get it again")
    check_size(raw.tensors, path)
    raw.extras.pop(SEAL, None)
    raw.tensors = {name: widen_bfloat16(raw.tensors[name]) if header[name]["dtype"] == "BF16" else raw.tensors[name]
                   for name in header}
    return raw


def read_outline(path: str) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The `__metadata__` strings and the shapes of the tensors: the header is read, no tensor, and nothing is compared
    with the checksum.
    """
    header = _header(path, map_file(path))[0]
    metadata = header.pop("__metadata__", None) or {}
    shapes = {name: _entry(name, entry, path)[1] for name, entry in header.items()}
    return {key: value for key, value in metadata.items() if key != SEAL}, shapes


def _entry(name: str, entry: Any, path: str) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """(dtype, shape, first byte, byte after the last) of a tensor as the header describes it."""
    try:
        dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        good = isinstance(dtype, str) and all(type(n) is int and 0 <= n < 1 << 53 for n in (*shape, first, last))
    except (KeyError, TypeError, ValueError):
        good = False
    if not good or len(shape) > MAX_DIMENSIONS or math.prod(n or 1 for n in shape) >= 1 << 60:
        raise WeightsError(f"{path} is damaged: its header describes {name} as {brief(entry)}; get it again")
    if dtype not in DTYPES:
        raise WeightsError(f"{path}: {name} has dtype {brief(dtype)}; choose from: {', '.join(DTYPES)}")
    code = np.dtype(DTYPES[dtype])
    if last - first != math.prod(shape) * code.itemsize:
        raise WeightsError(f"{path} is damaged: {name} of shape {list(shape)} has {last - first} bytes; "
                           "get it again")
    return code, shape, first, last


def _header(path: str, mapped: np.ndarray) -> tuple[dict[str, Any], int]:
    length = struct.unpack("<Q", mapped[:8].tobytes())[0]
    if 8 + length > len(mapped):
        raise WeightsError(f"{path} is cut short: its header needs {8 + length} bytes, the file has "
                           f"{len(mapped)}; get it again")
    text = mapped[8:8 + length].tobytes()
    count = text.count(b'"data_offsets"')
    if count > limits.limit("PPADAPT_MAX_TENSORS"):
        raise WeightsError(f"{path} holds {limits.beyond('PPADAPT_MAX_TENSORS', count)}")
    try:
        parse_int = _short if LONG_NUMBER.search(text) else None
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_key_twice, parse_int=parse_int)
    except _TwiceError as error:
        raise WeightsError(f"{path} is damaged or made to deceive: its header has {brief(str(error))} twice; get it "
                           "again") from None
    except (ValueError, RecursionError):
        header = None
    metadata = header.get("__metadata__") if isinstance(header, dict) and len(header) <= count + 1 else 0
    if metadata is not None and not (isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())):
        raise WeightsError(f"{path} begins like .safetensors, but its header is not the JSON it should be; "
                           "get it again")
    return header, 8 + length


class _TwiceError(Exception):
    """A key that a JSON object has twice."""


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        raise _TwiceError(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return made


def _short(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def verify(mapped: np.ndarray, path: str) -> bool:
    """Whether the bytes of a file have a checksum. Raises WeightsError where they are not what was written with it."""
    if not verifying():
        return True
    start = mapped[8:_AT].tobytes()
    different = sum(a != b for a, b in zip(start, _SEALED))
    if different == 0:
        sha = hashlib.sha256(mapped[:_AT])
        sha.update(_NO_SUM.encode())
        sha.update(mapped[_AT + len(_NO_SUM):])
        if sha.hexdigest().encode() != mapped[_AT:_AT + len(_NO_SUM)].tobytes():
            raise WeightsError(f"{path} is damaged: its content does not have the checksum (SHA-256) it was written "
                               f"with; get the file again ({NO_VERIFY}=1 reads it as it is)")
    elif different <= 4 or SEAL in (_header(path, mapped)[0].get("__metadata__") or {}):
        # The place of the checksum is damaged itself, or was rewritten.
        raise WeightsError(f"{path} is damaged, or another program changed it and kept the old {SEAL} in its metadata: "
                           f"get the file again, or save it without that ({NO_VERIFY}=1 reads it as it is)")
    return different == 0


def save_safetensors(path: str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None,
                     progress: Callable[[str], None] | None = None) -> None:
    """Writes `tensors` with string `metadata` and a checksum; `path` is replaced whole or not at all.

    The same tensors give the same bytes. Raises WeightsError on a dtype that the format lacks.
    """
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    told = {str(k): str(v) for k, v in (metadata or {}).items() if k != SEAL}
    header: dict[str, Any] = {"__metadata__": {SEAL: _NO_SUM, **told}}
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
        sha = hashlib.sha256()

        def write(data: Any) -> None:
            file.write(data)
            sha.update(data)

        write(struct.pack("<Q", len(text)) + text)
        for name in names:
            if progress:
                progress(name)
            array = arrays[name]
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            write(memoryview(little.reshape(-1)).cast("B"))
        file.seek(_AT)
        file.write(sha.hexdigest().encode())
