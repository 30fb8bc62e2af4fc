"""SHA256SUMS of an exported folder: written and read as `sha256sum` does it, which checks it without this package."""
from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ConfigError, brief
from ..files import sha256
from ..limits import NO_VERIFY, verifying
from ..log import LOGGER

NAME = "SHA256SUMS"
_MOST_BYTES = 1 << 16
_OURS = re.compile(r"config\.yaml|inference\..+")
_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\]+)")


def write(folder: Path) -> None:
    """Sum up every file of the folder."""
    names = sorted(path.name for path in folder.iterdir() if path.name != NAME)
    (folder / NAME).write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names), encoding="utf-8")


def check(folder: Path) -> None:
    """Compare the files with their sums; a folder without SHA256SUMS is of an older version and passes, which is said.

    Raises:
        ConfigError: naming the file that is missing, is not what it was, or has no sum. PPADAPT_NO_VERIFY=1 skips that.
    """
    path, names = folder / NAME, set()
    if not verifying():
        return
    if not os.path.lexists(path):
        LOGGER.warning("%s has no %s, which every export has since 0.2: whether its files are damaged is not known",
                       folder, NAME)
        return
    if not path.is_file():  # a pipe or a device would be read for ever
        raise ConfigError(f"{path} is no file: export the network anew")
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): export the network anew") from None
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if not found:
            raise ConfigError(f"{path} is damaged: {brief(line)} is no line of sha256sum: export the network anew")
        wanted, file = found[1], folder / found[2]
        names.add(file.name)
        if not file.is_file() or sha256(file) != wanted:
            what = "is not what was exported" if file.is_file() else "is missing"
            raise ConfigError(f"{file} {what}: it is damaged, or was changed. Get or export the folder anew; if you "
                              f"changed it yourself, run `sha256sum inference.* config.yaml > {NAME}` in it, or set "
                              f"{NO_VERIFY}=1")
    without = sorted(file.name for file in folder.iterdir() if _OURS.fullmatch(file.name) and file.name not in names)
    if without:
        raise ConfigError(f"{path} has no sum of {', '.join(without)}: get or export the folder anew")
