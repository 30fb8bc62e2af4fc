"""What a checkpoint of a run costs: writing it, and reading it with its checksums compared and without."""
from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from . import Claim

ADAPT, FULL = "AdaptFormer", "full fine-tuning"
UNCHECKED = f"{ADAPT}, checksums not compared"
FULL_UNCHECKED = f"{FULL}, checksums not compared"
COLUMNS = (("MB", "megabytes", 1), ("write, s", "seconds", 3), ("share of a minute, %", "percent", 2),
           ("read, s", "read_seconds", 3))
CLAIMS = (
    Claim("one save a minute, AdaptFormer, % of the time", "percent", ADAPT, target=2.0),
    Claim("one save a minute, full fine-tuning, % of the time", "percent", FULL, target=2.0),
    Claim("comparing checksums when read, AdaptFormer, s", "read_seconds", ADAPT, UNCHECKED, difference=True),
    Claim("comparing checksums when read, full fine-tuning, s", "read_seconds", FULL, FULL_UNCHECKED, difference=True),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    unchecked = {"env": {"PPADAPT_NO_VERIFY": "1"}}
    adapt, full = {"method": "AdaptFormer"}, {"method": "FullFineTuning"}
    return {ADAPT: adapt, FULL: full, UNCHECKED: {**adapt, **unchecked}, FULL_UNCHECKED: {**full, **unchecked}}


def measure(side: dict) -> dict:
    """Checkpoints of a run with AdamW after its first step, each in the place of one before: a median of five."""
    from ppadapt import build, config
    from ppadapt.engine import checkpoint
    from ppadapt.engine.progress import Progress, Saver

    size = side["sizes"]["img_size"]
    split = {"dataset": {"name": "Digits", "limit": 4, "transform_ops": [
        {"ResizeImage": {"size": size}}, {"NormalizeImage": {"mean": [0.5] * 3, "std": [0.5] * 3, "order": ""}},
        {"ToCHWImage": None}]}, "sampler": {"batch_size": 4}}
    with tempfile.TemporaryDirectory() as folder:
        job, _ = build.job(config.parse({
            "Global": {"output_dir": folder, "use_visualdl": False, "device": side["device"], "epochs": 1,
                       "eval_during_train": False},
            "Arch": {"name": side["arch"]}, "Tuning": {"name": side["method"]}, "Optimizer": {"name": "AdamW"},
            "DataLoader": {"Train": split, "Eval": split}}))
        job.adaptation.train()
        for images, targets in job.train_loader:
            sum(loss(job.adaptation(images), targets) for loss in job.train_losses).backward()
            job.optimizer.step()
        job.save(job.folder / checkpoint.BEST, {})
        now = Progress()
        saver, written = Saver(job, now), []
        for step in range(1, 7):
            now.step, start = step, time.perf_counter()
            saver.save()
            written.append(time.perf_counter() - start)
        found = Path(folder) / "found"
        os.rename(saver.saved, found)
        read = []
        for _ in range(5):
            start = time.perf_counter()
            checkpoint.read(found)
            read.append(time.perf_counter() - start)
        seconds = statistics.median(written[1:])
        return {"megabytes": sum(path.stat().st_size for path in found.iterdir()) / 1e6, "seconds": seconds,
                "percent": 100 * seconds / 60, "read_seconds": statistics.median(read)}
