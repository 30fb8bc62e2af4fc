"""The options of operators: what a config gives, and what an operator makes of them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from ..options import construct
from ..ranges import Range
from .errors import DataError, choose

MOST_SIDE = 16_384  # pixels of a side
_ANY = Range()


def number(value: float | str, what: str, allowed: Range = _ANY) -> float:
    """A number, or the quotient that PaddleClas's files write: ``1.0/255.0``. Nothing is evaluated."""
    try:
        top, *rest = str(value).split("/")
        result = float(top)
        for part in rest:
            result /= float(part)
        if not math.isfinite(result):
            raise ValueError(result)
    except (ValueError, ZeroDivisionError):
        raise DataError(f"{what} is {value!r}: give a number or a quotient such as '1.0/255.0'.") from None
    if result not in allowed:
        raise DataError(f"{what} is {value!r}: it must be {allowed}.")
    return result


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, which True is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def pair(value: int | Sequence[int], what: str) -> tuple[int, int]:
    """``size`` -> (size, size); two numbers stay as they are."""
    values = (value, value) if is_whole(value) else value
    if (not isinstance(values, (list, tuple)) or len(values) != 2
            or not all(is_whole(v) and 0 < v <= MOST_SIDE for v in values)):
        raise DataError(f"{what} is {value!r}: give a positive whole number, or two, of at most {MOST_SIDE:,}.")
    return int(values[0]), int(values[1])


def colour(value: int | Sequence[int], what: str) -> int | tuple[int, int, int]:
    """A level from 0 to 255, or one for each channel."""
    values = [value] if is_whole(value) else value
    if (not isinstance(values, (list, tuple)) or len(values) not in (1, 3)
            or not all(is_whole(v) and 0 <= v <= 255 for v in values)):
        raise DataError(f"{what} is {value!r}: give a whole number from 0 to 255, or three of them (RGB).")
    return tuple(values) if len(values) == 3 else values[0]


def interval(value: Sequence[float], what: str, most: float = math.inf, least: float = 0.0) -> tuple[float, float]:
    """Two positive numbers in rising order, none below ``least`` or above ``most``."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise DataError(f"{what} is {value!r}: give two numbers, the smallest and the largest.")
    low, high = (number(v, what) for v in value)
    if not 0 < low <= high:
        raise DataError(f"{what} is {value!r}: give two positive numbers, the smaller one first.")
    if high > most:
        raise DataError(f"{what} is {value!r}: the largest may be {most:g}.")
    if low < least:
        raise DataError(f"{what} is {value!r}: the smallest may be {least:g}.")
    return low, high


def build_op(entry: dict | str, table: dict[str, type], family: str) -> object:
    """One operator from ``{name: options}``.

    Raises:
        DataError: for an unknown name or option (with the nearest one), or a missing option.
    """
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise DataError(f"{family} {entry!r} is not one operator: write '- Name: {{option: value}}'.")
    (name, options), = entry.items()
    if name not in table:
        raise DataError(choose(family, name, table))
    if not isinstance(options or {}, dict):
        raise DataError(f"{name}: {options!r} is not a table of options: write '{name}: {{option: value}}'.")
    try:
        return construct(table, {"name": name, **(options or {})}, family)
    except ConfigError as error:
        raise DataError(str(error)) from None


def described(op: object, given: dict | None) -> dict:
    """Every option of an operator as plain data: as the operator holds it, else as it was given, else its default."""
    return {name: _plain(getattr(op, name, (given or {}).get(name, p.default)))
            for name, p in inspect.signature(type(op)).parameters.items()
            if p.kind is p.POSITIONAL_OR_KEYWORD}


def _plain(value: object) -> object:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(part) for part in value]
    return float(str(value)) if isinstance(value, np.floating) else value  # 0.485, not 0.48500001430511475
