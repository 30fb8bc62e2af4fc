"""Images in, answers out."""
from __future__ import annotations

import csv
import glob
import os
import re
from pathlib import Path
from typing import Iterator, Optional, Sequence

import numpy as np

from .. import files
from ..data import BrokenImageError, Compose, decode_image
from ..data.find import find_images as search
from ..errors import ConfigError, UserError
from ..log import LOGGER
from ..tasks import Task
from .backends import Predict


def find_images(where: str) -> list[Path]:
    """The images that a path names: one file, a folder (searched below too) or a glob, sorted.

    Raises:
        ConfigError: when there is none.
    """
    path = Path(where).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = search(path)
        found, left_out = inside.images, inside.said()
        what = f"the folder {where} holds no image ({', '.join(files.IMAGE_SUFFIXES)}){': ' * bool(left_out)}{left_out}"
        if found and left_out:
            LOGGER.warning("Infer.infer_imgs: below %s are left out: %s", where, left_out)
    else:
        fitting = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
        found, folders = [p for p in fitting if p.is_file()], [p for p in fitting if p.is_dir()]
        if found and folders and "**" not in where:
            LOGGER.warning("Infer.infer_imgs: %s fits %d folders as well (%s%s), in which nothing is looked for: a "
                           "folder itself is searched below, or **", where, len(folders), folders[0],
                           " ..." * (len(folders) > 1))
        what = f"{where} is no file, no folder and no pattern that fits a file"
    if not found:
        raise ConfigError(f"Infer.infer_imgs: {what}")
    return found


def classify(predict: Predict, transform: Compose, task: Task, classes: Sequence[str], files: Sequence[Path],
             batch_size: int, topk: int, shape: Optional[tuple[int, ...]] = None) -> Iterator[dict]:
    """What the task answers of each file; a file that cannot be read is warned of and left out.

    Args:
        shape: C, H, W of the images that `predict` takes; None: any.

    Yields:
        {"file": path, "predictions": `Task.answer`, "text": the same in a line}; of one label per image:
        {"file": "a.png", "predictions": [{"class": name, "id": index, "probability": p}, ...], "text": "cat 98.21%"}

    Raises:
        ConfigError: when the transforms make images of another shape.
        UserError: when an answer is NaN or infinite.
    """
    for start in range(0, len(files), batch_size):
        named = []
        for file in files[start:start + batch_size]:
            try:
                named.append((file, transform.array(decode_image(file))))
            except BrokenImageError as error:
                LOGGER.warning("left out: %s", error)
                continue
            shape = shape or named[0][1].shape
            if named[-1][1].shape != shape:
                raise ConfigError(f"{file} is {_size(named[-1][1].shape)} after the transforms and the network takes "
                                  f"{_size(shape)}: let Infer.transforms end in that size (ResizeImage with size)")
        if not named:
            continue
        images = np.ascontiguousarray(np.stack([image for _, image in named]))
        for (file, _), row in zip(named, predict(images)):
            if not np.isfinite(row).all():
                raise UserError(f"the network's answer to {file} is NaN or infinite: its weights are damaged, or half "
                                "precision overflowed (--precision float32)")
            answer = task.answer(row, classes, topk)
            yield {"file": str(file), "predictions": answer, "text": task.text(answer)}


def check_save_path(path: Path, images: Sequence[Path]) -> None:
    """Asked first. Raises ConfigError for a place that cannot be written, or where something of the user lies."""
    what = f"Infer.save_path {path}"
    if path.is_dir():
        raise ConfigError(f"{what} is a folder: give the name of a file in it, such as {path / 'answers.csv'}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = "cannot be written" if path.parent.is_dir() else "does not exist"
        raise ConfigError(f"{what}: the folder {path.parent} {why}: make it, or give another")
    if any(path.resolve() == image.resolve() for image in images):
        raise ConfigError(f"{what} is one of the images: give another name")
    if path.exists() and not _holds_answers(path):
        raise ConfigError(f"{what} exists and holds no answers of an earlier call: give another name, or move it away")
    if path.suffix.lower() not in (".csv", ".json"):
        raise ConfigError(f"{what}: answers are written as CSV or JSON: give a name that ends in .csv or .json")


def _holds_answers(path: Path) -> bool:
    """Whether `save` wrote it; an empty file holds nothing that could be lost."""
    with open(path, "rb") as file:
        start = file.read(100)
    return not start or bool(re.match(rb'\[(\]|\s*\{\s*"file":)|file,rank\b', start))


def save(path: Path, answers: Sequence[dict]) -> None:
    """Write what `classify` yielded: a row per prediction into a `.csv` (one without a rank where there is none), else
    JSON."""
    if path.suffix.lower() != ".csv":
        files.write_json(path, [{key: answer[key] for key in ("file", "predictions")} for answer in answers])
        return
    columns = next((list(answer["predictions"][0]) for answer in answers if answer["predictions"]), [])

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "rank", *columns])
            for answer in answers:
                for rank, found in enumerate(answer["predictions"], 1):
                    rows.writerow([answer["file"], rank, *(found[column] for column in columns)])
                if not answer["predictions"]:
                    rows.writerow([answer["file"], *[""] * (1 + len(columns))])

    files.replace(path, write)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:])) + " pixels"
