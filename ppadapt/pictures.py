"""The pictures of results. Needs matplotlib."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Sequence

import numpy as np

from . import compare


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def _save(figure, path: Path) -> None:
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(temporary, dpi=150)
    os.replace(temporary, path)
    _pyplot().close(figure)


def comparison(rows: list[dict], path: Path, title: str) -> None:
    """Accuracy per method, accuracy against trained parameters, and the table, in one PNG."""
    plt = _pyplot()
    figure = plt.figure(figsize=(10, 4.6 + 0.3 * len(rows)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3.6, 1 + 0.3 * len(rows)])
    top.suptitle(title)
    per_method, scatter = top.subplots(1, 2)
    names = [row["method"] for row in rows]
    means = np.array([row["top1"] for row in rows])
    spread = np.array([row["std"] or 0.0 for row in rows])
    colours = [plt.get_cmap("tab10")(i % 10) for i in range(len(rows))]
    for i, colour in enumerate(colours):  # points, for a bar that does not start at 0 would exaggerate
        per_method.errorbar(means[i], i, xerr=spread[i], fmt="o", color=colour, capsize=3)
    per_method.set_yticks(range(len(rows)), names)
    per_method.set_ylim(len(rows) - 0.5, -0.5)
    per_method.margins(x=0.25)
    per_method.grid(axis="x", alpha=0.25)
    for i, (mean, std) in enumerate(zip(means, spread)):
        per_method.annotate(f"{mean:.2f}", (mean + std, i), xytext=(6, 0), textcoords="offset points", va="center")
    per_method.set_xlabel("top-1 accuracy (%)")
    for i, row in enumerate(rows):
        scatter.errorbar(row["trained_parameters"], means[i], yerr=spread[i], fmt="o", color=colours[i], capsize=3)
        scatter.annotate(row["method"], (row["trained_parameters"], means[i]), xytext=(5, 5),
                         textcoords="offset points")
    scatter.set_xscale("log")
    scatter.margins(0.18)
    scatter.set_xlabel("trained parameters")
    scatter.set_ylabel("top-1 accuracy (%)")
    scatter.grid(alpha=0.25)
    axes = bottom.subplots()
    axes.axis("off")
    drawn = axes.table([compare.cells(row) for row in rows], colLabels=compare.HEAD, loc="center", cellLoc="center",
                       edges="horizontal")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8.5)
    drawn.auto_set_column_width(range(len(compare.HEAD)))
    drawn.scale(1, 1.35)
    _save(figure, path)


def predictions(images: Sequence[np.ndarray], labels: Sequence[int], probabilities: np.ndarray,
                classes: Sequence[str], path: Path, title: str) -> None:
    """Test images (uint8 [H, W, 3]) with their class and what the network says; wrong answers are red."""
    plt = _pyplot()
    columns = 8
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.45 * columns, 1.75 * rows), layout="constrained")
    figure.suptitle(title)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label, row in zip(axes.flat, images, labels, probabilities):
        answer = int(row.argmax())
        axis.imshow(image, interpolation="nearest")
        right = answer == label
        said = classes[answer] if right else f"{classes[answer]}, is {classes[label]}"
        axis.set_title(f"{said}\n{row[answer]:.0%}", fontsize=8, color="darkgreen" if right else "red")
    _save(figure, path)
