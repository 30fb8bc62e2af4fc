"""Files appear whole or not at all, one process at a time where it matters, and dead runs leave nothing behind.

A file is written beside its target under a temporary name, synced, then renamed over it. The name says whose it is
(machine and process), so that the next run tells what was left by a dead one.
"""
from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, Optional, Union

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What is taken for an image where a folder is searched, in training and in inference alike.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm",
                  ".pnm")

_PathLike = Union[str, os.PathLike]
_NODE = re.sub(r"[^A-Za-z0-9]+", "", platform.node()) or "here"
_NUMBERS = itertools.count()  # two threads may write the same file


@contextmanager
def atomic_write(path: _PathLike) -> Iterator[BinaryIO]:
    """A binary file that replaces `path` when the block ends well; else `path` stays as it was."""
    folder = os.path.dirname(os.fspath(path))
    if folder and not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
    with _replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        yield file


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` write a file under a temporary name, then give it its own: what was there is never lost half-way."""
    with _replacing(path) as temporary:
        write(temporary)


def write_text(path: Path, text: str) -> None:
    """Text as UTF-8; what that cannot say, as names of files may hold, becomes `\\udcff`, which JSON reads again."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def check_writable(folder: Path, what: str) -> None:
    """Raises UserError where a folder, which need not exist yet, could not be made or written into; `what` names it.

    It is tried with a folder that goes again: permissions do not tell of full or read-only file systems. What dead
    processes left there goes as well.
    """
    place = folder
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        remove_leftovers(place)
        trial = temporary_name(place / "ppadapt")
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise UserError(f"{what} {folder} cannot be written ({error.strerror or error}): choose another "
                        "place") from None


def write_json(path: Path, data: Any) -> None:
    """JSON for people: indented, UTF-8, what fits in a line on one, and numbers too however many."""
    write_text(path, _indented(data, "") + "\n")


def _indented(data: Any, before: str, width: int = 120) -> str:
    """JSON of plain data; its further lines begin with `before`."""
    line = json.dumps(data, ensure_ascii=False, default=str)
    is_list, is_dict = isinstance(data, (list, tuple)), isinstance(data, dict)
    numbers = is_list and all(isinstance(item, (int, float)) for item in data)
    if len(before) + len(line) <= width or numbers or not (is_list or is_dict):
        return line
    inside = before + "  "
    if is_list:
        parts = [_indented(item, inside) for item in data]
    else:  # a key as json writes it, which may be a number
        keys = [json.dumps({key: 0})[1:-4] for key in data]
        parts = [f"{key}: {_indented(value, inside)}" for key, value in zip(keys, data.values())]
    return ("[{}]" if is_list else "{{{}}}").format(f"\n{inside}" + f",\n{inside}".join(parts) + f"\n{before}")


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex; read in pieces."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            sha.update(block)
    return sha.hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = temporary_name(path)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_name(path: Path) -> Path:
    """Where to write what becomes `path`, a file or a folder: beside it, hidden, naming machine and process."""
    return path.with_name(f".{path.name}.{_NODE}-{os.getpid()}-{next(_NUMBERS)}.tmp")


_TEMPORARY = re.compile(r"\..+\.([A-Za-z0-9]+)-(\d+)-\d+\.tmp")


def remove_leftovers(folder: Path, depth: int = 0) -> list[Path]:
    """Remove temporary files and folders of processes of this machine that are dead; `depth` levels below too.

    Those of living processes and of other machines stay. What cannot be removed stays as well.
    """
    removed = []
    for pattern in ("/".join(["*"] * level + [".*.tmp"]) for level in range(depth + 1)):
        for path in sorted(folder.glob(pattern)):
            found = _TEMPORARY.fullmatch(path.name)
            if found and found.group(1) == _NODE and not _lives(int(found.group(2))):
                with contextlib.suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                    removed.append(path)
    return removed


def _lives(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if os.name == "nt":  # os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def locked(path: _PathLike, waiting: Optional[Callable[[], Any]] = None) -> Iterator[None]:
    """One process and thread at a time changes `path`, a file or a folder that need not exist yet.

    The lock is a file beside it, `.NAME.lock`, which goes with the last holder; the system lets it go when its holder
    dies. Where the file system has no locks, the file's existence is the lock.

    Args:
        waiting: called once when another holds the lock.

    Raises:
        OSError: when the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        file = _flock(lock, waiting)
    except _NoLocks:
        file = None
        lock = path.with_name(f".{path.name}.held")
        _create(lock, waiting)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held: whoever waits for it sees that it is gone, and asks anew
        if file is not None:
            file.close()


class _NoLocks(Exception):
    """This system or file system cannot lock files."""


def _flock(lock: Path, waiting: Optional[Callable[[], Any]]) -> BinaryIO:
    if fcntl is None:
        raise _NoLocks
    while True:
        file = open(lock, "ab")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting = _said(waiting)
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                    return file
        except OSError:
            file.close()
            lock.unlink(missing_ok=True)
            raise _NoLocks from None
        except BaseException:
            file.close()
            raise
        file.close()  # the one before removed this file: another may hold a new one


def _create(lock: Path, waiting: Optional[Callable[[], Any]]) -> None:
    while True:
        try:
            with open(lock, "x", encoding="ascii") as file:
                file.write(f"{_NODE}-{os.getpid()}")
            return
        except FileExistsError:
            with contextlib.suppress(OSError, ValueError):
                node, _, pid = lock.read_text(encoding="ascii").rpartition("-")
                if node == _NODE and not _lives(int(pid)):
                    lock.unlink(missing_ok=True)
                    continue
        waiting = _said(waiting)
        time.sleep(0.05)


def _said(waiting: Optional[Callable[[], Any]]) -> None:
    """Calls it; the next time there is nothing to call."""
    if waiting is not None:
        waiting()
