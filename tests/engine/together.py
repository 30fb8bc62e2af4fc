"""Run by test_processes.py, as one of several processes: trains or evaluates what a file says.

argv: a JSON file, {name: {"config": ..., "evaluate": bool, "at": step before which rank 1 does what "then" says, "ends"
without a word, "is killed" or "hangs", "goes_on": [the name of a case before, one of its saved steps]}}, and a folder
for what each rank finds.
"""
import json
import os
import signal
import sys
import time
from pathlib import Path

import ppadapt  # noqa: F401  before Paddle

import numpy as np  # isort: skip
from ppadapt import config  # isort: skip
from ppadapt.engine import loop, processes  # isort: skip
from ppadapt.errors import UserError  # isort: skip
from ppadapt.runs import experiment  # isort: skip


def fail(step: int, how: str) -> None:
    steps, run = [], loop._step

    def counted(job):
        steps.append(1)
        if len(steps) == step and processes.join().rank == 1:
            if how == "ends":
                os._exit(9)
            if how == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1000)
        run(job)

    loop._step = counted


def main(cases: Path, folder: Path) -> None:
    found = {}
    for name, case in json.loads(cases.read_text(encoding="utf-8")).items():
        fail(case.get("at", 0), case.get("then", ""))
        run = experiment.evaluate if case.get("evaluate") else experiment.train
        before = processes.join().sent if found else 0
        plan = config.parse(case["config"])
        if "goes_on" in case:
            other, step = case["goes_on"]
            plan.Global.checkpoints = f"{found[other]['folder']}/ckpt/step-{step:06d}"
        try:
            found[name] = run(plan)
        except UserError as error:
            sys.exit(f"error: {error}")
        found[name]["sent"] = processes.join().sent - before
    rank = processes.join().rank
    (folder / f"rank{rank}.json").write_text(json.dumps(found, default=np.ndarray.tolist), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
