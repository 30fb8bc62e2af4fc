"""Accuracy against the number of training images: the same number of steps for all, so that only the images differ."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from ppadapt.runs import experiment, pictures, significance

from . import drawings
from .part import View
from .place import Place
from .trainings import Line, Trainings, limits, machines

AMONG = ", "


def lines(beginning: str, methods: Mapping[str, str], sizes: Sequence[int], steps: int, batch: int) -> tuple[Line, ...]:
    """A line for each method and number of images, of about `steps` steps: few images are passed more often.

    `methods` are names of configs, each with what is changed of its own.
    """
    made = []
    for images in sizes:
        a_batch = min(batch, images)
        epochs = round(steps / (images // a_batch))
        changes = (f"DataLoader.Train.dataset.limit={images}", f"DataLoader.Train.sampler.batch_size={a_batch}",
                   f"Global.epochs={epochs}", f"Optimizer.lr.warmup_epoch={epochs / 10:g}", "Global.save_interval=0")
        made += [Line(f"{name}{AMONG}{images:,} images", f"{beginning}_{name}", (*changes, change))
                 for name, change in methods.items()]
    return tuple(made)


@dataclass(frozen=True)
class Growing(Trainings):
    """Trainings whose lines are of `lines`: a column for each method, a row for each number of images."""

    drawn: bool = False
    among: str = "adaptformer"

    def views(self, place: Place, name: str) -> dict[str, View]:
        return {**super().views(place, name), f"{name}.says": lambda: self._says(place, name)}

    def draw(self, place: Place, name: str) -> None:
        rows = self.rows(place, name)
        if rows:
            curves = {}
            for row in rows:
                method, images = _parts(row)
                curves.setdefault(method, []).append((images, row["top1"], row["std"]))
            path = place.record(name) / f"{name}.png"
            pictures.growing(curves, "training images", "top-1 accuracy (%)", path)
            drawings.note(place.runs_of(name).path, [path])

    def _pictures_wrong(self, place: Place, name: str) -> list[str]:
        if not self.rows(place, name):
            return []
        return drawings.wrong(place.runs_of(name).path, [place.record(name) / f"{name}.png"])

    def _pictures(self, place: Place, name: str) -> str:
        return f"![{self.title}](results/{name}/{name}.png)" if self.rows(place, name) else ""

    def _table(self, place: Place, name: str) -> str:
        rows = {_parts(row): row for row in self.rows(place, name)}
        if not rows:
            return ""
        methods, sizes = (list(dict.fromkeys(part)) for part in zip(*map(_of_label, (li.label for li in self.lines))))
        sizes = [size for size in sizes if any((method, size) in rows for method in methods)]
        cells = [[f"{size:,}", *(self._cell(rows, method, size) for method in methods)] for size in sizes]
        note = (f"\\*: differs from {self.among} with as many images: the 95% interval of the difference (paired) "
                "leaves 0 out.")
        return "\n\n".join([experiment.markdown(["training images", *(f"{m}, top-1" for m in methods)], cells), note,
                            *self._missing(place, name), machines(list(rows.values()))])

    def _says(self, place: Place, name: str) -> str:
        """For each other method with how many images it is better or worse, as far as that can be told."""
        rows, told, all_found = {_parts(row): row for row in self.rows(place, name)}, [], []
        for method in dict.fromkeys(method for method, _ in rows if method != self.among):
            found: dict[str, list[str]] = {}
            for size in sorted(size for other, size in rows if other == method):
                if (difference := self._difference(rows, method, size)) is not None:
                    all_found.append(difference)
                    kind = ("better" if difference.mean > 0 else "worse") if difference.real else "not told apart"
                    found.setdefault(kind, []).append(f"{size:,}")
            if found:
                kinds = "; ".join(f"{kind} with {', '.join(sizes)} images" for kind, sizes in found.items())
                told.append(f"* {method} beside {self.among}: {kinds}.")
        return "\n\n".join(["\n".join(told), *limits(all_found)] if told else [])

    def _difference(self, rows: dict[tuple, dict], method: str, size: int) -> Optional[significance.Difference]:
        """Between a method and the one that all are held against, with as many images."""
        row, other = rows.get((method, size)), rows.get((self.among, size))
        return significance.between(row["runs"], other["runs"], "top1") if row and other and row is not other else None

    def _cell(self, rows: dict[tuple, dict], method: str, size: int) -> str:
        row = rows.get((method, size))
        if row is None:
            return ""
        said = f"{row['top1']:.2f}" + (f" ± {row['std']:.2f}" if row["std"] is not None else "")
        found = self._difference(rows, method, size)
        return f"{said} \\*" if found and found.real else said


def _parts(row: dict) -> tuple[str, int]:
    return _of_label(row["method"])


def _of_label(label: str) -> tuple[str, int]:
    """"linear, 2,000 images" -> ("linear", 2000)"""
    method, _, images = label.partition(AMONG)
    return method, int(images.split()[0].replace(",", ""))
