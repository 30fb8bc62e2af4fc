"""The pictures of results. Needs matplotlib."""
from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import numpy as np

from .. import files, tasks
from ..build.observer import Mistake
from ..tasks import Task

DPI = 200


def pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "figure.dpi": DPI, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot


def save(figure, path: Path) -> None:
    files.replace(path, lambda temporary: figure.savefig(temporary, dpi=DPI, format=path.suffix[1:]))
    pyplot().close(figure)


OF_COMPARISON = ("accuracy_by_parameters.png", "accuracy_by_method.png")


def comparison(rows: list[dict], folder: Path) -> list[Path]:
    """Two PNGs in `folder`, of what methods are compared by: against trained parameters, and per method.

    Returns their paths.
    """
    paths = [folder / name for name in OF_COMPARISON]
    by_parameters(rows, paths[0])
    by_method(rows, paths[1])
    return paths


def of_classes(results: dict, classes: Sequence[str], folder: Path) -> list[Path]:
    """What an evaluation found of each class, as PNGs in `folder`, as far as it tells: `confusion`, `per_class`."""
    drawn = []
    if results.get("confusion"):
        drawn.append(folder / "confusion.png")
        confusion(np.array(results["confusion"]), classes, drawn[-1])
    if results.get("per_class"):
        drawn.append(folder / "per_class.png")
        per_class(results["per_class"], drawn[-1])
    return drawn


def of_mistakes(mistakes: Sequence[Mistake], task: Task, classes: Sequence[str], folder: Path) -> list[Path]:
    """The worst mistakes of an evaluation as `mistakes.png` in `folder`; nothing where there is none."""
    if not mistakes:
        return []
    path = folder / "mistakes.png"
    predictions([one.image for one in mistakes], [one.target for one in mistakes],
                np.stack([one.probabilities for one in mistakes]), task, classes, path, "the worst mistakes first")
    return [path]


def confusion(matrix: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Rows are the right classes, columns the answers; colours are shares of a row, numbers are images."""
    plt, count = pyplot(), len(classes)
    side = min(12.0, 2.2 + 0.42 * count)
    figure, axes = plt.subplots(figsize=(side, side), layout="constrained")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if count <= 24:
        for row, column in zip(*np.nonzero(matrix)):
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=7,
                      color="white" if shares[row, column] > 0.5 else "black")
    _name_classes(axes, classes, both=True)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    save(figure, path)


def per_class(rows: list[dict], path: Path) -> None:
    """The shares that are known of each class, a mark for each, and how many images it has."""
    plt = pyplot()
    shares = [name for name in rows[0] if name not in ("class", "images")]
    figure, axes = plt.subplots(figsize=(6.4, min(24.0, 1.2 + 0.22 * len(rows))), layout="constrained")
    for name, mark in zip(shares, "osd^v<>"):
        values = [np.nan if row[name] is None else row[name] for row in rows]
        axes.plot(values, range(len(rows)), mark, markersize=4.5, alpha=0.8, label=name)
    _name_classes(axes, [f"{row['class']} ({row['images']})" for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("% (images in brackets)")
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(shares), frameon=False, fontsize=8)
    save(figure, path)


def _name_classes(axes, names: Sequence[str], both: bool = False) -> None:
    if len(names) > 100:
        return
    size = 8 if len(names) <= 40 else 4
    axes.set_yticks(range(len(names)), names, fontsize=size)
    if both:
        axes.set_xticks(range(len(names)), names, fontsize=size, rotation=90)


def by_parameters(rows: list[dict], path: Path) -> None:
    """What methods are compared by against trained parameters (log axis), error bars, each point named beside it."""
    plt, main = pyplot(), _task(rows).main
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    points = [(row["trained_parameters"], row[main]) for row in rows]
    for row, (x, y) in zip(rows, points):
        colour, marker, _ = _look(row)
        axes.errorbar(x, y, yerr=row["std"] or None, fmt=marker, color=colour, markersize=5.5, capsize=2.5,
                      elinewidth=0.9, zorder=3, **_lone(row, rows))
    references = _references(axes.axhline, rows)
    axes.set_xscale("log")
    axes.margins(x=0.14, y=0.12)
    axes.set_xlabel("trained parameters")
    axes.set_ylabel(_axis(rows))
    axes.grid(alpha=0.2, linewidth=0.6)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels are placed in pixels: the axes must stay where they are
    spans = [(y - (row["std"] or 0), y + (row["std"] or 0)) for row, (_, y) in zip(rows, points)]
    _label(axes, points, spans, [row["method"] for row in rows], [_look(row)[0] for row in rows], references)
    save(figure, path)


def by_method(rows: list[dict], path: Path) -> None:
    """What methods are compared by, of each method, best at the top, with error bars and the single seeds.

    Points, not bars: the axis does not start at 0, where the length of a bar would exaggerate.
    """
    plt, task = pyplot(), _task(rows)
    main = task.main
    ranked = sorted(rows, key=task.score)
    figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.3 * len(rows)), layout="constrained")
    for i, row in enumerate(ranked):
        colour, marker, _ = _look(row)
        seeds = [run[main] for run in row["runs"]]
        if len(seeds) > 1:
            axes.plot(seeds, [i] * len(seeds), "|", color=colour, markersize=9, alpha=0.55)
        axes.errorbar(row[main], i, xerr=row["std"] or None, fmt=marker, color=colour, markersize=5.5,
                      elinewidth=1.4, zorder=3, **_lone(row, rows))
        spread = f" ± {row['std']:.2f}" if row["std"] is not None else ""
        axes.text(1.02, i, f"{row[main]:.2f}{spread}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    _references(axes.axvline, rows)
    axes.set_yticks(range(len(ranked)), [row["method"] for row in ranked])
    axes.set_ylim(-0.7, len(ranked) - 0.3)
    axes.margins(x=0.08)
    axes.grid(axis="x", alpha=0.2, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(_axis(rows) + (", one tick per seed" if max(row["seeds"] for row in rows) > 1 else ""))
    save(figure, path)


def growing(curves: dict[str, list[tuple]], across: str, up: str, path: Path) -> None:
    """A line for each name through its points (x, mean, standard deviation or None), x on a log axis.

    The lines stand a little apart, so that their error bars do not cover each other.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for i, ((name, points), marker) in enumerate(zip(curves.items(), "osD^v<>pPX")):
        x, mean, std = zip(*sorted(points))
        spread = [value or 0 for value in std] if any(std) else None
        axes.errorbar(np.array(x) * 1.03 ** (i - (len(curves) - 1) / 2), mean, yerr=spread,
                      marker=marker, markersize=5, capsize=2.5, linewidth=1.2, elinewidth=0.9, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sorted({x for points in curves.values() for x, _, _ in points}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(plt.NullLocator())
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.2, linewidth=0.6)
    axes.legend(frameon=False)
    save(figure, path)


def _look(row: dict) -> tuple[str, str, bool]:
    """Colour, marker, and whether it is one of the two that every method is measured against."""
    tuning = row["runs"][0]["tuning"]
    if tuning == ["LinearProbe"]:
        return "#555555", "s", True
    if tuning == ["FullFineTuning"]:
        return "#c1440e", "D", True
    return "#1f5fa8", "o", False


def _lone(row: dict, rows: list[dict]) -> dict[str, str]:
    """How a point of one seed beside others of several is drawn: hollow, for it says less."""
    return {"markerfacecolor": "white"} if row["seeds"] == 1 < max(each["seeds"] for each in rows) else {}


def _task(rows: list[dict]) -> Task:
    return tasks.from_manifest(rows[0]["runs"][0].get("task"))


def _references(line: Callable, rows: list[dict]) -> list:
    main = _task(rows).main
    return [line(row[main], color=_look(row)[0], linestyle=(0, (4, 3)), linewidth=0.8, alpha=0.7, zorder=1)
            for row in rows if _look(row)[2]]


def _axis(rows: list[dict]) -> str:
    seeds, name = {row["seeds"] for row in rows}, _task(rows).axis
    if seeds == {1}:
        return name
    several = " or ".join(map(str, sorted(seeds - {1})))
    return f"{name}, mean ± std of {several} seeds" + " (hollow: 1)" * (1 in seeds)


def _label(axes, points: list[tuple], spans: list[tuple], names: list[str], colours: list[str],
           references: list) -> None:
    """Name each point beside it, where there is room on no other label, point, error bar or reference line.

    A thin line leads to the names that are further off, or nearer to another point.
    """
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    pixel = axes.transData.transform
    taken = [Bbox([pixel((x, low)) - 10, pixel((x, high)) + 10]) for (x, _), (low, high) in zip(points, spans)]
    inside = axes.get_window_extent(renderer)
    taken += [line.get_window_extent(renderer).padded(3) for line in references]
    steps = [(r * np.cos(a), r * np.sin(a)) for r in (7, 11, 16, 22, 29, 37, 46, 57)
             for a in np.pi / 8 * np.array([0, 8, 1, 7, -1, 9, 2, 6, -2, 10, 4, -4, 3, 5, -3, 11])]
    for i in np.argsort([-y for _, y in points]):
        text = axes.annotate(names[i], points[i], xytext=(0, 0), textcoords="offset points", fontsize=8,
                             color=colours[i], va="center")
        for dx, dy in steps:
            text.set_position((dx, dy))
            text.set_ha("left" if dx > 2 else "right" if dx < -2 else "center")
            box = text.get_window_extent(renderer)
            free = not any(box.overlaps(other) for other in taken)
            if free and inside.containsx(box.x0) and inside.containsx(box.x1) and inside.containsy(box.y0) \
                    and inside.containsy(box.y1):
                break
        taken.append(text.get_window_extent(renderer).padded(2))
        nearest = min(range(len(points)), key=lambda j: _distance(box, pixel(points[j])))
        if np.hypot(dx, dy) > 12 or nearest != i:
            axes.annotate("", points[i], xytext=(dx, dy), textcoords="offset points", zorder=2,
                          arrowprops={"arrowstyle": "-", "color": colours[i], "linewidth": 0.5, "alpha": 0.6})


def _distance(box, point: np.ndarray) -> float:
    """From the border of a box to a point outside of it, in pixels."""
    return float(np.hypot(max(box.x0 - point[0], 0, point[0] - box.x1), max(box.y0 - point[1], 0, point[1] - box.y1)))


def predictions(images: Sequence[np.ndarray], targets: Sequence, probabilities: np.ndarray, task: Task,
                classes: Sequence[str], path: Path, title: str) -> None:
    """Test images (uint8 [H, W, 3]) with what the network says; wrong answers are red and say what was right."""
    plt, columns, tall = pyplot(), 8, 1.26  # a row, in widths of a picture: the picture, and what is said above it
    rows = -(-len(images) // columns)
    figure = plt.figure(figsize=(1.45 * columns, 1.45 * tall * rows + 0.35))
    figure.suptitle(title, y=1 - 0.1 / figure.get_figheight(), va="top")
    # One pair of axes for all: a pair for each takes seconds.
    axes = figure.add_axes([0, 0, 1, 1 - 0.35 / figure.get_figheight()])
    for i, (image, target, row) in enumerate(zip(images, targets, probabilities)):
        said, right = task.caption(row, target, classes)
        left, bottom = i % columns, (rows - 1 - i // columns) * tall
        axes.imshow(image, interpolation="nearest", extent=(left + 0.04, left + 0.96, bottom + 0.04, bottom + 0.96))
        axes.text(left + 0.5, bottom + 0.99, said, fontsize=8, color="darkgreen" if right else "red", ha="center",
                  va="bottom")
    axes.set(xlim=(0, columns), ylim=(0, rows * tall))
    axes.axis("off")
    save(figure, path)
