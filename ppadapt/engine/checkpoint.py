"""A checkpoint: a folder that is whole or not there, with all that a run needs to go on as if it had never stopped.

    ckpt/step-000123/
        tuned.safetensors    the tuned state as it trains (not its moving average)
        state.safetensors    optimizer, moving average, loss scaler, what the metrics of the epoch have seen
        best_model.safetensors   the best model so far, if there is one
        progress.json        all else, and the SHA-256 of the files beside it and of itself

It is written under a temporary name, synced and renamed. The last two are kept. Nothing in it is a pickle.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .. import files
from ..errors import ConfigError
from ..limits import verifying

FORMAT = 1
KEPT = 2
TUNED, STATE, BEST, PROGRESS = "tuned.safetensors", "state.safetensors", "best_model.safetensors", "progress.json"
FOLDER = "ckpt"
_NAME = re.compile(r"step-(\d{6,})")


class DamagedCheckpoint(ConfigError):
    """A checkpoint that is not what was written."""


@dataclass
class Checkpoint:
    """What was read: its folder, plain data, and arrays by name. `best` is the tuned file of the best model so far."""

    folder: Path
    progress: dict[str, Any]
    tensors: dict[str, np.ndarray]

    @property
    def tuned(self) -> Path:
        return self.folder / TUNED

    @property
    def best(self) -> Optional[Path]:
        return self.folder / BEST if (self.folder / BEST).is_file() else None


def write(parent: Path, step: int, save_tuned: Callable[[Path], Any], tensors: Mapping[str, np.ndarray],
          progress: Mapping[str, Any], best: Optional[Path] = None) -> Path:
    """Write `parent`/step-NNNNNN and remove all but the last `KEPT`; returns the folder.

    Args:
        save_tuned: writes the tuned file. best: a tuned file to take along.

    Raises:
        OSError: where it cannot be written; what was there before is as it was.
    """
    parent.mkdir(parents=True, exist_ok=True)
    target = parent / f"step-{step:06d}"
    temporary = files.temporary_name(target)
    temporary.mkdir()
    try:
        save_tuned(temporary / TUNED)
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, str(temporary / STATE))
        if best is not None:
            link(best, temporary / BEST)
        sums = {path.name: files.sha256(path) for path in sorted(temporary.iterdir())}
        text = json.dumps({"format": FORMAT, **progress, "files": sums})
        (temporary / PROGRESS).write_text(json.dumps({"sha256": _text_sha256(text), "content": text}), encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        if target.exists():  # of this very step, written before it was stopped
            shutil.rmtree(target)
        os.rename(temporary, target)
        _sync(parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in steps(parent)[:-KEPT]:
        gone = files.temporary_name(old)
        os.rename(old, gone)
        shutil.rmtree(gone, ignore_errors=True)
    return target


def steps(parent: Path) -> list[Path]:
    """The checkpoints in a folder, by rising step."""
    found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    return sorted(found, key=lambda path: int(_NAME.fullmatch(path.name).group(1)))


def read(folder: Path) -> Checkpoint:
    """A checkpoint, checked against its sums (PPADAPT_NO_VERIFY=1 does not).

    Raises:
        DamagedCheckpoint: naming what is wrong.
    """
    try:
        whole = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        if verifying() and _text_sha256(whole["content"]) != whole["sha256"]:
            raise DamagedCheckpoint(f"{folder} is damaged: {PROGRESS} does not fit its own checksum")
        progress = json.loads(whole["content"])
        if progress["format"] != FORMAT:
            raise DamagedCheckpoint(f"{folder} is of checkpoint format {progress['format']!r}; this ppadapt reads "
                                    f"{FORMAT}")
        for name, expected in progress["files"].items():
            if verifying() and files.sha256(folder / name) != expected:
                raise DamagedCheckpoint(f"{folder} is damaged: {name} does not fit its checksum")
        return Checkpoint(folder, progress, load_file(str(folder / STATE)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        if isinstance(error, DamagedCheckpoint):
            raise
        raise DamagedCheckpoint(f"{folder} is damaged: {type(error).__name__}: {error}") from None


def find(given: str) -> Path:
    """The checkpoint that `Global.checkpoints` names: its folder, or the newest of a run's folder or its ckpt/.

    Raises:
        ConfigError: where there is none.
    """
    path = Path(given)
    places = [path, path / FOLDER, *([path.parent / FOLDER] if path.name == "latest" else [])]
    if (path / PROGRESS).is_file() or _NAME.fullmatch(path.name):
        return path
    found = next((steps(place) for place in places if steps(place)), None)
    if not found:
        what = "there is no checkpoint" if path.exists() else "it does not exist"
        raise ConfigError(f"Global.checkpoints {given}: {what}. Give the folder of a run, one of its "
                          f"{FOLDER}/step-..., or 'auto' for the newest run of this config")
    return found[-1]


def read_or_advise(folder: Path) -> Checkpoint:
    """As `read`; of a damaged one the error names the newest whole one beside it."""
    try:
        return read(folder)
    except DamagedCheckpoint as error:
        for other in reversed(steps(folder.parent)):
            if other != folder and is_whole(other):
                raise DamagedCheckpoint(f"{error}. Go on from the one before: Global.checkpoints={other}") from None
        raise DamagedCheckpoint(f"{error}, and no whole one is beside it. Start from a tuned file alone with "
                                "Global.pretrained_model") from None


def is_whole(folder: Path) -> bool:
    """Whether it can be read and fits its sums."""
    try:
        read(folder)
    except DamagedCheckpoint:
        return False
    return True


def newest(runs: Path) -> tuple[Optional[Checkpoint], list[str]]:
    """The newest whole checkpoint of all runs in a folder, and what is wrong with newer ones."""
    found = [step for run in (sorted(runs.iterdir()) if runs.is_dir() else []) for step in steps(run / FOLDER)]
    found.sort(key=lambda step: (step.stat().st_mtime, step.name))
    wrong = []
    for step in reversed(found):
        try:
            return read(step), wrong
        except DamagedCheckpoint as error:
            wrong.append(str(error))
    return None, wrong


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # a file system without it, for folders most likely
        if path.is_file():
            raise
    finally:
        os.close(descriptor)


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
