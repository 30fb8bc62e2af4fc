"""Several tuning methods on the same data: one table, and the runs behind it."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Sequence

from .. import build, files, log, weights
from ..config import Config
from ..errors import ConfigError, UserError
from ..tasks import Task
from . import experiment
from .comparison import summarise, write
from .plans import Row, find_config, held_out, in_short, variants
from .record import Identity, Record

DETAILS = ("per_class", "confusion")  # of a run's results: they stay in its own folder


def compare(config: Path, methods: Sequence[str], seeds: Sequence[int], folder: Path, overrides: Sequence[str] = (),
            sweep: Sequence[str] = (), choices: Sequence[str] = (), holdout: float = 0.1,
            results: Optional[Path] = None) -> list[dict]:
    """Train each method with each seed; returns a row of means per method and swept value.

    What is done already is read from runs.json, so an interrupted comparison goes on where it stopped, on this
    machine or another.

    Args:
        folder: gets the runs' own folders. results: gets runs.json and the tables; `folder` when absent.
        methods: ends of the names of configs beside `config`.
        sweep: "A.b=1,2": a row for each value; several make a row for each combination.
        choices: "A.b=1,2": for each row, the value (or combination) that is best on a held-out part of the
            training data, trained with the first seed on the rest. The table's runs use all training data.
        holdout: the share held out.

    Raises:
        UserError: as `experiment.train`; whatever does not fit is said before anything is trained.
    """
    rows = [Row(method, find_config(config, method), swept) for method in methods for swept in variants(sweep)]
    candidates = variants(choices)
    to_try = candidates if len(candidates) > 1 else []  # of one there is no choice
    results = results or folder
    files.check_writable(results, "--results")
    runs = _Runs(folder, results / "runs.json")

    def on_all(row: Row, candidate: dict[str, Any], seed: int) -> Config:
        return row.config(overrides, candidate, seed)

    def on_a_part(row: Row, candidate: dict[str, Any]) -> Config:
        return held_out(row.config(overrides, candidate, seeds[0]), holdout)

    with weights.reading_once():
        for row in rows:
            for candidate in candidates:
                runs.check(row, on_all(row, candidate, seeds[0]))
            for candidate in to_try:
                runs.check(row, on_a_part(row, candidate))
        runs.total = len(rows) * (len(to_try) + len(seeds))
        table_rows = []
        for row in rows:
            tried = [runs.get(row, on_a_part(row, candidate), ", ".join([*in_short(candidate), "held-out data"]))
                     for candidate in to_try]
            chosen = candidates[_best(tried, runs.task)] if tried else candidates[0]
            done = [runs.get(row, on_all(row, chosen, seed), f"seed {seed}") for seed in seeds]
            table_rows.append({**summarise(row.label, done), "chosen": chosen,
                               "candidates": _reached(to_try, tried, runs.task)})
    write(results, table_rows)
    return table_rows


def _best(tried: Sequence[dict], task: Task) -> int:
    """The index of the run with the best score; of equal ones the one with the smallest loss, then the first."""
    return max(range(len(tried)), key=lambda i: (task.score(tried[i]), -tried[i]["loss"]))


def _reached(candidates: Sequence[dict], tried: Sequence[dict], task: Task) -> list[dict]:
    """What each candidate reached on held-out data."""
    return [{"values": candidate, task.main: run[task.main], "loss": run["loss"]}
            for candidate, run in zip(candidates, tried)]


class _Runs:
    """Trains what is not done, and remembers it."""

    def __init__(self, folder: Path, record: Path):
        self.folder, self.record, self.identity = folder, Record(record), Identity()
        self.total = self.count = 0
        self.task: Optional[Task] = None

    def check(self, row: Row, plan: Config) -> None:
        """Raise a user's mistake with the row it is in."""
        try:
            if not plan.Global.eval_during_train:
                raise ConfigError("a comparison needs Global.eval_during_train: True")
            self._check_task(plan)
            if not self.record.find(self.identity(plan)):
                plan.Global.output_dir = str(self.folder)
                build.check(plan)
        except UserError as error:
            raise type(error)(f"{row.label}: {error}") from None

    def _check_task(self, plan: Config) -> None:
        """All rows answer the same question, and their evaluations measure what they are compared by."""
        task = build.task_of(plan)
        if self.task is not None and task.manifest() != self.task.manifest():
            raise ConfigError(f"Task {_options(task)} is not that of the rows above, {_options(self.task)}: make two "
                              "comparisons")
        self.task = task
        measured = {name for metric in build.metrics(plan, task, "Eval") for name in metric.names()}
        if task.main not in measured:
            raise ConfigError(f"a comparison needs {task.headline[task.main]}: add it to Metric.Eval, such as "
                              f"{task.default_metrics}")

    def get(self, row: Row, plan: Config, what: str) -> dict:
        """The results of a run, from the record or from training."""
        self.count += 1
        log.setup()
        identity = self.identity(plan)
        run = self.record.find(identity)
        main = self.task.main
        log.LOGGER.info("run %d of %d: %s, %s%s", self.count, self.total, row.label, what,
                        "" if run is None else f": done before, {self.task.headline[main]} {run[main]}")
        if run is None:
            plan.Global.output_dir = str(self.folder)
            cut_off = build.cut_off(plan, self.folder / experiment.run_name(row.path))
            if cut_off:
                log.LOGGER.info("it was cut off: goes on from %s", cut_off)
                plan.Global.checkpoints = str(cut_off)
            results = experiment.train(plan, row.path)
            place = Path(results["folder"]).relative_to(self.folder).as_posix()
            kept = {key: value for key, value in results.items() if key not in DETAILS}
            run = {"row": row.label, "seed": plan.Global.seed, **kept, "folder": place, **identity}
            self.record.add(run)
        return run


def _options(task: Task) -> str:
    return ", ".join(f"{value}" if key == "kind" else f"{key}={value}" for key, value in task.manifest().items())
