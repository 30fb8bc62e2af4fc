"""From what a pickle held to plain data, counted: a hostile one refers to one list thousands of times."""
from __future__ import annotations

from typing import Any, Callable, Iterable

from .. import limits
from ..errors import FileError, brief

MAX_DEPTH = 60


def is_array(value: Any) -> bool:
    """True for an array of the file, which may not have been read yet (`PickledArray`, torch's `LazyTensor`)."""
    return hasattr(value, "numpy") and hasattr(value, "shape")


def unwrap(value: Any) -> Any:
    """`paddle.save` stores a lone tensor as (its internal name, array)."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and is_array(value[1]):
        return value[1]
    return value


class Walk:
    """Goes through the objects of one file. Both methods raise FileError where it is nested or repeated absurdly.

    Args:
        array: what an array of the file becomes.
    """

    def __init__(self, array: Callable[[Any], Any] = lambda array: None) -> None:
        self.array = array
        self.left = limits.limit("PPADAPT_MAX_VALUES")
        self._counted: dict[int, int] = {}

    def spend(self) -> None:
        """Count one value."""
        self.left -= 1
        if self.left < 0:
            raise FileError("the data beside its tensors is "
                            + limits.beyond("PPADAPT_MAX_VALUES", limits.limit("PPADAPT_MAX_VALUES") + 1))

    def plain(self, value: Any, depth: int = 0) -> Any:
        """`value` as dicts, lists, scalars, and what `array` makes of arrays."""
        self.spend()
        _check(depth)
        value = unwrap(value)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            return value
        if isinstance(value, dict):
            return {_plain_key(k): self.plain(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.plain(v, depth + 1) for v in value]
        if isinstance(value, memoryview):
            return bytes(value)
        return self.array(value) if is_array(value) else type(value).__name__

    def arrays(self, value: Any, depth: int = 0) -> int:
        """How many arrays lie anywhere in `value`; none of them is read."""
        _check(depth)
        if is_array(value):
            return 1
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return 0
        if id(value) not in self._counted:  # ids stay what they are while the file's tree is held
            parts: Iterable[Any] = value.values() if isinstance(value, dict) else value
            self._counted[id(value)] = sum(self.arrays(v, depth + 1) for v in parts)
        return self._counted[id(value)]


def _check(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise FileError("the data beside its tensors is nested beyond reason; it is not a checkpoint")


def _plain_key(key: Any) -> Any:
    return key if isinstance(key, (str, bytes, int, float, bool, type(None))) else brief(key)
