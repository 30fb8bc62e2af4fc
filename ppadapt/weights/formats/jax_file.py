"""Google's `.npz` checkpoints (vision_transformer, big_vision), and any `.npz` of named arrays."""

from __future__ import annotations

import re
import struct

import numpy as np

from ...errors import brief
from ..errors import UnsafeCheckpointError, WeightsError
from ..raw import RawCheckpoint, check_size
from .dtypes import widen_bfloat16
from .zip_file import ZipFile

OPTIMIZER = ("opt/state/", "opt_state/", "opt/hyper_params/")
# The header of an array as numpy writes it. numpy itself evaluates the text, which may be anything.
_HEADER = re.compile(
    rb"\{'descr': '(?P<code>[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[VO]\d*))', 'fortran_order': (?P<order>True|False), "
    rb"'shape': \((?P<shape>[\d, ]{0,400})\), *\} *\n?")


def read_npz(path: str, archive: ZipFile) -> RawCheckpoint:
    """Reads every array but the optimizer's; what is not compressed stays a view of the mapped file.

    Raises WeightsError, and UnsafeCheckpointError on an array of Python objects.
    """
    raw = RawCheckpoint({}, "npz", path)
    for entry in archive.entries:
        name = entry[:-len(".npy")]
        if name.startswith(OPTIMIZER):
            raw.skipped[name] = "optimizer state"
            continue
        raw.tensors[name] = _array(archive.read(entry), name, path)
        check_size(raw.tensors, path)
    return raw


def _array(data: np.ndarray, name: str, path: str) -> np.ndarray:
    """An .npy file (format: numpy's lib/format.py)."""
    start = data[:12].tobytes()
    if start[:6] != b"\x93NUMPY" or len(start) < 12 or start[6] not in (1, 2, 3):
        raise WeightsError(f"{path} is damaged: its {name} is no array of numpy; get the file again")
    length, begin = (struct.unpack("<H", start[8:10])[0], 10) if start[6] == 1 else (
        struct.unpack("<I", start[8:12])[0], 12)
    text = data[begin:begin + min(length, 4096)].tobytes()
    found = _HEADER.fullmatch(text)
    if not found:
        raise WeightsError(f"{path}: the header of its array {name} is {brief(text)}; only arrays of numbers "
                           "are taken")
    code, shape = found["code"].decode(), tuple(int(n) for n in found["shape"].replace(b",", b" ").split())
    if code.lstrip("|<>=")[0] == "O":
        raise UnsafeCheckpointError(f"{path}: refused {name}, an array of Python objects, which is a pickle; "
                                    "only arrays of numbers are taken")
    bfloat16 = code.lstrip("|<>=") == "V2"  # as JAX's numpy saves it
    if "V" in code and not bfloat16:
        raise WeightsError(f"{path}: its array {name} has dtype {code}; only arrays of numbers are taken")
    dtype = np.dtype("<u2" if bfloat16 else code)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    body = data[begin + length:]
    if len(shape) > 32 or count * dtype.itemsize != len(body):
        raise WeightsError(f"{path} is cut short or damaged: its array {name} of shape {brief(shape)} has "
                           f"{len(body)} bytes; get the file again")
    order = "F" if found["order"] == b"True" else "C"
    array = np.frombuffer(body, dtype).reshape(shape, order=order) if count else np.zeros(shape, dtype)
    return widen_bfloat16(array) if bfloat16 else array
