"""The names that a pickle may use, each with an inert stand-in: plain containers, and numpy's arrays.

numpy's own `dtype` and `ndarray` are not among them: rebuilt from a stranger's state they can make the interpreter
follow an address that the file chose. A stand-in has no state that a pickle could change for the next one.
"""
from __future__ import annotations

import re
from typing import Any, Callable

import numpy as np

from ..errors import FileError, UnsafeFileError, brief

_CODE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|\?)")


class StandInFunction:
    """What a pickle may call: `call(key, *arguments)`, where `key` refuses what may not be a key of a dict."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def call(self, key: Callable[[Any], Any], *arguments: Any) -> Any:
        return self._function(*arguments)


class _Keyed(StandInFunction):
    __slots__ = ()

    def call(self, key: Callable[[Any], Any], *arguments: Any) -> Any:
        return self._function(key, *arguments)


class Mark(str):
    """A type or dtype that is only named (`torch.FloatStorage`, `torch.float32`)."""

    __slots__ = ()


class StandIn:
    """What a pickle may give a state (the BUILD opcode)."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        raise NotImplementedError


class PlainDict(dict, StandIn):
    """Stands for OrderedDict, defaultdict and Counter."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        """A state dict's state is its `_metadata`, versions of modules, which nobody here reads."""


class Namespace(PlainDict):
    """Stands for argparse.Namespace, whose state is what it holds."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise TypeError(f"{brief(state)} for a Namespace")
        self.update(state)


class PickledDtype(StandIn):
    """Stands for numpy.dtype: numbers only, so no object arrays."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any):
        code = str(code, "latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise UnsafeFileError(f"refused a numpy array of dtype {brief(code)}: only numbers are taken")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        if state[1] in ("<", ">", b"<", b">"):
            self.dtype = self.dtype.newbyteorder(state[1] if isinstance(state[1], str) else state[1].decode())


class PickledArray(StandIn):
    """Stands for numpy.ndarray, over the bytes in the pickle."""

    __slots__ = ("array",)

    def __init__(self, *_: Any):
        self.array = np.zeros(0, np.float32)

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, PickledDtype):
            raise TypeError(f"an array of dtype {brief(dtype)}")
        if type(shape) is not tuple or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {brief(shape)}")
        flat = np.frombuffer(_bytes_of(data), dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def numpy(self) -> np.ndarray:
        return self.array


def _bytes_of(data: Any) -> Any:
    return data.encode("latin1") if isinstance(data, str) else data  # text: pickles of Python 2


def _array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.set_state((1, shape, dtype, order == "F", buffer))
    return array


def _scalar(dtype: PickledDtype, data: Any = b"") -> Any:
    return np.frombuffer(_bytes_of(data), dtype.dtype, 1)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # Protocol 2 has no bytes: Python writes them as _codecs.encode(text, 'latin1').
    if encoding not in ("latin1", "latin-1", b"latin1", b"latin-1"):
        raise UnsafeFileError(f"refused _codecs.encode with encoding {brief(encoding)}")
    return text if isinstance(text, (bytes, memoryview)) else text.encode("latin1")


def _bytes(data: Any = b"", *_: Any) -> bytes:
    if not isinstance(data, (bytes, memoryview)):
        raise UnsafeFileError("refused builtins.bytes called with a size")
    return bytes(data)


def _pairs(kind: type) -> Callable:
    def make(key: Callable, *arguments: Any) -> dict:
        made = kind()
        if arguments and kind is not Namespace and not isinstance(arguments[0], (Mark, StandInFunction)):
            source = arguments[0]
            for name, value in source.items() if isinstance(source, dict) else source:
                made[key(name)] = value
        return made

    return make


def _members(kind: type) -> Callable:
    return lambda key, items=(): kind(map(key, _sequence(items)))


def _sequence(items: Any) -> Any:
    if not isinstance(items, (list, tuple, dict, set, frozenset)):
        raise TypeError(f"{brief(items)} as a sequence")
    return items


def _words(parts: tuple, between: str) -> str:
    if not all(isinstance(part, (str, int)) for part in parts):
        raise FileError("its pickle makes a path or a device of something else than text")
    return between.join(map(str, parts))


def _complex(real: Any = 0, imaginary: Any = 0) -> complex:
    if not all(isinstance(part, (int, float)) for part in (real, imaginary)):
        raise TypeError("a complex number of something else than numbers")
    return complex(real, imaginary)


def _table() -> dict[str, Any]:
    table: dict[str, Any] = {
        "collections.OrderedDict": _Keyed(_pairs(PlainDict)),
        "collections.defaultdict": _Keyed(_pairs(PlainDict)),
        "collections.Counter": _Keyed(_pairs(PlainDict)),
        "argparse.Namespace": _Keyed(_pairs(Namespace)),
        "types.SimpleNamespace": _Keyed(_pairs(Namespace)),
        "_codecs.encode": StandInFunction(_encode),
        "torch.Size": StandInFunction(lambda sizes=(): tuple(_sequence(sizes))),
        "torch.device": StandInFunction(lambda *parts: _words(parts, ":")),
        "numpy.dtype": StandInFunction(PickledDtype),
        "numpy.ndarray": Mark("numpy.ndarray"),
    }
    for module in ("builtins", "__builtin__"):
        for kind in (tuple, list):
            table[f"{module}.{kind.__name__}"] = StandInFunction(lambda items=(), kind=kind: kind(_sequence(items)))
        for kind in (set, frozenset):
            table[f"{module}.{kind.__name__}"] = _Keyed(_members(kind))
        table[f"{module}.dict"] = _Keyed(_pairs(dict))
        table[f"{module}.complex"] = StandInFunction(_complex)
        table[f"{module}.bytes"] = StandInFunction(_bytes)
        for name in ("int", "float", "bool", "str"):  # the `type=` of an option, kept in a Namespace
            table[f"{module}.{name}"] = Mark(name)
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray._reconstruct"] = StandInFunction(PickledArray)
        table[f"{core}.multiarray.scalar"] = StandInFunction(_scalar)
        table[f"{core}.numeric._frombuffer"] = StandInFunction(_array_from_buffer)
    for module in ("pathlib", "pathlib._local"):
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
            table[f"{module}.{name}"] = StandInFunction(lambda *parts: _words(parts, "/"))
    return table


PLAIN = _table()
