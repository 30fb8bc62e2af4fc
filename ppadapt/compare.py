"""Several tuning methods on the same data: one table, one picture."""
from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Sequence

from . import config as configs
from . import experiment
from .engine import checkpoint, log
from .errors import ConfigError, choose


def find_config(config: Path, method: str) -> Path:
    """The sibling of a config for another method: vit_micro_adaptformer.yaml, "vpt" -> vit_micro_vpt.yaml.

    Raises:
        ConfigError: when there is none; it names the methods there are.
    """
    parts = config.stem.split("_")
    prefixes = ["_".join(parts[:i]) + "_" for i in range(len(parts) - 1, 0, -1)]
    for prefix in prefixes:
        path = config.with_name(f"{prefix}{method}{config.suffix}")
        if path.is_file():
            return path
    if not config.is_file():
        raise ConfigError(f"config file {config} does not exist")
    known = {p.stem[len(prefix):] for prefix in prefixes[:2] for p in config.parent.glob(f"{prefix}*{config.suffix}")}
    raise ConfigError(choose("method", method, sorted(known)))


def compare(config: Path, methods: Sequence[str], seeds: Sequence[int], folder: Path,
            overrides: Sequence[str] = ()) -> list[dict]:
    """Train each method with each seed; returns a row of means per method.

    What is done already (same method, seed and resolved config) is read from `folder`/runs.json, so an
    interrupted comparison goes on where it stopped.

    Raises:
        UserError: as `experiment.train`.
    """
    plans = [(method, seed, find_config(config, method)) for method in methods for seed in seeds]
    resolved = [configs.load(path, [*overrides, f"Global.seed={seed}"]) for _, seed, path in plans]  # mistakes first
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "runs.json"
    done = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
    results = []
    for i, ((method, seed, path), plan) in enumerate(zip(plans, resolved), 1):
        plan.Global.output_dir = str(folder)
        known = [run for run in done if run["method"] == method and run["config"] == plan.to_dict()]
        if known:
            log.setup()
            log.LOGGER.info("run %d of %d, %s with seed %d: done before, top-1 %s", i, len(plans), method, seed,
                            known[0]["top1"])
            results.append(known[0])
            continue
        log.setup()
        log.LOGGER.info("run %d of %d: %s with seed %d", i, len(plans), method, seed)
        run = {"method": method, "seed": seed, **experiment.train(plan, path)}
        done.append(run)
        results.append(run)
        checkpoint.write_json(record, done)
    rows = [summarise(method, [r for r in results if r["method"] == method]) for method in methods]
    text = f"{table(rows)}\n\n{experiment.machine()}, paddle {results[0]['versions']['paddle']}\n"
    checkpoint.replace(folder / "comparison.md", lambda t: t.write_text(text, encoding="utf-8"))
    checkpoint.replace(folder / "comparison.csv", lambda t: t.write_text(_csv(rows), encoding="utf-8"))
    return rows


def summarise(method: str, runs: list[dict]) -> dict:
    """Means over the seeds of one method; `std` is that of the sample (None for one seed)."""
    top1 = [run["top1"] for run in runs]
    first = runs[0]
    return {"method": method, "seeds": len(runs), "top1": statistics.mean(top1),
            "std": statistics.stdev(top1) if len(top1) > 1 else None,
            "trained_parameters": first["trained_parameters"],
            "share": first["trained_parameters"] / first["parameters"], "file_bytes": first["file_bytes"],
            "images_per_second": statistics.mean(run["images_per_second"] for run in runs),
            "seconds": statistics.mean(run["seconds"] for run in runs),
            "peak_memory_mb": max(run["peak_memory_mb"] for run in runs), "runs": runs}


HEAD = ("method", "top-1", "seeds", "trained parameters", "of the network", "tuned file", "images/s", "time", "memory")


def cells(row: dict) -> list[str]:
    """A row of the table as text."""
    spread = f" ± {row['std']:.2f}" if row["std"] is not None else ""
    return [row["method"], f"{row['top1']:.2f}{spread}", str(row["seeds"]), f"{row['trained_parameters']:,}",
            f"{row['share']:.2%}", experiment.size(row["file_bytes"]), f"{row['images_per_second']:.0f}",
            f"{row['seconds']:.0f} s", f"{row['peak_memory_mb']:.0f} MiB"]


def table(rows: list[dict]) -> str:
    """The comparison in Markdown."""
    return experiment.markdown(HEAD, [cells(row) for row in rows])


def _csv(rows: list[dict]) -> str:
    keys = [k for k in rows[0] if k != "runs"]
    lines = [",".join(keys), *(",".join("" if row[k] is None else str(row[k]) for k in keys) for row in rows)]
    return "\n".join(lines) + "\n"
