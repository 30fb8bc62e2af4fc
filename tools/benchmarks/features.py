"""What is computed once instead of in every epoch: features of a linear probe, the stream below the blocks that train.

A linear probe of 10 epochs on CIFAR-10, on images, on features computed in the run, on those of the cache; and
AdaptFormer in the last quarter of the blocks, which go on from images or from the stream that enters them.
"""
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
WHOLE, UPPER = "AdaptFormer in the last quarter", "AdaptFormer in the last quarter, stream kept"
COLUMNS = (("last epoch's training, s", "epoch_seconds", 2), ("training, s", "training_seconds", 2),
           ("with evaluation, s", "seconds", 2), ("with loading, s", "whole_seconds", 2),
           ("processor time, s", "cpu_seconds", 2), ("top-1", "top1", 2))
CLAIMS = (
    Claim("images / features from the cache", "seconds", IMAGES, WARM, 20.0, ">="),
    Claim("training alone: images / features from the cache", "training_seconds", IMAGES, WARM, 20.0, ">="),
    Claim("processor time: images / features from the cache", "cpu_seconds", IMAGES, WARM),
    Claim("images / features computed in the run", "seconds", IMAGES, COLD),
    Claim("training alone: images / features computed in the run", "training_seconds", IMAGES, COLD),
    Claim("processor time: images / features computed in the run", "cpu_seconds", IMAGES, COLD),
    Claim("an epoch: stream kept / images", "epoch_seconds", UPPER, WHOLE, 0.30),
    Claim("top-1, features less images", "top1", WARM, IMAGES, difference=True),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    """The probes only with --cifar10: the images have to be somewhere."""
    partly = {"batch": options.batch, "images": 8 * options.batch, "epochs": 3}
    blocks = {WHOLE: {**partly, "cache": False}, UPPER: {**partly, "cache": True}}
    if not options.cifar10:
        return blocks
    common = {"root": str(options.cifar10), "epochs": 10, "images": 2000}
    return {IMAGES: {**common, "cache": False}, COLD: {**common, "cache": True},
            WARM: {**common, "cache": True, "fill": True}, **blocks}


def measure(side: dict) -> dict:
    """Seconds of training (what is computed once for it included in the first epoch), of the last epoch alone, of the
    run with its evaluation after every epoch, and with the loading of data and network; the processor time of that;
    top-1 on test images."""
    from ppadapt import log
    from ppadapt.runs import experiment

    with tempfile.TemporaryDirectory() as folder:
        def run(epochs: int) -> dict:
            given = _probe(side) if "root" in side else _partly(side)
            given.Global.cache_features, given.Global.feature_cache = side["cache"], f"{folder}/cache"
            given.Global.epochs, given.Global.output_dir = epochs, folder
            return experiment.train(given)

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
            "epoch_seconds": results["history"][-1]["train_seconds"],
            "training_seconds": sum(row["train_seconds"] for row in results["history"]),
            "version": f"paddle {results['versions']['paddle']}"}


def _probe(side: dict):
    from ppadapt import config

    return config.load(CONFIG, [
        f"DataLoader.Train.dataset.limit={side['images']}",
        *(f"DataLoader.{part}.dataset.root={side['root']}" for part in ("Train", "Eval"))])


def _partly(side: dict):
    """The digits, enlarged to the size of the network's images, which nothing else changes."""
    from ppadapt import config

    first = side["sizes"]["depth"] * 3 // 4
    ops = [{"ResizeImage": {"size": side["sizes"]["img_size"]}}, {"NormalizeImage": {"order": ""}},
           {"ToCHWImage": None}]
    data = {"dataset": {"name": "Digits", "limit": side["images"], "transform_ops": ops},
            "sampler": {"batch_size": side["batch"]}}
    return config.parse({
        "Global": {"use_visualdl": False, "device": side.get("device", "cpu"), "eval_interval": 0},
        "Arch": {"name": side["arch"]}, "Tuning": {"name": "AdaptFormer", "blocks": f"{first}:"},
        "Optimizer": {"name": "AdamW", "lr": {"name": "Constant", "learning_rate": 0.001}},
        "DataLoader": {"Train": data, "Eval": data}})
