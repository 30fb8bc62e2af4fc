"""A comparison's results: means over seeds, and the tables of them."""
from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path

from .. import files, tasks
from ..tasks import Task
from . import experiment
from .plans import in_short


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
        head, lines = (*head, "chosen"), [[*line, ", ".join(in_short(r["chosen"]))] for line, r in zip(lines, rows)]
    note = "\n\n\\* the head alone, on cached features" if any(row["cached_features"] for row in rows) else ""
    return experiment.markdown(head, lines) + note


def choices_table(rows: list[dict]) -> str:
    """What every candidate reached on held-out data, in Markdown; empty where nothing was chosen."""
    task = task_of(rows[0])
    tried = [[row["method"], ", ".join(in_short(candidate["values"])), f"{candidate[task.main]:.2f}",
              "x" if candidate["values"] == row["chosen"] else ""]
             for row in rows for candidate in row.get("candidates", ())]
    head = ("method", "candidate", f"held-out {task.headline[task.main]}", "chosen")
    return experiment.markdown(head, tried) if tried else ""


def write(folder: Path, rows: list[dict]) -> None:
    """comparison.md and comparison.csv."""
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
        writer.writerow("; ".join(in_short(row[k])) if k == "chosen" else row[k] for k in keys)
    return out.getvalue()
