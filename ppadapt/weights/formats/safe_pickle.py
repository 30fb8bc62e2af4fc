"""Reads a pickle that holds tensors and plain data, and nothing else.

A pickle is a program: its GLOBAL opcodes name any function of any module, and REDUCE calls it. Here a
name is looked up in one closed table, whose entries are inert stand-ins of this file. A name that is not
in the table ends the reading before anything was called. The stand-ins carry no mutable state of their
own, so that a pickle cannot change them for the next one (the BUILD opcode sets attributes).
"""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO, Callable

import numpy as np

from ..errors import UnsafeCheckpointError, WeightsError

# torch's name of a dtype -> numpy's. bfloat16 has none: it is read as uint16 and widened.
DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "u2", "int64": "i8", "int32": "i4",
    "int16": "i2", "int8": "i1", "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8", "bool": "?",
    "complex64": "c8", "complex128": "c16",
}
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}
# What goes wrong inside `pickle` when bytes are damaged; none of these is the caller's mistake.
DAMAGED = (pickle.UnpicklingError, EOFError, IndexError, KeyError, TypeError, AttributeError, ValueError,
           OverflowError, MemoryError, RecursionError, AssertionError, ImportError)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """uint16 bit patterns of bfloat16 -> the same numbers in float32 (a bfloat16 is its upper half)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class _Callable:
    """A function that a pickle may call but not alter."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise WeightsError("its pickle tries to alter a function")

    def __setstate__(self, state: Any) -> None:
        raise WeightsError("its pickle tries to alter a function")


class Mark(str):
    """A type or dtype that is only named (`torch.FloatStorage`, `torch.float32`)."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise WeightsError(f"its pickle tries to alter {self!s}")


class PlainDict(dict):
    """Stands for OrderedDict, defaultdict and argparse.Namespace."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        # A state dict's state is its `_metadata` (versions of modules); a Namespace's is what it holds.
        return None


class Namespace(PlainDict):
    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        self.update(state)


class PickledDtype:
    """Stands for numpy.dtype: numbers only, so no object arrays."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any):
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biufc":
            raise UnsafeCheckpointError(f"refused a numpy array of dtype {code!r}: only numbers are taken")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """Stands for numpy.ndarray, over the bytes in the pickle."""

    __slots__ = ("array",)

    def __init__(self, *_: Any):
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")  # pickles of Python 2
        flat = np.frombuffer(data, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def numpy(self) -> np.ndarray:
        return self.array


def _array_from_buffer(buffer: Any, dtype: PickledDtype, shape: tuple[int, ...], order: str) -> PickledArray:
    array = PickledArray()
    array.__setstate__((1, shape, dtype, order == "F", bytes(buffer)))
    return array


def _scalar(dtype: PickledDtype, data: Any = b"") -> Any:
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, dtype.dtype)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Protocol 2 has no bytes: Python writes them as _codecs.encode(text, 'latin1').
    if encoding not in ("latin1", "latin-1"):
        raise UnsafeCheckpointError(f"refused _codecs.encode with encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    if args and not isinstance(args[0], (bytes, bytearray)):
        raise UnsafeCheckpointError("refused builtins.bytes called with a size")
    return bytes(*args)


def _table() -> dict[str, Any]:
    table: dict[str, Any] = {
        "collections.OrderedDict": PlainDict,
        "collections.defaultdict": _Callable(lambda *_: PlainDict()),
        "collections.Counter": PlainDict,
        "argparse.Namespace": Namespace,
        "types.SimpleNamespace": Namespace,
        "_codecs.encode": _Callable(_encode),
        "torch.Size": _Callable(lambda sizes=(): tuple(sizes)),
        "torch.device": _Callable(lambda *parts: ":".join(map(str, parts))),
        "numpy.dtype": _Callable(PickledDtype),
        "numpy.ndarray": Mark("numpy.ndarray"),
    }
    for module in ("builtins", "__builtin__"):
        for kind in (tuple, list, dict, set, frozenset, complex):
            table[f"{module}.{kind.__name__}"] = kind
        table[f"{module}.bytes"] = _Callable(_bytes)
        for kind in ("int", "float", "bool", "str"):  # the `type=` of an option, kept in a Namespace
            table[f"{module}.{kind}"] = Mark(kind)
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray._reconstruct"] = _Callable(PickledArray)
        table[f"{core}.multiarray.scalar"] = _Callable(_scalar)
        table[f"{core}.numeric._frombuffer"] = _Callable(_array_from_buffer)
    for module in ("pathlib", "pathlib._local"):
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
            table[f"{module}.{kind}"] = _Callable(lambda *parts: "/".join(map(str, parts)))
    return table


PLAIN = _table()


class SafeUnpickler(pickle.Unpickler):
    """`pickle.Unpickler` over the closed table `PLAIN` and the caller's additions `more`."""

    def __init__(self, file: BinaryIO, path: str, more: dict[str, Any] | None = None,
                 persistent: Callable[[Any], Any] | None = None):
        # latin1 keeps the bytes of Python 2 strings as they are.
        super().__init__(file, fix_imports=False, encoding="latin1")
        self._path, self._more, self._persistent = path, more or {}, persistent

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        found = PLAIN.get(full, self._more.get(full))
        if found is None:
            raise UnsafeCheckpointError(
                f"{self._path}: refused {full}, which its pickle asks for; only tensors and plain data are "
                "taken and nothing was executed. If you trust the file, load it in PyTorch where it came "
                "from and save the weights alone: torch.save(model.state_dict(), ...) or safetensors")
        return found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise UnsafeCheckpointError(f"{self._path}: refused the persistent id {pid!r}, which only "
                                        "PyTorch files have")
        return self._persistent(pid)

    def read(self) -> Any:
        """The object. Raises UnsafeCheckpointError on a refused name, WeightsError on damaged bytes."""
        try:
            return self.load()
        except UnsafeCheckpointError as error:
            prefix = "" if str(error).startswith(self._path) else f"{self._path}: "
            raise UnsafeCheckpointError(f"{prefix}{error}") from None
        except DAMAGED as error:
            raise WeightsError(f"{self._path}: its pickle is cut short or damaged ({type(error).__name__}: "
                               f"{error}); get the file again") from None
