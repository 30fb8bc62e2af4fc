"""Several tuning methods on the same data: one table, and the runs behind it."""
from __future__ import annotations

import copy
import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional, Sequence

from .. import build, files, log, weights
from ..config import Config
from ..errors import ConfigError, UserError
from ..tasks import Task
from . import experiment
from .comparison import summarise, write
from .plans import Row, held_out, in_short, row_of, variants
from .record import Identity, Record

DETAILS = ("per_class", "confusion", "history")  # of a run's results: they stay in its own folder


def compare(config: Path, methods: Sequence[str], seeds: Sequence[int], folder: Path, overrides: Sequence[str] = (),
            sweep: Sequence[str] = (), choices: Sequence[str] = (), holdout: float = 0.1,
            results: Optional[Path] = None) -> list[dict]:
    """Train each method with each seed; returns a row of means per method and swept value.

    What is done already is read from runs.json, so an interrupted comparison goes on where it stopped, on this
    machine or another.

    Args:
        folder: gets the runs' own folders. results: gets runs.json and the tables; `folder` when absent.
        methods: ends of the names of configs beside `config`; those of others take their settings that ship.
        sweep: "A.b=1,2": a row for each value; several make a row for each combination.
        choices: "A.b=1,2": for each row, the value (or combination) that is best on a held-out part of the
            training data, trained with the first seed on the rest. The table's runs use all training data.
        holdout: the share held out.

    Raises:
        UserError: as `experiment.train`; whatever does not fit is said before anything is trained.
    """
    rows = [row_of(config, method, swept, overrides) for method in methods for swept in variants(sweep)]
    results = results or folder
    files.check_writable(results, "--results")
    comparison = Comparison(rows, seeds, folder, Record(results / "runs.json"), overrides, choices, holdout)
    with weights.reading_once(), log.many_runs():
        comparison.check()
        log.setup()
        log.LOGGER.info("%d runs; the log of each is train.log in its folder, below %s", comparison.total, folder)
        for told in dict.fromkeys(row.told for row in rows if row.told):
            log.LOGGER.info(told)
        for row in rows:
            for runs in (comparison.tries, comparison.runs):  # what the second are is chosen by the first
                for run in runs(row):
                    comparison.get(run)
    table_rows = comparison.table_rows()
    write(results, table_rows)
    return table_rows


@dataclass
class Run:
    """One training of a comparison: its row, what it is in words, and its config."""

    row: Row
    what: str
    plan: Config


class Comparison:
    """The runs that the rows of a table need; what is done is in the record.

    Args: as `compare`; `identity` is what runs are compared by.
    """

    def __init__(self, rows: Sequence[Row], seeds: Sequence[int], folder: Path, record: Record,
                 overrides: Sequence[str] = (), choices: Sequence[str] = (), holdout: float = 0.1,
                 identity: Optional[Identity] = None):
        self.rows, self.seeds, self.folder, self.record = rows, seeds, folder, record
        self.overrides, self.holdout = overrides, holdout
        self._candidates = {row.label: variants(row.choices or choices) for row in rows}
        self.identity = identity or Identity()
        self.task: Optional[Task] = None
        self._loaded: dict[tuple, Config] = {}
        self._left: Counter[str] = Counter()
        for row in rows:
            self._left[row.label] += len(self.tries(row)) + len(self.runs(row))
        self.count, self.total = 0, sum(self._left.values())
        self._took: dict[str, list[float]] = {}

    # What there is to run

    def candidates(self, row: Row) -> list[dict[str, Any]]:
        """The values that a row chooses from: its own, or those of the comparison."""
        return self._candidates[row.label]

    def tries(self, row: Row) -> list[Run]:
        """The candidates of a row on held-out data; of one there is no choice."""
        candidates = self.candidates(row)
        return [Run(row, ", ".join([*in_short(candidate), "held-out data"]),
                    held_out(self._plan(row, candidate, self.seeds[0]), self.holdout))
                for candidate in candidates if len(candidates) > 1]

    def runs(self, row: Row) -> list[Run]:
        """A run on all training data for each seed, with what was chosen; before that, with the first candidate."""
        chosen = self.chosen(row) or self.candidates(row)[0]
        seeds = self.seeds if row.seeds is None else self.seeds[:row.seeds]
        return [Run(row, f"seed {seed}", self._plan(row, chosen, seed)) for seed in seeds]

    def _plan(self, row: Row, candidate: dict[str, Any], seed: int) -> Config:
        """The config of a run, whose files are read once for all seeds."""
        key = self.rows.index(row), self.candidates(row).index(candidate)
        if key not in self._loaded:
            self._loaded[key] = row.config(self.overrides, candidate, seed)
        plan = copy.deepcopy(self._loaded[key])
        plan.Global.seed = seed
        return plan

    def chosen(self, row: Row) -> Optional[dict[str, Any]]:
        """The candidate that did best on held-out data, of equal ones that with the smallest loss; None before that."""
        candidates = self.candidates(row)
        if len(candidates) == 1:
            return candidates[0]
        tried = [self.found(run) for run in self.tries(row)]
        if None in tried:
            return None
        task = build.task_of(self.tries(row)[0].plan)
        return candidates[max(range(len(tried)), key=lambda i: (task.score(tried[i]), -tried[i]["loss"]))]

    def found(self, run: Run) -> Optional[dict]:
        """The results of a run that is done."""
        return self.record.find(self.identity(run.plan))

    # Running

    def check(self) -> None:
        """Raise a user's mistake with the row it is in, before anything is trained."""
        for row in self.rows:
            for run in [*self.tries(row), *(Run(row, "", self._plan(row, candidate, self.seeds[0]))
                                            for candidate in self.candidates(row))]:
                self._check(run)

    def _check(self, run: Run) -> None:
        plan = run.plan
        try:
            if not plan.Global.eval_during_train:
                raise ConfigError("a comparison needs Global.eval_during_train: True")
            self._check_task(plan)
            if not self.found(run):
                plan.Global.output_dir = str(self.folder)
                build.check(plan)
        except UserError as error:
            raise type(error)(f"{run.row.label}: {error}") from None

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

    def get(self, run: Run) -> dict:
        """The results of a run, from the record or from training."""
        self.count += 1
        log.setup()
        plan, identity = run.plan, self.identity(run.plan)
        done, task = self.record.find(identity), build.task_of(plan)
        log.LOGGER.info("run %d of %d: %s, %s%s", self.count, self.total, run.row.label, run.what,
                        "" if done is None else f": done before, {task.headline[task.main]} {done[task.main]:.2f}")
        if done is None:
            done = self.train(run, identity)
            self._took.setdefault(run.row.label, []).append(done["seconds"])
        self._left[run.row.label] -= 1
        self._say_left()
        return done

    def train(self, run: Run, identity: dict, instead_of: Sequence[dict] = ()) -> dict:
        """Train a run, or go on with it where it was cut off, and remember it by its identity, `instead_of` others.

        That is asked for before anything is built of the plan, which fills in what it leaves to the task.
        """
        plan = run.plan
        plan.Global.output_dir = str(self.folder)
        cut_off = build.cut_off(plan, self.folder / experiment.run_name(run.row.path))
        if cut_off:
            log.LOGGER.info("it was cut off: goes on from %s", cut_off)
            plan.Global.checkpoints = str(cut_off)
        results = experiment.train(plan, run.row.path)
        place = Path(results["folder"]).relative_to(self.folder).as_posix()
        kept = {key: value for key, value in results.items() if key not in DETAILS}
        done = {"row": run.row.label, "seed": plan.Global.seed, **kept, "folder": place, **identity}
        self.record.add(done, instead_of)
        return done

    def _say_left(self) -> None:
        """How long the runs that are left will take, by those of their row, or of all, that were trained now."""
        left, all_of_them = sum(self._left.values()), [s for row in self._took.values() for s in row]
        if left <= 0 or not all_of_them:
            return
        seconds = sum(count * statistics.fmean(self._took.get(label, all_of_them))
                      for label, count in self._left.items())
        log.LOGGER.info("%d of %d runs are left: about %s", left, self.total, timedelta(seconds=round(seconds)))

    # What came of it

    def table_rows(self) -> list[dict]:
        """A row of means for each row that has a run which is done, with what its candidates reached."""
        rows = []
        for row in self.rows:
            tried = [(candidate, self.found(run)) for candidate, run in zip(self.candidates(row), self.tries(row))]
            chosen = self.chosen(row)
            done = [self.found(run) for run in self.runs(row)] if chosen is not None else []
            done = [run for run in done if run]
            if done:
                main = build.task_of(self.runs(row)[0].plan).main
                reached = [{"values": candidate, main: run[main], "loss": run["loss"]} for candidate, run in tried]
                rows.append({**summarise(row.label, done), "chosen": chosen, "candidates": reached})
        return rows


def _options(task: Task) -> str:
    return ", ".join(f"{value}" if key == "kind" else f"{key}={value}" for key, value in task.manifest().items())
