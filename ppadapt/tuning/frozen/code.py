"""What computes, as a digest: cached numbers are those of the code that is there now."""
from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any, Iterable

PACKAGE = Path(__file__).resolve().parents[2]
_ROOMS = ("data", "models", "tuning/frozen")  # read, transform, compute


def digest_of(things: Iterable[Any]) -> str:
    """sha256 of the files that read, transform and compute, and of the methods of these things' classes.

    The files tell of all that a method calls here, the methods of what is not in them: other packages' networks, and
    what was put in the place of a method in this process.
    """
    sha = hashlib.sha256(_files().encode())
    kinds = {kind for thing in things for kind in type(thing).__mro__ if kind is not object}
    for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__)):
        sha.update(f"{kind.__module__}.{kind.__qualname__}".encode())
        for name, member in sorted(vars(kind).items()):
            code = getattr(member, "__code__", None)
            if code is not None:
                sha.update(name.encode())
                _update(sha, code)
    return sha.hexdigest()


@lru_cache(maxsize=1)
def _files() -> str:
    sha = hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (PACKAGE / room).rglob("*.py")):
        sha.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return sha.hexdigest()


def _update(sha: Any, code: CodeType) -> None:
    sha.update(code.co_code)
    sha.update(repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _update(sha, constant)
        else:  # a set of texts has another order in every process
            sha.update(repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant).encode())
