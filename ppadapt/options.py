"""Options as plain data against the hints of what takes them: kinds, ranges, and names that are not there.

A hint says how far a number may go: `epochs: Annotated[int, Range(1)]` (`ranges`).
"""
from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
import types
import typing
from typing import Annotated, Any, Callable, Iterator, Mapping, Optional, Sequence, Union

from .errors import ConfigError, UserError, brief, choose, together
from .ranges import Range

_UNION = (Union, getattr(types, "UnionType", Union))
_PLAIN = (str, int, float, bool, list, tuple, dict, type(None))
_LARGEST = 2 ** 63  # what counts and seeds are kept in has 64 bits


def construct(choices: Mapping[str, Callable], given: Mapping[str, Any], where: str, **built):
    """Build the thing that `given["name"]` names with the options beside it; `built` are not the user's.

    Raises:
        ConfigError: for an unknown name or option, a missing one, or a value that is not allowed.
    """
    if not isinstance(given, Mapping) or "name" not in given:
        raise ConfigError(f"{where} needs a `name`. Choose from: {', '.join(choices)}")
    options = {k: v for k, v in given.items() if k != "name"}
    if not isinstance(given["name"], str) or given["name"] not in choices:
        raise ConfigError(choose(f"{where}.name", given["name"], choices))
    make = choices[given["name"]]
    where = f"{where} ({given['name']})"
    check_options(make, options, where, hidden=built)
    try:
        return make(**options, **built)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def check_options(make: Callable, options: dict, where: str, hidden: Sequence[str] = ()) -> None:
    """Compare options with a signature; whole numbers become floats where floats are wanted, in place.

    Raises:
        ConfigError: naming all that is wrong with them.
    """
    named, open_ended, hints = _signature(make, hidden)
    required = [name for name, parameter in named.items() if parameter.default is parameter.empty]
    check_against(hints, None if open_ended else list(named), options, where, required)


def check_against(hints: Mapping[str, Any], known: Optional[Sequence[str]], options: dict, where: str,
                  required: Sequence[str] = ()) -> None:
    """The same with hints and names of options (None: any) that are not a signature's."""
    wrong = []
    for key in options:
        if known is not None and key not in known:
            wrong.append(choose(f"option of {where}:", key, known))
        elif key in hints:
            try:
                options[key] = typed(options[key], hints[key], f"{where}, {key}")
            except ConfigError as error:
                wrong.append(str(error))
    missing = [name for name in required if name not in options]
    if missing:
        wrong.append(f"{where} needs a value for: {', '.join(missing)}")
    if wrong:
        raise ConfigError(together(wrong))


def options_of(make: Callable, hidden: Sequence[str] = ()) -> list[str]:
    """The names of the options that something takes."""
    return list(_signature(make, hidden)[0])


def hints_of(make: Callable) -> dict[str, Any]:
    """The hints of the options that something takes."""
    return _signature(make, ())[2]


def section(cls: type, tree: Any, where: str, source: str) -> Any:
    """A dataclass from plain data. Raises ConfigError, which names all that is wrong."""
    wrong: list[str] = []
    made = _section(cls, tree, where, wrong)
    if wrong:
        raise ConfigError(f"{source}: {together(wrong)}")
    return made


def _section(cls: type, tree: Any, where: str, wrong: list[str]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(tree, Mapping):
        wrong.append(f"{where or 'the file'} is {brief(tree)}: it must hold {', '.join(fields)}")
        return None
    hints, values = typing.get_type_hints(cls, include_extras=True), {}
    for key, value in tree.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in fields:
            wrong.append(choose("key" if where else "section", path,
                                (f"{where}.{name}" if where else name for name in fields if name != "options")))
        elif dataclasses.is_dataclass(hints[key]):
            values[key] = _section(hints[key], {} if value is None else value, path, wrong)
        else:
            try:
                values[key] = typed(value, hints[key], path)
            except ConfigError as error:
                wrong.append(str(error))
    for f in fields.values():
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in tree:
            wrong.append(f"{where + '.' if where else ''}{f.name} is missing")
    return None if wrong else cls(**values)


def typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint wants it, in the hint's range; kinds that are not plain data pass unchecked.

    Raises:
        ConfigError: naming what is allowed.
    """
    allowed = list(kinds_and_ranges(hint))
    kinds = [kind for kind, _ in allowed]
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds and int not in kinds:
        if abs(value) < _LARGEST:
            value = float(value)
    if type(value) in (int, float):
        _check_number(value, allowed, where)
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{where} is {brief(value)}: it holds a character of number 0, which no file has in its name")
    if type(value) in kinds or isinstance(value, list) and tuple in kinds or not all(k in _PLAIN for k in kinds):
        return value
    if isinstance(value, Mapping) and dict in kinds:
        return dict(value)
    names = " or ".join(dict.fromkeys("null" if k is type(None) else k.__name__ for k in kinds))
    quote = f" (as text: '{value}')" if str in kinds and type(value) in (int, float) else ""
    raise ConfigError(f"{where} is {brief(value)} ({type(value).__name__}): it must be {names}{quote}")


def _check_number(value: Union[int, float], allowed: list, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value) or abs(value) >= _LARGEST and isinstance(value, int):
        raise ConfigError(f"{where} is {brief(value)}: it is no number that can be used")
    ranges = [r for kind, r in allowed if kind is type(value)]
    if ranges and not any(r is None or value in r for r in ranges):
        raise ConfigError(f"{where} is {brief(value)}: it must be {' or '.join(map(str, ranges))}")


def kinds_of(hint: Any) -> Iterator[type]:
    """The plain kinds of a hint: Optional[Annotated[int, ...]] -> int, NoneType."""
    return (kind for kind, _ in kinds_and_ranges(hint))


def kinds_and_ranges(hint: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of a kind and its Range, or None."""
    origin = typing.get_origin(hint)
    if origin in _UNION:
        for part in typing.get_args(hint):
            yield from kinds_and_ranges(part)
    elif origin is Annotated:
        ranges = [extra for extra in hint.__metadata__ if isinstance(extra, Range)]
        for kind, _ in kinds_and_ranges(hint.__origin__):
            yield kind, ranges[0] if ranges else None
    else:
        kind = origin or hint
        yield str if kind is os.PathLike else list if kind in _LISTS else kind, None


_LISTS = (typing.get_origin(Sequence[int]), typing.get_origin(typing.Iterable[int]))


def _signature(make: Callable, hidden: Sequence[str]) -> tuple[dict[str, inspect.Parameter], bool, dict[str, Any]]:
    """Parameters by name, whether it takes any others, and their hints."""
    parameters = {n: p for n, p in inspect.signature(make).parameters.items() if n not in hidden and n != "self"}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    target = make.func if isinstance(make, functools.partial) else make
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError, AttributeError):  # hints of a library, or too new for this Python
        hints = {}
    # Of one that makes its signature itself.
    stated = {n: p.annotation for n, p in named.items()
              if p.annotation is not p.empty and not isinstance(p.annotation, str)}
    return named, open_ended, {**stated, **hints}
