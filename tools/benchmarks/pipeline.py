"""How fast one core makes training and test images of CIFAR's size: image by image with Pillow, and in whole batches.

Images per second are per second of processor time, so that whatever else runs on the machine does not count.
"""
from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import yaml

from . import Claim

BASES = Path(__file__).resolve().parent.parent.parent / "configs" / "_base_"
# Name -> the file and the side of it whose transform_ops are the recipe.
RECIPES = {"224 px, training": ("imagenet224.yaml", "Train"), "224 px, test": ("imagenet224.yaml", "Eval"),
           "32 px, training": ("native32.yaml", "Train"), "32 px, test": ("native32.yaml", "Eval")}
COLUMNS = (("batch", "batch", 0), ("images/s of a core", "images_per_second", 0))
CLAIMS = tuple(Claim(f"images/s in whole batches / one by one, {recipe}", "images_per_second", f"{recipe}, batch",
                     f"{recipe}, image", 3.0 if recipe.startswith("224") else 1.0, ">=") for recipe in RECIPES)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    return {f"{recipe}, {by}": {"recipe": recipe, "by": by, "batch": 128}
            for recipe in RECIPES for by in ("image", "batch")}


def measure(side: dict) -> dict:
    """Epochs of a loader over random images, on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    import ppadapt  # noqa: F401  before Paddle: it sets switches
    import paddle  # isort: skip
    from ppadapt.data import Dataset, build_loader

    file, split = RECIPES[side["recipe"]]
    recipe = yaml.safe_load((BASES / file).read_text(encoding="utf-8"))["DataLoader"][split]["dataset"]["transform_ops"]
    paddle.set_device("cpu")
    count = (4 if file.startswith("imagenet") else 32) * side["batch"]
    data = Dataset("train", recipe)
    data.images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    data.labels = np.zeros(count, np.int64)
    loader = build_loader(data, side["batch"], shuffle=True, transform_by=side["by"])
    speeds = []
    for epoch in range(1 + side["steps"]):  # the first makes tables and finds memory
        loader.set_epoch(epoch)
        start = time.process_time()
        for _ in loader:
            pass
        speeds.append(count / (time.process_time() - start))
    return {"version": f"paddle {paddle.__version__}", "batch": side["batch"],
            "images_per_second": float(np.median(speeds[1:]))}
