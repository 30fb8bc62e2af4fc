"""The same trainings in PyTorch, from the same weights on the same images, seed by seed."""
from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import numpy as np
from benchmark import sizes

from ppadapt import build, cpu, errors
from ppadapt.networks import shipped
from ppadapt.runs import experiment, significance
from ppadapt.runs.compare import Comparison, Run
from ppadapt.runs.record import Record
from ppadapt.weights import load_weights

from .part import View
from .place import REPOSITORY, Place, Step
from .trainings import Trainings, machines

PEER = REPOSITORY / "tools" / "peers" / "torch_training.py"


@dataclass(frozen=True)
class Parity(Trainings):
    """Trainings with a PyTorch side: a run of it is known by the identity of ours."""

    def left_out(self, place: Place) -> list[str]:
        return [] if place.torch_python else ["PyTorch's side: name an interpreter that has it with --torch-python"]

    def left(self, place: Place, name: str) -> Iterator[Step]:
        yield from self.untrained(place, name)
        if self.left_out(place):
            return
        record = Record(_peers(place, name))
        took = [run["seconds"] for run in record.runs]
        made = self.comparison(place, name)
        for seed in range(self.seeds):
            for row in made.rows:
                run = made.runs(row)[seed]
                if not record.find(made.identity(run.plan)):
                    yield Step(f"{name}: {row.label}, {run.what}, PyTorch", statistics.median(took) if took else None,
                               lambda run=run: self._torch(place, name, run))

    def _torch(self, place: Place, name: str, run: Run) -> None:
        made, plan = self.comparison(place, name), run.plan
        identity = made.identity(plan)
        train, test = (build.dataset(getattr(plan.DataLoader, side), kind, 0)
                       for side, kind in (("Train", "train"), ("Eval", "test")))
        arrays = load_weights(shipped(plan.Arch.name)).tensors
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "given.npz"
            np.savez(path, **{f"weights.{key}": value for key, value in arrays.items()},
                     train=train.images, train_labels=train.labels, test=test.images, test_labels=test.labels)
            told = {"given": str(path), "method": run.row.label, "sizes": sizes(plan.Arch.name),
                    "seed": plan.Global.seed, "epochs": plan.Global.epochs,
                    "batch": plan.DataLoader.Train.sampler.batch_size,
                    "learning_rate": plan.Optimizer["lr"]["learning_rate"], "threads": cpu.cores()}
            done = subprocess.run([place.torch_python, str(PEER), json.dumps(told)], capture_output=True, text=True)
        if done.returncode:
            raise errors.UserError(f"{place.torch_python} {PEER} failed:\n{done.stderr[-2000:]}")
        record = Record(_peers(place, name))
        record.add({"row": run.row.label, "seed": plan.Global.seed, "machine": experiment.machine(),
                    **json.loads(done.stdout.splitlines()[-1]), **identity}, instead_of=record.stale(identity))

    def stale(self, place: Place, name: str) -> list[str]:
        made, record = self.comparison(place, name), Record(_peers(place, name))
        return [*super().stale(place, name),
                *(f"{name}: {run.row.label}, {run.what}, PyTorch was made on other data or weights: it is not taken"
                  for row in made.rows for run in made.runs(row)
                  if record.stale(self._asked_of_peer(made, run)))]

    @staticmethod
    def _asked_of_peer(made: Comparison, run: Run) -> dict:
        """The identity that PyTorch's run is to have: where the images are not at hand, that of our run's."""
        identity, ours = made.identity(run.plan), made.found(run)
        return {**({"data": ours["data"]} if ours else {}), **identity}

    def views(self, place: Place, name: str) -> dict[str, View]:
        return {**super().views(place, name), f"{name}.torch": lambda: self._beside(place, name)}

    def _beside(self, place: Place, name: str) -> str:
        """Both sides of the methods that have both, on the seeds that both have."""
        made, record = self.comparison(place, name), Record(_peers(place, name))
        cells, versions, rows = [], set(), []
        for row in made.rows:
            pairs = [(made.found(run), record.find(self._asked_of_peer(made, run))) for run in made.runs(row)]
            pairs = [pair for pair in pairs if None not in pair]
            if pairs:
                ours, theirs = zip(*pairs)
                found = significance.between(ours, theirs, "top1")
                cells.append([row.label, f"{ours[0]['trained_parameters']:,}", _mean(theirs), _mean(ours),
                              str(found or ""), str(len(pairs))])
                versions |= {f"{run['version']} on {run['machine']}" for run in theirs}
                rows.append({"runs": ours})
        if not cells:
            return ""
        head = ["method", "trained parameters", "PyTorch, top-1", "ppadapt, top-1", "difference (95%)", "seeds"]
        where = f"{machines(rows)} PyTorch: {'; '.join(sorted(versions))}."
        return "\n\n".join([experiment.markdown(head, cells), where])


def _mean(runs) -> str:
    found = [run["top1"] for run in runs]
    return f"{statistics.mean(found):.2f}" + (f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else "")


def _peers(place: Place, name: str) -> Path:
    return place.record(name) / "torch.json"
