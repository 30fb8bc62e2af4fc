"""Labels that cannot be right, said before anything is trained; and test labels brought into training's order."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from ..errors import brief
from .base import Dataset, log
from .errors import DataError

# Labels imply classes from 0 on. Beyond so many for each one that occurs, one of them is taken for a mistake.
_CLASSES_PER_LABEL, _AND = 4, 10


def is_number(text: str) -> bool:
    """Whether a file's text is a label: digits of ASCII, few enough to be a number of a class."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def check_names(classes: Sequence[str], where: str) -> None:
    """Raises DataError for class names that no file can hold, and for one that stands twice."""
    for name in classes:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(f"{where}: the class name {name!r} cannot be written as UTF-8, as tuned files hold it: "
                            "rename it.") from None
    alike: dict[str, str] = {}
    for name in classes:
        other = alike.setdefault(_letters(name), name)
        if other != name:
            log.warning("%s: the classes %s and %s are written alike: they are two classes here", where, ascii(other),
                        ascii(name))
    twice = sorted({name for name in classes if classes.count(name) > 1}) if len(set(classes)) < len(classes) else []
    if twice:
        raise DataError(f"{where}: the class name {brief(twice[0])} stands for several classes: make them differ.")


def written_alike(name: str, classes: Sequence[str]) -> str:
    """For an error that names a class which is not among `classes`: the one that is meant, " (there is 'Cat')"."""
    other = next((known for known in classes if _letters(known) == _letters(name)), None)
    return "" if other is None else f" (there is {ascii(other)}, which is not {ascii(name)})"


def _letters(name: str) -> str:
    """A name without what is easily overlooked: case, spaces around it, how accents are put together."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def check_training(data: Dataset, where: str) -> list[str]:
    """Warnings about labels that are seldom meant: classes without an image.

    Raises:
        DataError: for what is never meant: one class, or a label so far beyond the others that it is a mistake.
    """
    count = len(data.classes)
    if data.labels.ndim != 1:
        return _check_rows(data, where) if _says_which(data.labels) else []
    if count < 2:
        way = ("labels are numbers from 0 on, one for each class" if data.implied
               else "put the images of each class into a folder of its own below root")
        raise DataError(f"{where} has one class, {brief(data.classes[0])}: there is nothing to tell apart; {way}.")
    present = np.unique(data.labels)
    if count > _AND + _CLASSES_PER_LABEL * len(present) and data.implied:
        row = int(np.argmax(data.labels))
        raise DataError(f"{where}: label {present[-1]} of {data.name(row)} would make {count:,} classes, and only "
                        f"{len(present)} labels occur: correct it, or set relabel: True to number those that occur.")
    missing = np.setdiff1d(np.arange(count), present)
    if not len(missing):
        return []
    if len(present) == 1:
        raise DataError(f"{where}: every image is of class {brief(data.classes[present[0]])}: there is nothing to tell "
                        f"apart{_of_a_part(data)}.")
    hint = ""
    if data.implied and missing[0] == 0:
        hint = f": labels count from 0, and these begin at {present[0]}. Subtract that, or set relabel: True"
    elif data.implied:
        hint = ": relabel: True numbers only those that occur"
    return [f"{where}: {len(missing)} of {count} classes have no training image{_of_a_part(data)} "
            f"({_some(data.classes, missing)}){hint}"]


def _says_which(labels: np.ndarray) -> bool:
    """Whether targets are rows of 0 and 1, [N, classes]; those of another kind of task may be any numbers."""
    return labels.ndim == 2 and bool(((labels == 0) | (labels == 1)).all())


def _check_rows(data: Dataset, where: str) -> list[str]:
    """`check_training` of several labels per image, [N, classes] of 0 and 1."""
    count, part = len(data.classes), _of_a_part(data)
    never, always = (np.flatnonzero(same) for same in (~data.labels.any(axis=0), data.labels.all(axis=0)))
    if len(never) + len(always) == count:
        which = "none" if len(never) == count else "all" if len(always) == count else "the same"
        raise DataError(f"{where}: every image has {which} of the {count} classes{part}: there is nothing to tell "
                        "apart. Correct the list")
    said = [f"{where}: {len(never)} of {count} classes have no training image{part} ({_some(data.classes, never)})"]
    said += [f"{where}: {len(always)} of {count} classes are in every training image{part} "
             f"({_some(data.classes, always)}): what they look like cannot be learned"]
    return said[:1] * bool(len(never)) + said[1:] * bool(len(always))


def _some(classes: Sequence[str], which: np.ndarray) -> str:
    return ", ".join(brief(classes[i]) for i in which[:5]) + " ..." * (len(which) > 5)


def match_classes(data: Dataset, classes: Sequence[str], ours: str, theirs: str) -> list[str]:
    """Bring the labels of ``data`` into the order of ``classes``, in place; returns warnings.

    Args:
        ours, theirs: where the data and the classes come from, for messages.

    Raises:
        DataError: for images of a class that is not among them.
    """
    warnings = []
    if list(data.classes) != list(classes):
        places = {name: i for i, name in enumerate(classes)}
        strange = [i for i, name in enumerate(data.classes) if name not in places]
        rows = data.labels[:, strange].any(axis=1) if data.labels.ndim == 2 else np.isin(data.labels, strange)
        if rows.any():
            row = int(np.argmax(rows))
            name = data.classes[strange[0] if data.labels.ndim == 2 else int(data.labels[row])]
            raise DataError(f"{ours} has {int(rows.sum())} images of classes that {theirs} lacks ({brief(name)}: "
                            f"{data.name(row)}){written_alike(name, classes)}; there are {_named(classes)}. {_WAY_OUT}")
        if data.labels.ndim == 2:
            labels = np.zeros([len(data.labels), len(classes)], data.labels.dtype)
            for i, name in enumerate(data.classes):
                if name in places:
                    labels[:, places[name]] = data.labels[:, i]
        else:
            table = np.array([places.get(name, 0) for name in data.classes], np.int64)
            labels = table[data.labels]
        data.labels, data.classes = labels, list(classes)
    missing = (np.setdiff1d(np.arange(len(classes)), data.labels) if data.labels.ndim == 1 else
               np.flatnonzero(~data.labels.any(axis=0)) if _says_which(data.labels) else ())
    if len(missing):
        warnings.append(f"{ours}: {len(missing)} of {len(classes)} classes have no test image{_of_a_part(data)} "
                        f"({_some(classes, missing)}): nothing is measured of them")
    return warnings


_WAY_OUT = ("Remove them, add training images of them, or give both sides the same classes (the same folders, or the "
            "same class_id_map_file)")


def _named(classes: Sequence[str]) -> str:
    return f"{len(classes)} classes ({', '.join(map(brief, classes[:5]))}{' ...' * (len(classes) > 5)})"


def _of_a_part(data: Dataset) -> str:
    return f" (limit is {data.limit})" if data.limit is not None else ""
