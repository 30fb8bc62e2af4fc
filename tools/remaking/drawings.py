"""Whether pictures show what their records hold: a list beside the records says what each was drawn from."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Sequence

from ppadapt import files

LIST = "pictures.json"


def note(record: Path, pictures: Sequence[Path]) -> None:
    """Remember that these were drawn from the file `record` as it is now; those of its folder's list stay in it."""
    path = record.parent / LIST
    held = _held(path)
    of = {"record": record.name, "record_sha256": files.sha256(record)}
    files.write_json(path, {**held, **{each.name: {"sha256": files.sha256(each), **of} for each in pictures}})


def wrong(record: Path, pictures: Sequence[Path]) -> list[str]:
    """Those of the pictures that are not there, not as they were drawn, or of another content of the record."""
    path, told = record.parent / LIST, []
    held = _held(path)
    for each in pictures:
        known = held.get(each.name, {})
        if not each.is_file() or known.get("sha256") != files.sha256(each):
            told.append(f"{each} is not the picture that was drawn")
        elif known["record_sha256"] != files.sha256(record):
            told.append(f"{each} was drawn from another {record.name}")
    return [f"{line}: `python tools/results.py --tables` draws it anew" for line in told]


def _held(path: Path) -> dict[str, dict]:
    """The list as it is; nothing where it is damaged, so that its pictures are drawn anew."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}
