"""The lines of a list that others may have written."""

from __future__ import annotations

from pathlib import Path

from .. import limits
from .errors import DataError

_USUAL = 20  # bytes of a line, at least, in a list of very many images


def lines(path: Path, option: str = "") -> list[tuple[int, str]]:
    """The lines of a UTF-8 text that are not blank, numbered from 1.

    Args:
        option: what names the file, for messages.

    Raises:
        DataError: for what is no file (a pipe would be waited for), no text, or has more lines than a list of its size.
    """
    where = f"{option} {path}" if option else str(path)
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{where} is no file.")
        data = path.read_bytes()
        count, most = data.count(b"\n"), max(limits.limit("PPADAPT_MAX_LINES"), len(data) // _USUAL)
        if count > most:
            raise DataError(f"{where} has {limits.beyond('PPADAPT_MAX_LINES', count)}.")
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where} cannot be read as UTF-8 text ({error}).") from None
    return [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
