"""Files appear whole or not at all: written beside the target, synced, then renamed over it."""
from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, Union


@contextmanager
def atomic_write(path: Union[str, os.PathLike]) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends well; else `path` stays as it was."""
    folder = os.path.dirname(os.fspath(path))
    if folder:
        os.makedirs(folder, exist_ok=True)
    with _replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        yield file


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` write a file under a temporary name, then give it its own: what was there is never lost half-way."""
    with _replacing(path) as temporary:
        write(temporary)


def write_text(path: Path, text: str) -> None:
    """Text as UTF-8."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: Any) -> None:
    """JSON for people: indented, UTF-8."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
