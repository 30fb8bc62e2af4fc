"""Run by test_processes.py, as one of several processes: trains or evaluates what a file says.

argv: a JSON file, {name: {"config": ..., "evaluate": bool, "die_at": step before which rank 1 ends without a word}},
and a folder for what each rank finds.
"""
import json
import os
import sys
from pathlib import Path

import ppadapt  # noqa: F401  before Paddle

import numpy as np  # isort: skip
from ppadapt import config  # isort: skip
from ppadapt.engine import loop, processes  # isort: skip
from ppadapt.errors import UserError  # isort: skip
from ppadapt.runs import experiment  # isort: skip


def die_at(step: int) -> None:
    steps, run = [], loop._step

    def counted(job):
        steps.append(1)
        if len(steps) == step and processes.join().rank == 1:
            os._exit(9)
        run(job)

    loop._step = counted


def main(cases: Path, folder: Path) -> None:
    found = {}
    for name, case in json.loads(cases.read_text(encoding="utf-8")).items():
        die_at(case.get("die_at", 0))
        run = experiment.evaluate if case.get("evaluate") else experiment.train
        before = processes.join().sent if found else 0
        try:
            found[name] = run(config.parse(case["config"]))
        except UserError as error:
            sys.exit(f"error: {error}")
        found[name]["sent"] = processes.join().sent - before
    rank = processes.join().rank
    (folder / f"rank{rank}.json").write_text(json.dumps(found, default=np.ndarray.tolist), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
