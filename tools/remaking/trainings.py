"""Parts that are trainings of several methods: rows, seeds, a learning rate that may be chosen on held-out data."""
from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Optional, Sequence

from ppadapt import build
from ppadapt.config import Config, find
from ppadapt.runs import comparison, experiment, pictures
from ppadapt.runs.compare import Comparison, Run
from ppadapt.runs.plans import Row
from ppadapt.runs.record import Record
from ppadapt.runs.significance import Difference

from . import drawings
from .part import Part, View
from .place import REPOSITORY, Place, Step

SHOWN = ("seeds", "trained parameters", "of the network", "tuned file", "images/s", "time", "memory", "chosen")
TIMED = ("images/s", "time")
# Time and memory are of the machine's hour and the code's day: docs/performance.md measures them side by side.
COLUMNS = tuple(heading for heading in SHOWN if heading not in (*TIMED, "memory"))


@dataclass(frozen=True)
class Line:
    """A row of the table: its label, its config in configs/, and what of it is changed.

    `seeds` stands in the place of the part's; `choose` are candidates as of `ppadapt compare --choose`.
    """

    label: str
    config: str
    changes: tuple[str, ...] = ()
    seeds: Optional[int] = None
    choose: tuple[str, ...] = ()


def methods(beginning: str, *names: str) -> tuple[Line, ...]:
    """A line for each method that has its config: methods("cifar10/vit_micro", "vpt") -> cifar10/vit_micro_vpt."""
    return tuple(Line(name, f"{beginning}_{name}") for name in names)


@dataclass(frozen=True)
class Trainings(Part):
    """Rows that are trained and compared.

    Attributes:
        title: what it is, for `make results` and the top of its table.
        lines: the rows. seeds: how many. changes: overrides of all of them.
        columns: headings of the table beside method, score and what tells them apart.
        extra: heading -> what a row's cell says, of its runs.
        ranked: whether the best stands at the top of its table. drawn: whether it has a comparison's two pictures.
    """

    title: str
    lines: tuple[Line, ...]
    changes: tuple[str, ...] = ()
    seeds: int = 3
    columns: tuple[str, ...] = COLUMNS
    extra: tuple[tuple[str, Callable[[dict], str]], ...] = ()
    ranked: bool = False
    drawn: bool = True

    def comparison(self, place: Place, name: str) -> Comparison:
        """What is to be trained, and what is done of it."""
        record = place.runs_of(name)  # as its file is now
        return place.once(name, lambda: self._comparison(place, name, record))

    def _comparison(self, place: Place, name: str, record: Record) -> Comparison:
        rows = [Row(line.label, find(REPOSITORY / "configs" / f"{line.config}.yaml"),
                    changes=(*self.changes, *line.changes, *_places(line, place), *place.changes),
                    seeds=line.seeds, choices=line.choose)
                for line in self.lines]
        return Comparison(rows, range(self.seeds), place.runs / name, record, identity=place.identity)

    def adopt(self, place: Place, name: str) -> None:
        made = self.comparison(place, name)
        for run in _all_runs(made):
            identity = made.identity(run.plan)
            if not made.found(run) and (found := _elsewhere(place, name, identity)):
                made.record.add({**found, "row": run.row.label}, instead_of=made.record.stale(identity))

    def stale(self, place: Place, name: str) -> list[str]:
        made, told = self.comparison(place, name), {}
        for run in _all_runs(made):
            identity = made.identity(run.plan)
            for old in made.record.stale(identity):
                other = "weights" if old["config"] != identity["config"] else "data"
                told[id(old)] = f"{name}: {run.row.label}, {run.what} was made on other {other}: it is not taken"
        runs = [run for row in self.rows(place, name) for run in row["runs"]]
        return [*told.values(), *_mixed(name, runs), *self._pictures_wrong(place, name)]

    def _pictures_wrong(self, place: Place, name: str) -> list[str]:
        if not self.drawn or not self.rows(place, name):
            return []
        return drawings.wrong(place.runs_of(name).path, [place.record(name) / file for file in pictures.OF_COMPARISON])

    def left_out(self, place: Place) -> list[str]:
        if place.mosaics.is_dir() or not any(line.config.startswith("mosaic/") for line in self.lines):
            return []
        return [f"there is no folder {place.mosaics}: make it with `ppadapt mosaics`, or name it with --mosaics"]

    def left(self, place: Place, name: str) -> Iterator[Step]:
        return iter(()) if self.left_out(place) else self.untrained(place, name)

    def untrained(self, place: Place, name: str) -> Iterator[Step]:
        """The first seed of all rows, then the second: a table of all rows is there early."""
        made = self.comparison(place, name)
        paces = Paces(place)
        for seed in range(self.seeds):
            for row in made.rows:
                runs = [*(made.tries(row) if not seed else ()), *made.runs(row)[seed:seed + 1]]
                for run in runs:
                    if not made.found(run):
                        there = _elsewhere(place, name, made.identity(run.plan))
                        yield Step(f"{name}: {row.label}, {run.what}", 0 if there else paces.seconds(run.plan),
                                   lambda run=run: self._train(place, name, run))

    def _train(self, place: Place, name: str, run: Run) -> None:
        """One run. What it makes known (a choice) may ask for runs that another part has."""
        made = self.comparison(place, name)
        identity = made.identity(run.plan)
        made.train(run, identity, instead_of=made.record.stale(identity))
        self.adopt(place, name)

    def rows(self, place: Place, name: str) -> list[dict]:
        """What is done, a row of means for each line that has a run."""
        rows = self.comparison(place, name).table_rows()
        return sorted(rows, key=comparison.task_of(rows[0]).score, reverse=True) if rows and self.ranked else rows

    def draw(self, place: Place, name: str) -> None:
        rows = self.rows(place, name)
        if rows and self.drawn:
            drawings.note(place.runs_of(name).path, pictures.comparison(rows, place.record(name)))

    def views(self, place: Place, name: str) -> dict[str, View]:
        made: dict[str, View] = {name: lambda: self._table(place, name),
                                 f"{name}.pictures": lambda: self._pictures(place, name),
                                 f"{name}.says": lambda: says(self.rows(place, name)),
                                 f"{name}.readme": lambda: self._in_short(place, name)}
        if any(line.choose for line in self.lines):
            made[f"{name}.choices"] = lambda: comparison.choices_table(self.rows(place, name))
        return made

    def _table(self, place: Place, name: str) -> str:
        rows = self.rows(place, name)
        if not rows:
            return ""
        timed = all(_quiet(run) for row in rows for run in row["runs"])
        notes = [comparison.how_told_apart(rows), *self._missing(place, name), machines(rows),
                 "" if timed or not set(TIMED) & set(self.columns) else
                 "Times and images/s are left out: other work ran on the machine."]
        return "\n\n".join([table(rows, self.columns, self.extra, timed), *filter(None, notes)])

    def _in_short(self, place: Place, name: str) -> str:
        """The README's table: without the notes of docs/results.md, which it links to."""
        rows = self.rows(place, name)
        return table(rows, ("seeds", "trained parameters", "tuned file")) if rows else ""

    def _missing(self, place: Place, name: str) -> list[str]:
        made = self.comparison(place, name)
        lacking = {row.label: sum(not made.found(run) for run in made.runs(row)) for row in made.rows}
        some = [f"{label} ({count} of {len(made.runs(row))} seeds)" for (label, count), row in
                zip(lacking.items(), made.rows) if count]
        return [f"Not run yet: {', '.join(some)}. `make results PART={name}` goes on."] if some else []

    def _pictures(self, place: Place, name: str) -> str:
        if not self.drawn or not self.rows(place, name):
            return ""
        named = {"Accuracy per method": "accuracy_by_method", "Accuracy by parameters": "accuracy_by_parameters"}
        return "\n".join(f"![{what}](results/{name}/{file}.png)" for what, file in named.items())


def table(rows: list[dict], shown: Sequence[str], extra: Sequence[tuple[str, Callable]] = (),
          timed: bool = True) -> str:
    """A table of rows with the headings that are asked for, and what of the rest tells them apart."""
    cells = comparison.columns(rows)
    first = [head for head in cells if head not in SHOWN]
    kept = [head for head in shown if head in cells and (timed or head not in TIMED)]
    cells = {**{head: cells[head] for head in (*first, *kept)},
             **{head: [said(row) for row in rows] for head, said in extra}}
    return experiment.markdown(list(cells), list(zip(*cells.values())))


def says(rows: list[dict]) -> str:
    """What the differences to the reference are, in sentences, and nothing beyond them; "" before there are any."""
    if len(rows) < 2:
        return ""
    other = comparison.reference(rows)["method"]
    lone = [row["method"] for row in rows if comparison.lone(row, rows)]
    found = [(row["method"], difference) for row, difference in zip(rows, comparison.differences(rows))
             if difference and row["method"] not in lone]
    kinds = {f"Better than {other}": [(name, d) for name, d in found if d.real and d.mean > 0],
             f"Worse than {other}": [(name, d) for name, d in found if d.real and d.mean < 0]}
    alike = [name for name, difference in found if not difference.real]
    comma = "; " if any("," in row["method"] for row in rows) else ", "
    told = [f"{kind}: {comma.join(f'{name} ({d.mean:+.2f})' for name, d in these)}."
            for kind, these in kinds.items() if these]
    told += [f"Not told apart from {other}: {comma.join(alike)}."] if alike else []
    told += limits(difference for _, difference in found)
    told += [f"Of one seed, so that nothing is concluded: {comma.join(lone)}."] if lone else []
    return "\n\n".join(told)


def limits(found: Iterable[Difference]) -> list[str]:
    """What the intervals of these differences leave out, a sentence each."""
    found = list(found)
    return [f"That is of {this}: how much others would change is not known." for this, it_is in
            (("these test images", any(difference.images is None for difference in found)),
             ("one seed", any(difference.seeds == 1 for difference in found))) if it_is]


def machines(rows: list[dict]) -> str:
    """Where the runs of a table ran, and with which versions."""
    told = sorted({f"{run['machine']}, ppadapt {run['versions']['ppadapt']}, paddle {run['versions']['paddle']}"
                   for row in rows for run in row["runs"]})
    return f"Ran on {'; '.join(told)}."


class Paces:
    """How long a run will take, from those that are recorded: seconds for an image that training passes."""

    def __init__(self, place: Place):
        self.known: dict[str, list[float]] = {}
        self.sizes: dict[str, int] = {}
        for part in place.recorded():
            for run in place.runs_of(part).known():
                data, images = run["config"]["DataLoader"]["Train"]["dataset"], run.get("training_images")
                if images and not data.get("limit") and not data.get("holdout"):
                    self.sizes[data["name"]] = images
                passed = images * run["config"]["Global"]["epochs"] if images else 0
                pace = run["seconds"] / passed if passed else 1 / max(run["images_per_second"], 1e-6)
                for kind in _kinds(run["config"]["Arch"], run["tuning"]):
                    self.known.setdefault(kind, []).append(pace)

    def seconds(self, plan: Config) -> Optional[float]:
        """Of a run, as others of its network and methods took, or else of its network; None where none is known."""
        data = plan.DataLoader.Train.dataset
        images = data.get("limit") or self.sizes.get(data["name"])
        tuning = [type(method).__name__ for method in build.methods(plan.Tuning)]
        paces = next((self.known[kind] for kind in _kinds(plan.to_dict()["Arch"], tuning) if kind in self.known), None)
        if not paces or not images:
            return None
        return statistics.median(paces) * images * (1 - data.get("holdout", 0)) * plan.Global.epochs


def _kinds(arch: dict, tuning: Sequence[str]) -> list[str]:
    """What takes about the same time for an image, the likest first: the same sizes and methods, the same sizes."""
    sizes = {key: value for key, value in arch.items() if not key.startswith("pretrained") and value is not None}
    return [json.dumps([sizes, *told], sort_keys=True, default=str) for told in ([list(tuning)], [])]


def _quiet(run: dict) -> bool:
    """Whether nothing else wanted the cores while a run trained: what is not known is not."""
    cores = int(run["machine"].split()[0])
    return run.get("load") is not None and run["load"] <= cores + 0.5


def _mixed(name: str, runs: list[dict]) -> list[str]:
    """Whether runs that are compared are of other images than each other; a set of their own size may be asked for."""
    found: dict[str, set[str]] = {}
    for run in runs:
        asked = {**run["config"]["DataLoader"]["Train"]["dataset"], "transform_ops": None}
        found.setdefault("test images", set()).add(run["data"]["Eval"])
        found.setdefault(f"training images {json.dumps(asked, sort_keys=True)}", set()).add(run["data"]["Train"])
    return [f"{name}: its runs are of {len(digests)} different sets of {what}: `make results PART={name}`"
            for what, digests in found.items() if len(digests) > 1]


def _places(line: Line, place: Place) -> list[str]:
    """Where a line's data is on this machine."""
    data_set = line.config.partition("/")[0]
    if data_set == "mosaic":
        return [f"DataLoader.{side}.dataset.{key}={place.mosaics / file}" for side, split in
                (("Train", "train"), ("Eval", "test")) for key, file in
                (("image_root", ""), ("cls_label_path", f"multilabel_{split}_list.txt"),
                 ("class_id_map_file", "classes.txt"))]
    if data_set == "digits":
        return []
    return [f"DataLoader.{side}.dataset.root={place.cifar10}" for side in ("Train", "Eval")]


def _elsewhere(place: Place, name: str, identity: dict) -> Optional[dict]:
    """The record of a run that another part has."""
    others = (place.runs_of(other) for other in place.recorded() if other != name)
    return next((found for other in others if (found := other.find(identity))), None)


def _all_runs(made: Comparison) -> list[Run]:
    return [run for row in made.rows for run in (*made.tries(row), *made.runs(row))]
