"""Fetching an archive: mirrors, a progress bar, resume, checksum, and a plain message without network."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from ..files import locked
from ..log import bar
from .errors import DataError

log = logging.getLogger("ppadapt")
_CHUNK = 1 << 20


def md5_of(path: Path) -> str:
    """MD5 of a file, in hex."""
    digest = hashlib.md5()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, part: Path, timeout: float) -> None:
    """Append what is missing of ``url`` to ``part``; from the start where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "ppadapt"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing, or the part is of another file: the checksum decides
            return
        raise
    with response:
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with open(part, "ab" if have else "wb") as file, bar(
                total=total, initial=have, unit="B", unit_scale=True, desc=part.stem) as shown:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                shown.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes")


def download(urls: Sequence[str], path: str | os.PathLike, md5: str, retries: int = 3, timeout: float = 30,
             pause: float = 1) -> Path:
    """``path``, fetched from the first of ``urls`` that works; what already exists is not touched.

    What has arrived stays in ``<path>.part`` and is resumed next time; the file appears under its name only
    when its checksum is right.

    Args:
        retries: attempts per address. timeout: seconds without an answer. pause: seconds before the second
            attempt, doubled each time.

    Raises:
        DataError: with the addresses and the place to put the file, when none works.
    """
    path = Path(path)
    if path.exists():
        return path  # in a folder, perhaps, that may only be read
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path.parent} cannot be made ({error}): set root, or PPADAPT_DATA, to a folder "
                        "that can be written to.") from None
    part = path.with_name(path.name + ".part")
    reasons: list[str] = []
    # One download at a time: the ranks of a distributed run all ask for the same file.
    with locked(path, lambda: log.info("Waiting for another process that downloads %s", path)):
        if path.exists():
            return path
        for url in urls:
            log.info("Downloading %s to %s", url, path)
            for attempt in range(retries):
                if attempt:
                    time.sleep(pause * 2 ** (attempt - 1))
                try:
                    _fetch(url, part, timeout)
                except (OSError, http.client.HTTPException) as error:
                    cause = getattr(error, "reason", None) or error
                    reason = f"{url}: {cause}"
                    # Without a network the host has no address: waiting does not help.
                    permanent = (isinstance(cause, socket.gaierror)
                                 or getattr(error, "code", None) in (401, 403, 404, 410))
                else:
                    found = md5_of(part) if part.exists() else "nothing"
                    if found == md5:
                        os.replace(part, path)
                        return path
                    part.unlink(missing_ok=True)  # a wrong part cannot be resumed
                    reason, permanent = f"{url}: checksum {found} instead of {md5}", False
                log.info("%s", reason)
                if permanent:
                    break
            reasons.append(reason)
    raise DataError(f"{path.name} could not be downloaded ({'; '.join(reasons)}). Fetch it elsewhere from "
                    f"{' or '.join(urls)} and put it at {path.absolute()}.")
