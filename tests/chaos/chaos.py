#!/usr/bin/env python3
"""Kill a training run at every change that it makes to a file, go on, compare with a run that nobody killed.

ckpt-chaos (PyPI) does the killing, of tools/train.py with plan.yaml, in one process and in two. A point fails when the
run cannot go on, ends as another run, or goes on from an older checkpoint than the newest that it had written. Modes:
`before` a change, `torn` half-way through a file, `term` with SIGTERM.

    make chaos                                     # all points
    python tests/chaos/chaos.py --points 9         # a sample of nine
"""
from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from zygote import served

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))
GOES_ON = r"goes on from .*/step-(\d+)"
FAILURES = "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK,CONTROL_FAIL"
ALL = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt-chaos", default=str(Path(sys.executable).with_name("ckpt-chaos")), metavar="PROGRAM")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="(1 2)")
    parser.add_argument("--crash-rank", type=int, default=0, help="which of two is killed (0, which writes)")
    parser.add_argument("--modes", nargs="+", default=["before", "torn", "term"], help="(before torn term)")
    parser.add_argument("--points", type=int, default=ALL, help="at most so many of each number of processes")
    parser.add_argument("--jobs", type=int, default=2, help="points at a time (2)")
    parser.add_argument("--folder", type=Path, help="keeps what was run; a temporary one when absent")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ppadapt-chaos-") as temporary, served(Path(temporary)) as start:
        failed = [matrix(args, count, (args.folder or Path(temporary)) / f"{count}-processes", start)
                  for count in args.processes]
    sys.exit(any(failed))


def matrix(args: argparse.Namespace, processes: int, folder: Path, start: list[str]) -> bool:
    """All points with so many processes; whether one failed."""
    program = [*start, "-c", str(HERE / "plan.yaml"), "-o", "Global.output_dir={out}", "--resume", "auto"]
    command = [args.ckpt_chaos, "run", "--work", str(folder), "--modes", ",".join(args.modes),
               "--max-points", str(args.points), "--jobs", str(args.jobs), "--timeout", "120", "--grace", "60",
               "--ranks", str(processes), "--crash-rank", str(min(args.crash_rank, processes - 1)),
               "--checkpoint-glob", "{out}/*/*/ckpt/step-*", "--ckpt-ignore-size", "--step-regex", GOES_ON,
               "--result-cmd", f"{sys.executable} {HERE / 'result.py'} {{out}}", "--fail-on", FAILURES,
               "--", *program]
    print(f"\n{processes} process(es): {' '.join(command)}", flush=True)
    failed = bool(subprocess.run(command).returncode)
    lost, kinds = lost_work(folder)
    for line in lost:
        print(f"LOST: {line}")
    print(f"{processes} process(es), {sum(kinds.values())} points ({', '.join(f'{n} {k}' for k, n in kinds.items())}): "
          f"{'FAILED' if failed or lost else '0 failures, 0 lost work'}", flush=True)
    return failed or bool(lost)


def lost_work(folder: Path) -> tuple[list[str], Counter]:
    """Points that did not go on from the newest whole checkpoint of the run that was killed; and how many of each mode.

    ckpt-chaos itself knows only of checkpoints that the whole run keeps to its end.
    """
    from ppadapt.engine import checkpoint

    lost, kinds = [], Counter()
    for record in sorted(folder.glob("pt_*/result.json")):
        point = json.loads(record.read_text(encoding="utf-8"))
        if "point" not in point:
            continue
        kinds[point["point"][1]] += 1
        *killed, _ = sorted(record.parent.glob("out/*/2*"))  # by the time in its name; the last is the resumed one
        whole = [step.name for run in killed for step in checkpoint.steps(run / checkpoint.FOLDER)
                 if checkpoint.is_whole(step)]
        newest = int(re.search(r"\d+", whole[-1]).group()) if whole else 0
        if (point["outcome"]["resumed_from_step"] or 0) != newest:
            lost.append(f"{point['label']}: step {newest} was whole, went on from "
                        f"{point['outcome']['resumed_from_step']}")
    return lost, kinds


if __name__ == "__main__":
    main()
