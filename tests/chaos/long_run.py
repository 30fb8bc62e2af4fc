#!/usr/bin/env python3
"""A long run: whether memory, descriptors, processes or files grow.

    python tests/chaos/long_run.py                   # 2,000 steps and 100 evaluations of a small network
    python tests/chaos/long_run.py --steps 400 --evaluations 20 --from-step 100

Resident memory is read after every epoch of the run; what counts is its growth from `--from-step` on.
"""
from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
IMAGES, BATCH = 160, 16
STEPS = IMAGES // BATCH  # of an epoch


def resident() -> float:
    """MiB of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def plan(folder: Path, epochs: int, evaluate_every: int, workers: int):
    from ppadapt import config

    made = config.load(Path(__file__).with_name("plan.yaml"), [
        f"Global.output_dir={folder}", f"Global.epochs={epochs}", "Global.save_interval_steps=0",
        f"Global.eval_interval={evaluate_every}", f"Global.save_interval={evaluate_every}",
        f"DataLoader.Train.dataset.limit={IMAGES}", f"DataLoader.Train.sampler.batch_size={BATCH}",
        f"DataLoader.Train.loader.num_workers={workers}", "DataLoader.Eval.dataset.limit=100"])
    return made


def run(steps: int, evaluations: int, from_step: int, workers: int = 0) -> dict[str, float]:
    """Train; returns the growth of memory from `from_step` on, in shares of it, and what is left when it is over."""
    from ppadapt import build
    from ppadapt.engine import loop

    epochs = max(1, steps // STEPS)
    with tempfile.TemporaryDirectory(prefix="ppadapt-long-") as name:
        before, shared = descriptors(), _shared()
        job, _ = build.job(plan(Path(name), epochs, max(1, epochs // evaluations), workers))
        memory: list[tuple[int, float, int]] = []
        set_epoch = job.train_loader.set_epoch

        def looked_at(epoch: int, start: int = 0) -> None:
            memory.append(((epoch - 1) * STEPS, resident(), descriptors()))
            set_epoch(epoch, start)

        job.train_loader.set_epoch = looked_at
        history = loop.run(job)["history"]
        memory.append((epochs * STEPS, resident(), descriptors()))
        job.curves.close()
        _wait_for_readers()
        ckpt = sorted(path.name for path in (job.folder / "ckpt").iterdir())
        hidden = [path.name for path in Path(name).rglob(".*")]
    first = next(mib for step, mib, _ in memory if step >= from_step)
    last = max(mib for step, mib, _ in memory[-max(1, len(memory) // 10):])
    return {"steps": epochs * STEPS, "evaluations": sum("eval_loss" in row for row in history), "first_mib": first,
            "last_mib": last, "growth": last / first - 1, "descriptors": descriptors() - before - _log(),
            "processes": len(multiprocessing.active_children()), "checkpoints": len(ckpt), "hidden_files": len(hidden),
            "shared": len(_shared() - shared)}


def _wait_for_readers(seconds: float = 15) -> None:
    """The thread with which Paddle reads from an epoch's workers notices within a second that they are gone, and only
    then lets go of its pipes.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and any("_thread_loop" in thread.name for thread in threading.enumerate()):
        time.sleep(0.1)


def _shared() -> set[str]:
    """What this process has in shared memory, by Paddle's names of it."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob(f"paddle_{os.getpid()}_*")} if folder.is_dir() else set()


def _log() -> int:
    """The run's log stays open until the next one begins."""
    return 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--from-step", type=int, default=300)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--most", type=float, default=0.02, help="growth that is allowed, a share (0.02)")
    args = parser.parse_args()
    found = run(args.steps, args.evaluations, args.from_step, args.workers)
    rest = ("descriptors", "processes", "shared", "hidden_files")
    print(f"{found['steps']} steps, {found['evaluations']} evaluations, {args.workers} workers: "
          f"{found['first_mib']:.1f} MiB after step {args.from_step}, {found['last_mib']:.1f} at the end "
          f"({found['growth']:+.2%}); left: " + ", ".join(f"{found[name]} {name.replace('_', ' ')}" for name in rest))
    bad = found["growth"] >= args.most or any(found[name] for name in rest)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
