#!/usr/bin/env python3
"""Kill training runs at random moments (SIGKILL), go on with --resume auto, compare with runs that nobody killed.

    python tests/chaos/kills.py --kills 200

Each run is killed up to three times and then left alone. Its tuned files, its history and its best model have to be
those of the uninterrupted run to the last bit, and no temporary file may be left. The plans differ in what a checkpoint
has to hold.
"""
from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import result
from zygote import served

HERE = Path(__file__).resolve().parent
MIXUP = "DataLoader.Train.dataset.batch_transform_ops=[{MixupOperator: {alpha: 0.5, class_num: 10}}]"
FIXED = ("[{ResizeImage: {size: 32}}, {NormalizeImage: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], order: ''}}, "
         "{ToCHWImage: }]")
PLANS = {
    "AdamW, EMA": [],
    "two workers": ["DataLoader.Train.loader.num_workers=2", "DataLoader.Train.loader.transform_by=image"],
    "Momentum, update_freq 2": ["Optimizer.name=Momentum", "Global.update_freq=2"],
    "mixup, saved at each step": [MIXUP, "Global.save_interval_steps=1"],
    "cached features": ["Tuning={name: LinearProbe}", f"DataLoader.Train.dataset.transform_ops={FIXED}"],
}
MOST = 3  # kills of a run


class Kills:
    """Counts, over all threads."""

    def __init__(self, wanted: int, seed: int):
        self.wanted, self.draw, self.lock = wanted, random.Random(seed), threading.Lock()
        self.done, self.runs, self.wrong = 0, 0, []

    def moment(self, seconds: float) -> float:
        with self.lock:
            return self.draw.uniform(0, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=3, help="runs at a time (3)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    args = parser.parse_args()
    kills, started = Kills(args.kills, args.seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ppadapt-kills-") as name, served(Path(name)) as start:
        folder, expected, seconds = Path(name), {}, {}
        for plan in PLANS:
            begun = time.monotonic()
            out = folder / f"whole {plan}"
            subprocess.run(command(start, plan, out), check=True, stdout=subprocess.DEVNULL)
            expected[plan], seconds[plan] = result.of(out), time.monotonic() - begun

        def work(number: int) -> None:
            while kills.done < kills.wanted:
                with kills.lock:
                    run, kills.runs = kills.runs, kills.runs + 1
                plan = list(PLANS)[run % len(PLANS)]
                why = one(kills, command(start, plan, folder / f"{run}"), folder / f"{run}", seconds[plan],
                          expected[plan])
                if not run % 10:
                    print(f"{kills.done} kills so far, {len(kills.wrong)} differences", flush=True)
                if why:
                    kills.wrong.append(f"run {run} ({plan}): {why}")
                    print(kills.wrong[-1], flush=True)

        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(work, range(args.jobs)))
    print(f"{kills.done} kills of {kills.runs} runs in {time.monotonic() - started:.0f} s: {len(kills.wrong)} "
          "differences")
    sys.exit(bool(kills.wrong))


def command(start: list[str], plan: str, out: Path) -> list[str]:
    options = [part for option in PLANS[plan] for part in ("-o", option)]
    return [*start, "-c", str(HERE / "plan.yaml"), "-o", f"Global.output_dir={out}", "-o",
            f"Global.feature_cache={out}/cache", *options, "--resume", "auto"]


def one(kills: Kills, run: list[str], out: Path, seconds: float, expected: str) -> str:
    """Kill a run up to MOST times, let it end; what is wrong then, "" for nothing."""
    for _ in range(MOST):
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            said = process.communicate(timeout=kills.moment(seconds))[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            with kills.lock:
                kills.done += 1
            continue
        if process.returncode:
            return f"it ended with {process.returncode}: {said[-500:]}"
        break
    _wait_for_the_dead(out)
    ended = subprocess.run(run, capture_output=True, text=True)
    if ended.returncode:
        return f"it cannot go on: {ended.stdout[-1000:]} {ended.stderr[-500:]}"
    left = [str(path) for path in out.rglob(".*") if path.is_file()]
    if left:
        return f"left behind: {left}"
    return "" if result.of(out) == expected else "it ended as another run"


def _wait_for_the_dead(out: Path) -> None:
    """Until whoever was killed has ended: a busy machine takes its time, and what the living write is left alone."""
    for path in out.rglob(".*.tmp"):
        owner = re.search(r"-(\d+)-\d+\.tmp$", path.name)
        while owner and Path("/proc", owner[1]).exists():
            time.sleep(0.02)


if __name__ == "__main__":
    main()
