"""Writes pickles that name functions which are not installed here.

`pickle` imports what it names, so it can neither write torch's `_rebuild_tensor_v2` without torch nor, under
numpy 2, the `numpy.core` path that numpy 1 needs (numpy 2 reads both). Opcodes: Python's pickletools.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np


class Global(NamedTuple):
    """A function or class by name."""

    module: str
    name: str


class Call(NamedTuple):
    """`function(*args)`, then `__setstate__(state)` unless that is None."""

    function: Any
    args: tuple[Any, ...]
    state: Any = None


class Persistent(NamedTuple):
    """An object that the reader finds outside the pickle."""

    pid: tuple[Any, ...]


def array_call(array: np.ndarray) -> Call:
    """`array` as numpy itself pickles it."""
    if array.dtype.kind not in "biufc":
        raise TypeError(f"cannot write an array of dtype {array.dtype}; give numbers")
    array = np.ascontiguousarray(array).reshape(array.shape)
    code = array.dtype.str
    order = code[0] if code[0] in "<>" else "|"
    dtype = Call(Global("numpy", "dtype"), (code[1:], False, True), (3, order, None, None, None, -1, -1, 0))
    new = (Global("numpy", "ndarray"), (0,), b"b")
    return Call(Global("numpy.core.multiarray", "_reconstruct"), new,
                (1, tuple(array.shape), dtype, False, memoryview(array.reshape(-1)).cast("B")))


def dump(file: BinaryIO, value: Any, protocol: int) -> None:
    """Writes `value` (dicts, lists, tuples, scalars, the classes above, numpy arrays).

    Protocol 2 is what torch writes; bytes and arrays need 4. Raises TypeError on any other type.
    """
    file.write(b"\x80" + bytes([protocol]))
    _put(file, value)
    file.write(b".")


def _put(file: BinaryIO, value: Any) -> None:
    if value is None:
        file.write(b"N")
    elif isinstance(value, bool):
        file.write(b"\x88" if value else b"\x89")
    elif isinstance(value, int):
        if -2**31 <= value < 2**31:
            file.write(b"J" + struct.pack("<i", value))
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            file.write(b"\x8a" + bytes([len(data)]) + data)
    elif isinstance(value, float):
        file.write(b"G" + struct.pack(">d", value))
    elif isinstance(value, str):
        data = value.encode("utf-8")
        file.write(b"X" + struct.pack("<I", len(data)) + data)
    elif isinstance(value, (bytes, memoryview)):
        file.write(b"\x8e" + struct.pack("<Q", len(value)))  # BINBYTES8
        file.write(value)
    elif isinstance(value, Global):
        file.write(f"c{value.module}\n{value.name}\n".encode())
    elif isinstance(value, Call):
        _put(file, value.function)
        _put(file, tuple(value.args))
        file.write(b"R")
        if value.state is not None:
            _put(file, value.state)
            file.write(b"b")
    elif isinstance(value, Persistent):
        _put(file, value.pid)
        file.write(b"Q")
    elif isinstance(value, dict):
        file.write(b"}(")
        for key, item in value.items():
            _put(file, key)
            _put(file, item)
        file.write(b"u")
    elif isinstance(value, (list, tuple)):
        file.write(b"(" if isinstance(value, tuple) else b"](")
        for item in value:
            _put(file, item)
        file.write(b"t" if isinstance(value, tuple) else b"e")
    elif isinstance(value, np.ndarray):
        _put(file, array_call(value))
    elif isinstance(value, np.generic):
        _put(file, value.item())
    else:
        raise TypeError(f"cannot write a {type(value).__name__} as plain data; give dicts, lists, numbers "
                        "or strings")
