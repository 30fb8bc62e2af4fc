"""How much a file may ask for, checked before memory is taken; `PPADAPT_MAX_...` in the environment raises a limit.

They are set so that no file of up to 10 MB takes more than 1 GB of memory or 10 seconds. docs/security.md lists them.
"""
from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from .errors import UserError

# Name -> (default, what it counts). A default of None depends on the machine.
LIMITS: dict[str, tuple] = {
    "PPADAPT_MAX_RATIO": (100, "bytes that one byte of a file may become: unpacked, or as tensors"),
    "PPADAPT_MAX_TENSORS": (50_000, "tensors of one file"),
    "PPADAPT_MAX_PICKLE_STEPS": (2_000_000, "operations of one pickle"),
    "PPADAPT_MAX_VALUES": (2_000_000, "values of the plain data beside the tensors of one file"),
    "PPADAPT_MAX_PIXELS": (None, "pixels of an image: 10,000 for each megabyte of memory, at most 50 million"),
    "PPADAPT_MAX_CLASSES": (20_000, "classes that labels in a file may imply"),
    "PPADAPT_MAX_LINES": (500_000, "lines of a list of images that are shorter than 20 bytes on average"),
    "PPADAPT_MAX_YAML_VALUES": (100_000, "values of one YAML file, its aliases written out"),
}
_PIXELS_PER_MEGABYTE, _MOST_PIXELS = 10_000, 50_000_000


NO_VERIFY = "PPADAPT_NO_VERIFY"  # "1" skips the comparison of checksums


def verifying() -> bool:
    """Whether files are compared with the checksums they carry."""
    return os.environ.get(NO_VERIFY) != "1"


def limit(name: str) -> int:
    """The limit of that name. Raises UserError when its variable is no whole number of at least 0."""
    text = os.environ.get(name)
    if not text:
        default = LIMITS[name][0]
        return min(_MOST_PIXELS, _PIXELS_PER_MEGABYTE * (memory() >> 20)) if default is None else default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UserError(f"{name} is {text!r}: give a whole number, of {LIMITS[name][1]}")
    return int(text)


def beyond(name: str, found: int) -> str:
    """What a message says of a file that goes beyond a limit, and how to read it all the same."""
    shown = f"{found:,}" if found < 10 ** 18 else "over 10^18"
    return (f"{shown} {LIMITS[name][1].partition(':')[0]}, where {limit(name):,} are the limit; if you trust it, set "
            f"{name} higher")


@lru_cache(maxsize=1)
def memory() -> int:
    """Bytes of memory that this process may have: the machine's, or less where a container has a limit."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [4 << 30]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such limit ("max"), or no such file
            pass
    return min(n for n in found if n > 0)
