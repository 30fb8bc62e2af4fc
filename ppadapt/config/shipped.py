"""The configs that ship, by name: `digits/vit_micro_adaptformer` is found from any folder."""
from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Union

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIX = ".yaml"


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where they are: in the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """All that can be run, in order: those of a folder or file whose name begins with _ are parts of others."""
    found = map(name_of, folder().rglob(f"*{_SUFFIX}"))
    return sorted(name for name in found if not any(part.startswith("_") for part in name.split("/")))


def name_of(path: Path) -> str:
    """The name under which a config that ships is found: of configs/digits/a.yaml digits/a."""
    return path.resolve().relative_to(folder()).with_suffix("").as_posix()


def headline(name: str) -> str:
    """The first line of the comment that a config begins with."""
    with open(folder() / f"{name}{_SUFFIX}", encoding="utf-8") as file:
        return file.readline().lstrip("#").strip()


def find(given: Union[str, Path]) -> Path:
    """The file that is meant: that path, if a file is there, else the config that ships under this name.

    Names may have the suffix, and `configs/` in front as in a checkout. Where there is neither, the path comes back as
    it was given, and reading it says so.
    """
    path = Path(given)
    return path if path.is_file() else _shipped(path) or path


def is_shipped(path: Path) -> bool:
    """Whether a file is one of them."""
    return folder() in path.resolve().parents


def nearest(given: Union[str, Path]) -> str:
    """The name nearest to one that is not there; "" where none is near."""
    wanted = "/".join(_parts(Path(given))).removesuffix(_SUFFIX)
    near = difflib.get_close_matches(wanted, names(), n=1, cutoff=0.6)
    return near[0] if near else ""


def _parts(path: Path) -> tuple[str, ...]:
    return path.parts[1:] if path.parts[:1] == ("configs",) else path.parts


def _shipped(path: Path) -> Union[Path, None]:
    parts = _parts(path)
    if not parts or path.is_absolute() or ".." in parts:
        return None
    name = "/".join(parts)
    file = folder() / (name if name.endswith(_SUFFIX) else name + _SUFFIX)
    return file if file.is_file() else None
