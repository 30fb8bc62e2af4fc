"""Tensors into a network: nothing passes silently, and every difference has a name in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from .checksum import digest
from .errors import WeightsError
from .names import by_reason, compact
from .pos_embed import grid_of, resize_pos_embed

Shape = tuple[int, ...]


@dataclass
class Report:
    """What went where. `resized`, `shape_mismatch`: (name, the file's shape, the network's).

    `new`: declared new by the caller, so left as initialised: absent from the file, of another shape in it
    (then listed in `not_taken`, as are the file's tensors of such names that the network lacks).
    `dropped`: what the converter left out of the file's tensors, name -> reason; `skipped`: what was not read at all.
    `notes`: what the converter found, folded and assumed. `fitting`: the `Arch:` line of a network that the file is of.
    `pixels`: mean and std that the network was pretrained with, where that is known for sure.
    `digest`: of the tensors as they go into the network.
    """

    file: str = ""
    mapped: list[str] = field(default_factory=list)
    resized: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    shape_mismatch: list[tuple[str, Shape, Shape]] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    not_taken: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fitting: str = ""
    pixels: Any = None  # models.pixels.Pixels
    digest: str = ""

    def __str__(self) -> str:
        source = self.file or "tensors in memory"
        rows = [f"weights from {source}: {len(self.mapped)} mapped, digest {self.digest[:16]}"]
        groups = {"resized": _shapes(self.resized), "new": self.new, "not taken": self.not_taken,
                  "missing": self.missing, "unexpected": self.unexpected,
                  "shape mismatch": _shapes(self.shape_mismatch)}
        for title, names in groups.items():
            if names:
                rows.append(f"  {title} {len(names)}: {compact(names)}")
        rows += [f"  {line}" for line in self.notes]
        rows += [f"  dropped {line}" for line in by_reason(self.dropped)]
        rows += [f"  not read {line}" for line in by_reason(self.skipped)]
        return "\n".join(rows)

    def raise_if_incomplete(self) -> None:
        """Raises WeightsError unless every tensor of the network and of the file is accounted for."""
        faults = []
        if self.missing:
            faults.append(f"lacks {compact(self.missing)}")
        if self.shape_mismatch:
            faults.append(f"has other shapes: {compact(_shapes(self.shape_mismatch))}")
        if self.unexpected:
            faults.append(f"has {compact(self.unexpected)}, which the network does not")
        if faults:
            fitting = f": {self.fitting}" if self.fitting else " (depth, width, patch, pooling)"
            raise WeightsError(f"{self.file or 'the weights'} does not fit the network: it "
                               f"{'; it '.join(faults)}. Choose the network that the file is of{fitting}; or declare "
                               "as new what is to start from its initialisation")


def _shapes(rows: Sequence[tuple[str, Shape, Shape]]) -> list[str]:
    return [f"{name} {list(old)} -> {list(new)}" for name, old, new in rows]


def match(tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], new: Sequence[str] = (),
          file: str = "", resize: str = "plain") -> tuple[dict[str, np.ndarray], Report]:
    """What to put into a network whose parameters and buffers have these `shapes`, and the report of it.

    `tensors`: under our names (`load_weights(...).tensors`). `new`: fnmatch patterns ('head.*') of names that
    may be missing and that, when their shape differs, are not taken. A position embedding for another
    (square) grid is resized, in one of the ways of `pos_embed.RESIZES`. The result is float32 (integers stay),
    contiguous and owns its memory. Nothing is raised here: see `Report.raise_if_incomplete`.
    """
    taken: dict[str, np.ndarray] = {}
    report = Report(file=file)

    def is_new(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in new)

    for name, shape in shapes.items():
        shape = tuple(int(n) for n in shape)
        if name not in tensors:
            (report.new if is_new(name) else report.missing).append(name)
            continue
        array = np.asarray(tensors[name])
        if array.shape != shape:
            resized = _resize(name, array, shape, resize)
            if resized is None and is_new(name):
                report.new.append(name)
                report.not_taken.append(name)
                continue
            if resized is None:
                report.shape_mismatch.append((name, array.shape, shape))
                continue
            report.resized.append((name, array.shape, shape))
            array = resized
        taken[name] = np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")
        report.mapped.append(name)
    for name in tensors:
        if name not in shapes:
            (report.not_taken if is_new(name) else report.unexpected).append(name)
    report.digest = digest(taken)
    return taken, report


def _resize(name: str, array: np.ndarray, shape: Shape, resize: str):
    if name != "pos_embed" or array.ndim != 3 or len(shape) != 3 or array.shape[2] != shape[2]:
        return None
    source, target = grid_of(array.shape[1]), grid_of(shape[1])
    if source is None or target is None or source[1] != target[1]:
        return None
    return resize_pos_embed(array, (target[0], target[0]), target[1], resize)
