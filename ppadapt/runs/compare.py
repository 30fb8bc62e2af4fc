"""Several tuning methods on the same data: one table, and the runs behind it."""
from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Sequence

from .. import build, files, log, tasks, weights
from .. import config as configs
from ..config import Config
from ..data.holdout import PART
from ..errors import ConfigError, UserError, choose
from ..tasks import Task
from . import experiment
from .record import Identity, Record

DETAILS = ("per_class", "confusion")  # of a run's results: they stay in its own folder


def find_config(config: Path, method: str) -> Path:
    """The sibling of a config for another method: vit_micro_adaptformer.yaml, "vpt" -> vit_micro_vpt.yaml.

    Raises:
        ConfigError: when there is none; it names the methods there are.
    """
    parts, stems = config.stem.split("_"), {p.stem for p in config.parent.glob(f"*{config.suffix}")}
    starts = ["_".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
    # What is a config itself, or starts no other, is part of a method's name: of adaptformer_vpt, not of vpt.
    shared = [start for start in starts if start not in stems
              and any(stem.startswith(f"{start}_") for stem in stems - {config.stem})]
    prefixes = [f"{start}_" for start in shared or starts]
    for prefix in prefixes:
        path = config.with_name(f"{prefix}{method}{config.suffix}")
        if path.is_file():
            return path
    if not config.is_file():
        raise ConfigError(f"config file {config} does not exist")
    known = {p.stem[len(prefix):] for prefix in prefixes[:2] for p in config.parent.glob(f"{prefix}*{config.suffix}")}
    raise ConfigError(choose("method", method, sorted(known)))


@dataclass
class Row:
    """One row of the table: a method with one value of what is swept."""

    method: str
    path: Path
    swept: dict[str, Any]

    @property
    def label(self) -> str:
        """adaptformer, bottleneck=4"""
        return ", ".join([self.method, *brief(self.swept)])

    def config(self, overrides: Sequence[str], chosen: dict[str, Any], seed: int) -> Config:
        """The resolved config of a run on all training data."""
        values = {**self.swept, **chosen, "Global.seed": seed}
        return configs.load(self.path, [*overrides, *(f"{key}={json.dumps(v)}" for key, v in values.items())])


def brief(values: dict[str, Any]) -> list[str]:
    """Changed values by the last part of their key: ["bottleneck=4"]."""
    return [f"{key.rpartition('.')[2]}={value}" for key, value in values.items()]


def held_out(config: Config, share: float) -> Config:
    """The same training without `share` of its data, evaluated on that share: the test data is not read.

    Raises:
        ConfigError: when the training data is itself a held-out part.
    """
    train, test = config.DataLoader.Train, config.DataLoader.Eval
    if "holdout" in train.dataset:
        raise ConfigError("DataLoader.Train.dataset.holdout is set: --choose holds out by itself, remove one of them")
    train.dataset["holdout"] = share
    data = {key: value for key, value in train.dataset.items() if key not in ("transform_ops", "batch_transform_ops")}
    test.dataset = {**data, "split": PART, "transform_ops": test.dataset.get("transform_ops")}
    return config


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
    results = results or folder
    runs = _Runs(folder, results / "runs.json")
    first, search = seeds[0], candidates if len(candidates) > 1 else []
    with weights.reading_once():
        for row in rows:
            for candidate in candidates:
                runs.check(row, row.config(overrides, candidate, first))
            for candidate in search:
                runs.check(row, held_out(row.config(overrides, candidate, first), holdout))
        task = runs.task
        runs.total = len(rows) * (len(search) + len(seeds))
        table_rows = []
        for row in rows:
            tried = [runs.get(row, held_out(row.config(overrides, candidate, first), holdout),
                              ", ".join([*brief(candidate), "held-out data"])) for candidate in search]
            best = max(range(len(tried)), key=lambda i: (task.score(tried[i]), -tried[i]["loss"])) if tried else 0
            done = [runs.get(row, row.config(overrides, candidates[best], seed), f"seed {seed}") for seed in seeds]
            table_rows.append({**summarise(row.label, done), "chosen": candidates[best], "candidates": [
                {"values": c, task.main: run[task.main], "loss": run["loss"]} for c, run in zip(search, tried)]})
    _write(results, table_rows)
    return table_rows


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
            results = experiment.train(plan, row.path)
            place = Path(results["folder"]).relative_to(self.folder).as_posix()
            kept = {key: value for key, value in results.items() if key not in DETAILS}
            run = {"row": row.label, "seed": plan.Global.seed, **kept, "folder": place, **identity}
            self.record.add(run)
        return run


def _options(task: Task) -> str:
    return ", ".join(f"{value}" if key == "kind" else f"{key}={value}" for key, value in task.manifest().items())


def variants(options: Sequence[str]) -> list[dict[str, Any]]:
    """["A.b=1,2", "C=x"] -> every combination: [{"A.b": 1, "C": "x"}, {"A.b": 2, "C": "x"}]; of nothing, [{}].

    Raises:
        ConfigError: for one that is not a key and YAML values with commas between them.
    """
    keys, values = [], []
    for option in options:
        key, listed = configs.values(option)
        keys.append(key)
        values.append(listed)
    return [dict(zip(keys, combination)) for combination in itertools.product(*values)]


def seed_list(text: str) -> list[int]:
    """"3" -> [0, 1, 2]; "0,1,5" -> those; "7," -> [7].

    Raises:
        ConfigError: for anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    if not all(part.isdecimal() for part in numbers) or text.strip() == "0":
        raise ConfigError(f"--seeds {text!r} is neither how many (3 means 0,1,2) nor a list such as 0,1,2 "
                          "(the seed 0 alone is '0,')")
    seeds = [int(part) for part in numbers] if len(parts) > 1 else list(range(int(text)))
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text} names a seed twice")
    return seeds


def summarise(method: str, runs: list[dict]) -> dict:
    """Means over the seeds of one row; `std` is that of the sample (None for one seed)."""
    first, peaks = runs[0], [run["peak_memory_mb"] for run in runs]
    main = tasks.from_manifest(first.get("task")).main
    found = [run[main] for run in runs]
    return {"method": method, "seeds": len(runs), main: statistics.mean(found),
            "std": statistics.stdev(found) if len(found) > 1 else None,
            "trained_parameters": first["trained_parameters"],
            "share": first["trained_parameters"] / first["parameters"], "file_bytes": first["file_bytes"],
            "images_per_second": statistics.mean(run["images_per_second"] for run in runs),
            "cached_features": any(run.get("cached_features") for run in runs),
            "seconds": statistics.mean(run["seconds"] for run in runs),
            "peak_memory_mb": None if None in peaks else max(peaks), "runs": runs}


def task_of(row: dict) -> Task:
    """What the runs of a row were asked."""
    return tasks.from_manifest(row["runs"][0].get("task"))


def cells(row: dict) -> list[str]:
    """A row of the table as text."""
    spread = f" ± {row['std']:.2f}" if row["std"] is not None else ""
    return [row["method"], f"{row[task_of(row).main]:.2f}{spread}", str(row["seeds"]), f"{row['trained_parameters']:,}",
            f"{row['share']:.2%}", experiment.size(row["file_bytes"]),
            f"{row['images_per_second']:.0f}" + "*" * row["cached_features"], f"{row['seconds']:.0f} s",
            experiment.memory(row["peak_memory_mb"])]


def table(rows: list[dict]) -> str:
    """The comparison in Markdown, with what was chosen on held-out data where there was a choice."""
    task = task_of(rows[0])
    head = ("method", task.headline[task.main], "seeds", "trained parameters", "of the network", "tuned file",
            "images/s", "time", "memory")
    lines = [cells(row) for row in rows]
    if any(row.get("candidates") for row in rows):
        head, lines = (*head, "chosen"), [[*line, ", ".join(brief(r["chosen"]))] for line, r in zip(lines, rows)]
    note = "\n\n\\* the head alone, on cached features" if any(row["cached_features"] for row in rows) else ""
    return experiment.markdown(head, lines) + note


def choices_table(rows: list[dict]) -> str:
    """What every candidate reached on held-out data, in Markdown; empty where nothing was chosen."""
    task = task_of(rows[0])
    tried = [[row["method"], ", ".join(brief(c["values"])), f"{c[task.main]:.2f}", "x" * (c["values"] == row["chosen"])]
             for row in rows for c in row.get("candidates", ())]
    head = ("method", "candidate", f"held-out {task.headline[task.main]}", "chosen")
    return experiment.markdown(head, tried) if tried else ""


def _write(folder: Path, rows: list[dict]) -> None:
    runs = [run for row in rows for run in row["runs"]]
    places = sorted({f"{run['machine']}, paddle {run['versions']['paddle']}" for run in runs})
    text = "\n\n".join(part for part in (table(rows), "; ".join(places), choices_table(rows)) if part)
    files.write_text(folder / "comparison.md", text + "\n")
    files.write_text(folder / "comparison.csv", _csv(rows))


def _csv(rows: list[dict]) -> str:
    out = io.StringIO()
    keys = [key for key in rows[0] if key not in ("runs", "candidates")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(keys)
    for row in rows:
        writer.writerow("; ".join(brief(row[k])) if k == "chosen" else row[k] for k in keys)
    return out.getvalue()
