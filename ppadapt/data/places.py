"""Where data lies: one place or several, for the same config runs on machines that mount it elsewhere."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional, Sequence, Union

from ..errors import brief
from .errors import DataError

log = logging.getLogger("ppadapt")
_MOST_PATTERNS = 3  # folders of one path
# A path, or a list of them in order of preference. One that does not exist may be a pattern: /home/aistudio/data/*
Places = Union[str, os.PathLike, Sequence[str], None]


def places(given: Places, option: str = "root") -> list[Path]:
    """The places that an option names, patterns replaced by what fits them.

    Nothing given is ``$PPADAPT_DATA``, which may be several with a colon (``os.pathsep``) between, or ``./dataset``.

    Raises:
        DataError: for an empty list, one of anything but text, and a path that is pattern after pattern.
    """
    if given is None or given == "":
        given = [place for place in os.environ.get("PPADAPT_DATA", "").split(os.pathsep) if place] or ["dataset"]
    listed: list[Union[str, os.PathLike]] = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    if not listed or not all(isinstance(place, (str, os.PathLike)) and str(place) for place in listed):
        raise DataError(f"{option} is {brief(given)}: give a path, or a list of paths.")
    found: list[Path] = []
    for place in listed:
        path = Path(place).expanduser()
        if sum(map(glob.has_magic, path.parts)) > _MOST_PATTERNS and not path.exists():
            raise DataError(f"{option} {path}: at most {_MOST_PATTERNS} folders of a path may be patterns; with more, "
                            "looking would go through the whole disk.")
        fitting = sorted(glob.glob(str(path))) if glob.has_magic(str(path)) and not path.exists() else []
        found += [Path(one) for one in fitting] or [path]
    return found


def first(given: Places, holds: Callable[[Path], bool], option: str = "root") -> Path:
    """The first of the places that holds what is looked for; where none does, the first that is no pattern.

    Of several it is logged which one it is.
    """
    listed = places(given, option)
    for path in listed:
        if holds(path):
            if len(listed) > 1:
                log.info("%s: %s is the first of %d places that has it", option, path, len(listed))
            return path
    return next((path for path in listed if not glob.has_magic(str(path))), listed[0])


def others(given: Places, chosen: Path, option: str = "root") -> str:
    """For an error that names `chosen`: where it was looked for besides; "" for one place."""
    rest = [str(path) for path in places(given, option) if path != chosen]
    return f" (nor at {', '.join(rest[:8])}{' ...' * (len(rest) > 8)})" if rest else ""


def optional(given: Places, holds: Callable[[Path], bool], option: str) -> Optional[Path]:
    """`first`, for an option that may be absent."""
    return first(given, holds, option) if given else None
