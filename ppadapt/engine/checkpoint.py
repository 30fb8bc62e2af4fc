"""A checkpoint: a folder that is whole or not there, with all that a run needs to go on as if it had never stopped.

    ckpt/step-000123/
        tuned.safetensors    the tuned state as it trains (not its moving average)
        state.safetensors    optimizer, moving average, loss scaler, what the metrics of the epoch have seen
        best_model.safetensors   the best model so far, if there is one
        progress.json        all else, and the SHA-256 of the files beside it and of itself

It is written under a temporary name, synced and renamed. The last two are kept. Nothing in it is a pickle.
Where that step was saved before, as at the end of an epoch whose last step was, the older folder is called
`step-000123.old` until the new one has its name: one of them is there at every moment.
"""
from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from .. import files
from ..errors import ConfigError, printable
from ..limits import verifying

FORMAT = 1
KEPT = 2
TUNED, STATE, BEST, PROGRESS = "tuned.safetensors", "state.safetensors", "best_model.safetensors", "progress.json"
FOLDER = "ckpt"
ASIDE = ".old"  # what a folder is called while another checkpoint of the same step takes its place
_known: tuple[tuple, str] = ((), "")  # which file the last best model was, and its sum
_NAME = re.compile(rf"step-(\d{{6,}})({re.escape(ASIDE)})?")


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
    parent.mkdir(exist_ok=True)  # in a run's folder, which is not made anew where it went meanwhile
    target = parent / f"step-{step:06d}"
    temporary = files.temporary_name(target)
    temporary.mkdir()
    try:
        save_tuned(temporary / TUNED)
        _save(tensors, temporary / STATE)
        if best is not None:
            link(best, temporary / BEST)
        written = sorted(temporary.iterdir())
        with ThreadPoolExecutor(len(written)) as pool:  # sums and disks let other threads run
            synced, sums = pool.map(_sync, written), list(pool.map(_sum, written))
            list(synced)  # raises what they raised
        text = json.dumps({"format": FORMAT, **progress, "files": dict(zip((path.name for path in written), sums))})
        (temporary / PROGRESS).write_text(json.dumps({"sha256": _text_sha256(text), "content": text}), encoding="utf-8")
        for path in (temporary / PROGRESS, temporary):
            _sync(path)
        _take_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(parent)
    found = steps(parent)
    for old in [path for path in found if path.name.endswith(ASIDE)]:
        found.remove(old)
        _remove(old)
    for old in found[:-KEPT]:
        _remove(old)
    return target


def _save(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """As `save_file`, which has an exception of its own for a full disk."""
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, str(path))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def steps(parent: Path) -> list[Path]:
    """The checkpoints in a folder, by rising step; of one step the older first."""
    found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    return sorted(found, key=_order)


def _order(path: Path) -> tuple[int, bool]:
    step, aside = _NAME.fullmatch(path.name).groups()
    return int(step), not aside


def _take_place(folder: Path, target: Path) -> None:
    """Give a whole checkpoint its name. One of the same step, written earlier, makes way and is never lost first."""
    if not target.exists():
        os.rename(folder, target)
        return
    aside = target.with_name(target.name + ASIDE)
    if aside.exists():
        _remove(aside)
    os.rename(target, aside)
    try:
        os.rename(folder, target)
    except OSError:
        os.rename(aside, target)
        raise


def _remove(folder: Path) -> None:
    """Under another name first, for what is half removed must not look like a checkpoint."""
    gone = files.temporary_name(folder)
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def read(folder: Path) -> Checkpoint:
    """A checkpoint, checked against its sums (PPADAPT_NO_VERIFY=1 does not).

    Raises:
        DamagedCheckpoint: naming what is wrong.
    """
    name = PROGRESS
    try:
        whole = json.loads(_file(folder, PROGRESS).read_text(encoding="utf-8"))
        if verifying() and _text_sha256(whole["content"]) != whole["sha256"]:
            raise ValueError("it does not fit its own checksum")
        progress = json.loads(whole["content"])
        if progress["format"] != FORMAT:
            raise DamagedCheckpoint(f"{folder} is of checkpoint format {progress['format']!r}; this ppadapt reads "
                                    f"{FORMAT}")
        named = _NAME.fullmatch(folder.name)
        if named and int(named.group(1)) != progress["step"]:
            raise ValueError(f"it is of step {progress['step']}")
        if not {TUNED, STATE} <= set(progress["files"]) <= {TUNED, STATE, BEST}:
            raise ValueError(f"it names the files {', '.join(progress['files']) or 'none'}")
        for name, expected in progress["files"].items():
            path = _file(folder, name)
            if verifying() and files.sha256(path) != expected:
                raise ValueError("it does not fit its checksum")
        name = STATE
        return Checkpoint(folder, progress, load_file(str(folder / STATE)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        if isinstance(error, DamagedCheckpoint):
            raise
        why = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise DamagedCheckpoint(f"{folder} is damaged: {name}: {printable(why, 200)}") from None


def _file(folder: Path, name: str) -> Path:
    """A file of a checkpoint. Raises ValueError for what is none: a pipe or a device would be read for ever."""
    path = folder / name
    if not path.is_file():
        raise ValueError("it is no file" if path.exists() else "it is missing")
    return path


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
    found = [steps(run / FOLDER) for run in (runs.iterdir() if runs.is_dir() else ())]
    # Of runs the time decides, inside one the step: a copy of a run has the times of its copying.
    by_time = sorted(filter(None, found), key=lambda of_run: max(step.stat().st_mtime for step in of_run), reverse=True)
    wrong = []
    for step in (step for of_run in by_time for step in reversed(of_run)):
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


def _sum(path: Path) -> str:
    """SHA-256. That of the best model is known from the checkpoint before, where it is the same file."""
    global _known
    if path.name != BEST:
        return files.sha256(path)
    found = path.stat()
    place = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    known = _known  # as one: another run of this process may put its own there meanwhile
    if known[0] != place:
        known = _known = place, files.sha256(path)
    return known[1]


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
