"""A comparison's results: means over seeds, and the tables of them."""
from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import Optional

import numpy as np

from .. import files, tasks
from ..tasks import Task
from . import experiment, significance
from .plans import in_short
from .significance import Difference


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


def reference(rows: list[dict]) -> dict:
    """The row that others are measured against: AdaptFormer's, or else the first."""
    return next((row for row in rows if row["method"] == "adaptformer"), rows[0])


def differences(rows: list[dict]) -> list[Optional[Difference]]:
    """Of each row to the reference; None for that itself, and where a single seed without images says nothing."""
    main, other = task_of(rows[0]).main, reference(rows)
    return [None if row is other else significance.between(row["runs"], other["runs"], main) for row in rows]


def groups(rows: list[dict]) -> list[str]:
    """A letter or more for each row; rows with one in common cannot be told apart.

    A row of one seed beside rows of several has "": what another seed would have given it is not known.
    """
    task = task_of(rows[0])
    lettered = [i for i, row in enumerate(rows) if not lone(row, rows)]
    best = sorted(lettered, key=lambda i: task.score(rows[i]), reverse=True)
    differ = np.zeros((len(best), len(best)), bool)
    for a, i in enumerate(best):
        for b, j in enumerate(best[:a]):
            found = significance.between(rows[i]["runs"], rows[j]["runs"], task.main)
            differ[a, b] = differ[b, a] = found is not None and found.real
    letters = dict(zip(best, significance.groups(differ)))
    return [letters.get(i, "") for i in range(len(rows))]


def lone(row: dict, rows: list[dict]) -> bool:
    """Whether a row is of one seed, and others beside it are of several."""
    return len(row["runs"]) == 1 < max(len(other["runs"]) for other in rows)


def columns(rows: list[dict]) -> dict[str, list[str]]:
    """The table as text: heading -> a cell for each row."""
    task = task_of(rows[0])
    spread = [f" ± {row['std']:.2f}" if row["std"] is not None else "" for row in rows]
    table = {"method": [row["method"] for row in rows],
             task.headline[task.main]: [f"{row[task.main]:.2f}{std}" for row, std in zip(rows, spread)]}
    if len(rows) > 1:
        table[to_reference(rows)] = [str(found or "") for found in differences(rows)]
        table["group"] = groups(rows)
    table.update({
        "seeds": [str(row["seeds"]) for row in rows],
        "trained parameters": [f"{row['trained_parameters']:,}" for row in rows],
        "of the network": [f"{row['share']:.2%}" for row in rows],
        "tuned file": [experiment.size(row["file_bytes"]) for row in rows],
        "images/s": [f"{row['images_per_second']:.0f}" + "*" * row["cached_features"] for row in rows],
        "time": [f"{row['seconds']:.0f} s" for row in rows],
        "memory": [experiment.memory(row["peak_memory_mb"]) for row in rows]})
    if any(row.get("candidates") for row in rows):
        table["chosen"] = [", ".join(in_short(row["chosen"])) for row in rows]
    return table


def to_reference(rows: list[dict]) -> str:
    """The heading of the differences."""
    return f"difference to {reference(rows)['method']}"


def how_told_apart(rows: list[dict]) -> str:
    """What the differences and groups of a table mean, in a line; "" of a single row."""
    if len(rows) == 1:
        return ""
    known = [found for found in differences(rows) if found]
    if not known:
        return "one seed each, and no image by image: nothing here tells the methods apart"
    over = {(found.images is not None, found.seeds > 1) for found in known}
    pairs = ("by seed, a t-test over the seeds, for these test images" if (False, True) in over else
             "image by image, a bootstrap over the test images" if over == {(True, False)} else
             "by seed and image, a bootstrap over the test images and the seeds' own spread")
    return (f"{to_reference(rows)}: with its 95% interval (paired {pairs}); rows with a letter of the group in common "
            "cannot be told apart" + _of_one_seed(rows) * ((True, False) in over))


def _of_one_seed(rows: list[dict]) -> str:
    if any(lone(row, rows) for row in rows):
        return ("; a row of one seed is held against the same seed alone, what another would change is not known, and "
                "it is in no group")
    return "; what another seed would change is not in it"


def table(rows: list[dict]) -> str:
    """The comparison in Markdown, with what was chosen on held-out data where there was a choice."""
    cells = columns(rows)
    notes = [how_told_apart(rows)]
    if any(row["cached_features"] for row in rows):
        notes.append("\\* on what is kept of the images (Global.cache_features)")
    return "\n\n".join([experiment.markdown(list(cells), list(zip(*cells.values()))), *filter(None, notes)])


def choices_table(rows: list[dict]) -> str:
    """What every candidate reached on held-out data, in Markdown; "" where nothing was chosen."""
    if not any(row.get("candidates") for row in rows):
        return ""
    task = task_of(rows[0])
    tried = [[row["method"], ", ".join(in_short(candidate["values"])), f"{candidate[task.main]:.2f}",
              "x" if candidate["values"] == row["chosen"] else ""]
             for row in rows for candidate in row.get("candidates", ())]
    head = ("method", "candidate", f"held-out {task.headline[task.main]}", "chosen")
    return experiment.markdown(head, tried)


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
    writer.writerow([*keys, "difference", "low", "high", "group"])
    for row, found, group in zip(rows, differences(rows), groups(rows)):
        told = [found.mean, found.low, found.high] if found else ["", "", ""]
        writer.writerow(["; ".join(in_short(row[k])) if k == "chosen" else row[k] for k in keys] + [*told, group])
    return out.getvalue()
