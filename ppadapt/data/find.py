"""The image files below a folder: the same for training and for inference, and what is left out is counted."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import printable
from ..files import IMAGE_SUFFIXES
from .errors import DataError

_FOLDER, UNREADABLE = "a folder", "folders that cannot be read"


@dataclass
class Found:
    """What was found below a folder.

    Attributes:
        images: in order of their names, those of a folder before those below it.
        left_out: why -> how many files or folders; `examples`: why -> the first of them.
        linked: whether links led to any of them.
    """

    images: list[Path] = field(default_factory=list)
    left_out: Counter = field(default_factory=Counter)
    examples: dict[str, Path] = field(default_factory=dict)
    linked: bool = False

    def __iter__(self) -> Iterator[Path]:
        return iter(self.images)

    def leave_out(self, why: str, path: Path) -> None:
        """Count one more."""
        self.left_out[why] += 1
        self.examples.setdefault(why, path)

    def add(self, other: Found) -> None:
        """All of another one as well."""
        self.images += other.images
        self.left_out += other.left_out
        self.examples = {**other.examples, **self.examples}
        self.linked |= other.linked

    def said(self) -> str:
        """What was left out in a line: "4 named .heic (a/1.heic ...), 2 hidden (...)"; empty where it is nothing."""
        return ", ".join(f"{count} {why} ({printable(self.examples[why], 300)}{' ...' * (count > 1)})"
                         for why, count in self.left_out.most_common())


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data: hidden ones, and what macOS puts beside files in archives."""
    return name.startswith(".") or name == "__MACOSX"


def unreadable(folder: Path, error: OSError, way_out: str = "") -> DataError:
    """The error for a folder that cannot be read."""
    return DataError(f"Folder {folder} cannot be read ({error.strerror or error}): change its permissions{way_out}.")


def find_images(folder: Path, skip_unreadable: bool = False, way_out: str = "") -> Found:
    """Image files below ``folder`` by their suffix, sorted; nothing but regular files is ever opened.

    Links are followed, and what several lead to is found once: links that go round in circles end.

    Raises:
        DataError: for a folder that cannot be read, unless ``skip_unreadable`` counts it instead; ``way_out`` says how
            to ask for that.
    """
    found, links, seen, waiting = Found(linked=Path(folder).is_symlink()), set(), set(), [Path(folder)]
    while waiting:
        place = waiting.pop()
        try:
            status, entries = os.stat(place), sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            if not skip_unreadable:
                raise unreadable(place, error, way_out) from None
            found.leave_out(UNREADABLE, place)
            continue
        if (status.st_dev, status.st_ino) in seen:
            found.leave_out("links to folders that were found before", place)
            continue
        seen.add((status.st_dev, status.st_ino))
        inside = []
        for entry in entries:
            path, why = place / entry.name, _no_image(entry)
            if why == _FOLDER:
                inside.append(path)
                found.linked |= entry.is_symlink()
            elif why:
                found.leave_out(why, path)
            else:
                found.images.append(path)
                if entry.is_symlink():
                    links.add(path)
        waiting += reversed(inside)  # depth first, in order
    _take_links_once(found, links)
    return found


def _take_links_once(found: Found, links: set[Path]) -> None:
    if not links:
        return
    found.linked = True
    images, found.images = found.images, []
    targets = {os.path.realpath(path) for path in images if path not in links}
    for path in images:
        target = os.path.realpath(path) if path in links else None
        if target in targets:
            found.leave_out("links to images that were found before", path)
            continue
        found.images.append(path)
        if target:
            targets.add(target)


def _no_image(entry: os.DirEntry) -> str:
    """Why an entry is no image; "" for an image."""
    if is_hidden(entry.name):
        return "hidden"
    try:
        if entry.is_dir():
            return _FOLDER
        if not stat.S_ISREG(entry.stat().st_mode):
            return "neither files nor folders"
    except OSError:
        return "links that lead nowhere"
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return ""
    return f"named {suffix}" if suffix else "without a suffix"
