"""The pictures of `ppadapt explain`. Needs matplotlib."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional, Sequence

import numpy as np

from .pictures import pyplot, save

COLUMNS = 6
_HOT, _COOL = "inferno", "viridis"
MOST_NAMED = 20  # classes that a legend names


@dataclass
class Shown:
    """An image with what is drawn of it.

    Attributes:
        image: uint8 [H, W, 3]. name: what it is. answer: what the tuned network says.
        attention: before and after, float [rows, columns] each, of sum 1.
        branches: name -> norm of what it adds to each patch, float [rows, columns].
    """

    image: np.ndarray
    name: str
    answer: str = ""
    attention: Optional[tuple[np.ndarray, np.ndarray]] = None
    branches: dict[str, np.ndarray] = field(default_factory=dict)


class _Tiles:
    """Pictures in rows on one pair of axes, which is quick, a title above each; lengths are in widths of a picture."""

    TALL = 1.2

    def __init__(self, rows: int, columns: int, title: str, inches: float = 1.7):
        self.plt, self.rows, self.columns = pyplot(), rows, columns
        self.figure = self.plt.figure(figsize=(inches * columns, inches * self.TALL * rows + 0.45))
        top = 0.45 / self.figure.get_figheight()
        self.figure.suptitle(title, y=1 - 0.1 / self.figure.get_figheight(), va="top", fontsize=10)
        self.axes = self.figure.add_axes([0, 0, 1, 1 - top])
        self.axes.set(xlim=(0, columns), ylim=(0, rows * self.TALL))
        self.axes.axis("off")

    def put(self, row: int, column: int, title: str, picture: np.ndarray, most: Optional[float] = None,
            colours: str = _HOT, least: float = 0.0) -> None:
        """An image, or with `most` a map in colours from `least` to `most`."""
        left, bottom = column, (self.rows - 1 - row) * self.TALL
        place = (left + 0.03, left + 0.97, bottom + 0.03, bottom + 0.97)
        if most is None:
            self.axes.imshow(picture, extent=place, interpolation="nearest")
        else:
            self.axes.imshow(picture, extent=place, interpolation="nearest", cmap=colours, vmin=least,
                             vmax=max(most, 1e-12))
        self.axes.text(left + 0.5, bottom + 0.99, _short(title), fontsize=7.5, ha="center", va="bottom")
        # Drawing an image moves the limits.
        self.axes.set(xlim=(0, self.columns), ylim=(0, self.rows * self.TALL))

    def save(self, path: Path) -> Path:
        self.axes.set_aspect("equal")
        save(self.figure, path)
        return path


def of_images(shown: Sequence[Shown], folder: Path) -> list[Path]:
    """`image-NN.png` of each, and `grid.png` of all."""
    folder.mkdir(parents=True, exist_ok=True)
    return [*(_one(one, folder / f"image-{i:02d}.png") for i, one in enumerate(shown)),
            _grid(shown, folder / "grid.png")]


def _one(one: Shown, path: Path) -> Path:
    blocks = list(one.branches.items())
    rows = 1 + -(-len(blocks) // COLUMNS)
    tiles = _Tiles(rows, COLUMNS, f"{_short(one.name, 50)}; tuned: {_short(one.answer, 50)}")
    tiles.put(0, 0, "image", one.image)
    if one.attention:
        for column, (title, picture, most, colours, least) in enumerate(_attention(one.attention), 1):
            tiles.put(0, column, title, picture, most, colours, least)
    most = max((picture.max() for _, picture in blocks), default=0)
    for i, (name, picture) in enumerate(blocks):
        tiles.put(1 + i // COLUMNS, i % COLUMNS, f"{name}\nadds {picture.mean():.2f} (mean)", picture, most, _COOL)
    return tiles.save(path)


def _grid(shown: Sequence[Shown], path: Path) -> Path:
    attention, branches = any(one.attention for one in shown), any(one.branches for one in shown)
    tiles = _Tiles(len(shown), 1 + 3 * attention + 4 * branches, "what tuning changed: attention rollout of the class "
                   "token, and the norm of what the branches add to each patch" if attention and branches else
                   "attention rollout of the class token" if attention else "what the branches add to each patch")
    for row, one in enumerate(shown):
        tiles.put(row, 0, f"{_short(one.name)}\n{_short(one.answer)}", one.image)
        if one.attention:
            for column, (title, picture, most, colours, least) in enumerate(_attention(one.attention), 1):
                tiles.put(row, column, title, picture, most, colours, least)
        blocks = list(one.branches.items())
        most = max((picture.max() for _, picture in blocks), default=0)
        chosen = sorted({round(i * (len(blocks) - 1) / 3) for i in range(4)}) if blocks else []
        for column, i in enumerate(chosen, 1 + 3 * attention):
            tiles.put(row, column, blocks[i][0], blocks[i][1], most, _COOL)
    return tiles.save(path)


def _attention(pair: tuple[np.ndarray, np.ndarray]) -> list[tuple[str, np.ndarray, float, str, float]]:
    """Title, map, largest value, colours and smallest value of: before, after, and what became more and less."""
    before, after = pair
    most, change = float(max(before.max(), after.max())), after - before
    largest = float(np.abs(change).max())
    return [("attention before", before, most, _HOT, 0.0), ("attention after", after, most, _HOT, 0.0),
            (f"more (red), less (blue)\n+-{largest / most:.1%} of the most", change, largest, "RdBu_r", -largest)]


def of_features(plane: Mapping[str, Mapping[str, np.ndarray]], labels: np.ndarray, classes: Sequence[str],
                path: Path) -> Path:
    """Points in a plane, a row for each way to get there and a column before and after tuning, coloured by class.

    Args:
        plane: {"PCA": {"before": [N, 2], "after": [N, 2]}, ...}. labels: int [N].
    """
    plt = pyplot()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(len(plane), 2, figsize=(7.6, 3.5 * len(plane)), squeeze=False)
    colours = plt.get_cmap("tab10" if len(classes) <= 10 else "tab20" if len(classes) <= MOST_NAMED else "hsv")
    steps = colours.N if len(classes) <= MOST_NAMED else len(classes)
    for row, (way, pair) in zip(axes, plane.items()):
        for axis, (what, points) in zip(row, pair.items()):
            for k in np.unique(labels):
                chosen = labels == k
                axis.scatter(*points[chosen].T, s=9, color=colours(k if steps == colours.N else k / steps), alpha=0.8,
                             linewidths=0, label=_short(classes[k]))
            axis.set_title(f"{way}, {what} tuning: {_neighbours(points, labels):.0%} beside one of their class",
                           fontsize=8.5)
            axis.set(xticks=[], yticks=[])
    if len(classes) <= MOST_NAMED:
        handles, names = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="center left", bbox_to_anchor=(0.85, 0.5), frameon=False, fontsize=8,
                      markerscale=2)
    figure.subplots_adjust(left=0.02, right=0.84 if len(classes) <= MOST_NAMED else 0.98, top=0.95, bottom=0.02,
                           wspace=0.05, hspace=0.14)
    save(figure, path)
    return path


def _neighbours(points: np.ndarray, labels: np.ndarray) -> float:
    """The share of points whose nearest neighbour in the plane is of their own class."""
    distances = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


def _short(text: str, most: int = 26) -> str:
    return "\n".join(line if len(line) <= most else f"{line[:most - 3]}..." for line in text.split("\n"))
