"""The curves of runs as pictures for papers, from what VisualDL was given. Needs matplotlib and VisualDL."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable, Sequence

from ..errors import ConfigError
from .pictures import pyplot, save

Points = list[tuple[int, float]]
FOLDER = "vdl"
# Beginnings of tags -> what one panel shows of every run. Scores are panels of their own.
_PER_BLOCK = {"tuned-vs-mlp/": "norm of what a branch adds, over that of its MLP", "tuned-scale/": "learnable scale"}
_NAMES = {"train/loss": "training loss (mean of the epoch so far)", "eval/loss": "test loss", "train/lr":
          "learning rate", "train/ips": "images per second"}
_LAST = ("train/lr", "train/ips")
_SUFFIXES = (".png", ".pdf", ".svg")


def find_runs(given: Iterable[Path]) -> list[Path]:
    """The runs with curves that folders are or hold, in order.

    Raises:
        ConfigError: for a folder that has none.
    """
    found: dict[Path, None] = {}
    for folder in given:
        inside = [folder] if (folder / FOLDER).is_dir() else sorted(
            path.parent for path in folder.rglob(FOLDER) if path.is_dir())
        if not inside:
            raise ConfigError(f"{folder} {'has' if folder.is_dir() else 'is no folder and has'} no curves: give a "
                              "run's folder, or one above it; runs with Global.use_visualdl: False have none")
        found.update(dict.fromkeys(inside))
    return list(found)


def read(run: Path) -> dict[str, Points]:
    """Tag -> points (step, value) of a run's newest file. Raises ConfigError where there is none to be read."""
    try:
        from visualdl import LogReader
    except ImportError:
        raise ConfigError("the curves are in VisualDL's format: pip install visualdl") from None
    files = sorted((run / FOLDER).glob("vdlrecords*"), key=lambda file: (file.stat().st_mtime, file.name))
    if not files:
        raise ConfigError(f"{run / FOLDER} holds no file of VisualDL")
    reader = LogReader(file_path=str(files[-1]))
    return {tag: [(int(one.id), float(one.value)) for one in reader.get_data("scalar", tag)]
            for tag in reader.get_tags().get("scalar", ())}


def draw(runs: Sequence[Path], path: Path) -> Path:
    """One picture of all runs: losses, scores, learning rate, images per second; of a single run also what each block's
    branch does. Training is drawn over its batches, everything else over epochs.

    Raises:
        ConfigError: for another kind of file than .png, .pdf and .svg, and for runs without a point.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"--output {path}: give the name of a file that ends in {', '.join(_SUFFIXES)}")
    curves = {name: read(run) for name, run in zip(labels(runs), runs)}
    tags = list(dict.fromkeys(tag for points in curves.values() for tag in points))
    if not tags:
        raise ConfigError(f"{', '.join(map(str, runs))}: no point is drawn yet")
    plain = [tag for tag in tags if tag.startswith(("train/", "eval/"))]
    plain.sort(key=lambda tag: (tag in _LAST, not tag.endswith("/loss"), tag.partition("/")[2]))
    blocks = [start for start in _PER_BLOCK if any(tag.startswith(start) for tag in tags)] if len(runs) == 1 else []
    plt, panels = pyplot(), len(plain) + len(blocks)
    columns = min(3, panels)
    rows = -(-panels // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 2.5 * rows + 0.3), squeeze=False)
    for axis, tag in zip(axes.flat, plain):
        for i, (name, points) in enumerate(curves.items()):
            if tag in points:
                axis.plot(*zip(*points[tag]), color=f"C{i % 10}", label=name, linewidth=1.3,
                          marker="o" if len(points[tag]) < 25 else "", markersize=2.5)
        axis.set_title(_NAMES.get(tag, tag), fontsize=8.5)
        axis.set_xlabel("batch" if tag.startswith("train/") else "epoch", fontsize=7.5, labelpad=1)
    for axis, start in zip(list(axes.flat)[len(plain):], blocks):
        points = {tag[len(start):]: values for tag, values in next(iter(curves.values())).items()
                  if tag.startswith(start)}
        shades = plt.get_cmap("viridis")
        for i, (name, values) in enumerate(points.items()):
            axis.plot(*zip(*values), color=shades(i / max(len(points) - 1, 1) * 0.92), linewidth=1.2,
                      label=name if i in (0, len(points) - 1) else None)
        axis.set_title(_PER_BLOCK[start], fontsize=8.5)
        axis.set_xlabel("epoch", fontsize=7.5, labelpad=1)
        axis.legend(fontsize=6.5, frameon=False)
    for axis in axes.flat[panels:]:
        axis.axis("off")
    for axis in list(axes.flat)[:panels]:
        axis.grid(alpha=0.2, linewidth=0.6)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=7.5)
    if len(runs) > 1:
        handles = [plt.Line2D([], [], color=f"C{i % 10}", linewidth=1.5) for i in range(len(curves))]
        figure.legend(handles, curves, loc="lower center", ncols=min(4, len(curves)), fontsize=7.5, frameon=False)
    figure.tight_layout(rect=(0, (len(runs) > 1) * 0.35 / figure.get_figheight(), 1, 1))
    save(figure, path)
    return path


def labels(runs: Sequence[Path]) -> list[str]:
    """What tells runs apart: the parts of their paths that are not the same in all."""
    paths = [run.resolve() for run in runs]
    if len(paths) == 1:
        return [paths[0].name]
    common = Path(os.path.commonpath(paths))
    return [path.relative_to(common).as_posix() for path in paths]

