"""A linear probe of 10 epochs on CIFAR-10: on images, on features computed in the run, on those of the cache."""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from . import Claim

CONFIG = Path(__file__).resolve().parent.parent.parent / "configs/cifar10/vit_micro_linear_features.yaml"
IMAGES, COLD, WARM = "images", "features, computed in the run", "features, from the cache"
COLUMNS = (("training, s", "training_seconds", 2), ("with evaluation, s", "seconds", 2),
           ("with loading, s", "whole_seconds", 2), ("processor time, s", "cpu_seconds", 2), ("top-1", "top1", 2))
CLAIMS = (
    Claim("images / features from the cache", "seconds", IMAGES, WARM, 20.0, ">="),
    Claim("training alone: images / features from the cache", "training_seconds", IMAGES, WARM, 20.0, ">="),
    Claim("processor time: images / features from the cache", "cpu_seconds", IMAGES, WARM),
    Claim("images / features computed in the run", "seconds", IMAGES, COLD),
    Claim("training alone: images / features computed in the run", "training_seconds", IMAGES, COLD),
    Claim("processor time: images / features computed in the run", "cpu_seconds", IMAGES, COLD),
    Claim("top-1, features less images", "top1", WARM, IMAGES, difference=True),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    """None without --cifar10: the images have to be somewhere."""
    if not options.cifar10:
        return {}
    common = {"root": str(options.cifar10), "epochs": 10, "images": 2000}
    return {IMAGES: {**common, "cache": False}, COLD: {**common, "cache": True},
            WARM: {**common, "cache": True, "fill": True}}


def measure(side: dict) -> dict:
    """Seconds of training the head (features that are computed for it included), of the run with its evaluation
    after every epoch, and with the loading of data and network; the processor time of that; top-1 on test images."""
    from ppadapt import config, log
    from ppadapt.runs import experiment

    with tempfile.TemporaryDirectory() as folder:
        def run(epochs: int) -> dict:
            return experiment.train(config.load(CONFIG, [
                f"Global.cache_features={side['cache']}", f"Global.feature_cache={folder}/cache",
                f"Global.epochs={epochs}", f"Global.output_dir={folder}",
                f"DataLoader.Train.dataset.limit={side['images']}",
                *(f"DataLoader.{part}.dataset.root={side['root']}" for part in ("Train", "Eval"))]))

        screen, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # the numbers go there alone
        try:
            if side.get("fill"):
                run(1)
            start, cpu = time.perf_counter(), time.process_time()
            results = run(side["epochs"])
            whole, cpu = time.perf_counter() - start, time.process_time() - cpu
        finally:
            sys.stdout.close()
            sys.stdout = screen
            log.setup()
    return {"seconds": results["seconds"], "whole_seconds": whole, "cpu_seconds": cpu, "top1": results["top1"],
            "training_seconds": sum(row["train_seconds"] for row in results["history"]),
            "version": f"paddle {results['versions']['paddle']}"}
