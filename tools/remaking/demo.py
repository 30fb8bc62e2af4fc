"""The demo: its trainings, and the picture of its answers at the top of the README."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional

import numpy as np

from ppadapt import build, files
from ppadapt.runs import experiment, pictures
from ppadapt.runs.compare import Run

from . import drawings
from .place import Place, Step
from .trainings import Trainings

SHOWN = 32  # test images
TITLE = "AdaptFormer on test digits, by writers that training has not seen"


@dataclass(frozen=True)
class Demo(Trainings):
    """Trainings of which one, `pictured`, has its answers to the first test images recorded and drawn."""

    pictured: str = "adaptformer"

    def left(self, place: Place, name: str) -> Iterator[Step]:
        yield from super().left(place, name)
        if self._answers(place, name) is None:
            yield Step(f"{name}: the answers of {self.pictured} to {SHOWN} test images", None,
                       lambda: self._answer(place, name))

    def _answer(self, place: Place, name: str) -> None:
        """Ask the run, which is trained anew where only its record is at hand."""
        made, run = self.comparison(place, name), self._run(place, name)
        identity = made.identity(run.plan)
        folder = made.folder / made.found(run)["folder"]
        if not (folder / "best_model.safetensors").is_file():
            run.plan.Global.output_dir = str(made.folder)
            folder = Path(experiment.train(run.plan, run.row.path)["folder"])
        answers = experiment.predict_test(folder, SHOWN)[2]
        files.write_json(_path(place, name), {
            **identity, "answers": np.round(answers.astype(np.float64), 4).tolist()})

    def draw(self, place: Place, name: str) -> None:
        super().draw(place, name)
        answers, plan = self._answers(place, name), self._run(place, name).plan
        if answers is not None:
            data = build.dataset(plan.DataLoader.Eval, "test", 0)
            count = len(answers)
            pictures.predictions([data.image(i) for i in range(count)], data.labels[:count], answers,
                                 build.task_of(plan), data.classes, _picture(place), TITLE)
            drawings.note(_path(place, name), [_picture(place)])

    def stale(self, place: Place, name: str) -> list[str]:
        told = super().stale(place, name)
        if not _path(place, name).is_file():
            return told
        if self._answers(place, name) is None:
            return [*told, f"{name}: its answers to test images are of other data or weights: they are not taken"]
        return [*told, *drawings.wrong(_path(place, name), [_picture(place)])]

    def _run(self, place: Place, name: str) -> Run:
        made = self.comparison(place, name)
        return made.runs(next(row for row in made.rows if row.method == self.pictured))[0]

    def _answers(self, place: Place, name: str) -> Optional[np.ndarray]:
        """What is recorded [images, classes], where it is of this run."""
        if not _path(place, name).is_file():
            return None
        told = json.loads(_path(place, name).read_text(encoding="utf-8"))
        identity = self.comparison(place, name).identity(self._run(place, name).plan)
        return np.array(told["answers"]) if all(told[key] == value for key, value in identity.items()) else None


def _path(place: Place, name: str) -> Path:
    return place.record(name) / "answers.json"


def _picture(place: Place) -> Path:
    return place.root / "docs" / "predictions.png"
