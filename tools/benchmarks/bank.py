"""Many AdaptFormer-64 tasks on one network: what a mix costs, what memory and loading take, what a shared prefix saves.

Each side compares two ways in one process, in turn, for a machine that drifts within seconds: its `ratio` is the
median of the first over the median of the second.
"""
from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

from . import Claim

MIXED = {count: f"64 tasks mixed, batch {count} / one task alone" for count in (8, 32)}
WITNESS, SHARED = "with the witness / without, batch 8", "64 tasks of blocks 9: on one image / 64 passes"
WARM, COLD = "add a tuned file, in the page cache", "add a tuned file, not in the page cache"
FOLDER = "1,000 tuned files of 10 classes"
COLUMNS = (("ms", "milliseconds", 2), ("ratio", "ratio", 3), ("files' memory, GB", "gigabytes", 2))
CLAIMS = (
    *(Claim(f"time, {side}", "ratio", side, None, 1.05) for side in MIXED.values()),
    Claim(f"time, {WITNESS}", "ratio", WITNESS, None, 1.01), Claim(f"time, {SHARED}", "ratio", SHARED, None, 0.30),
    Claim(f"ms, {WARM}", "milliseconds", WARM, None, 5), Claim(f"ms, {COLD}", "milliseconds", COLD, None, 50),
    Claim(f"ms to list {FOLDER}", "milliseconds", FOLDER, None, 1000),
    Claim(f"GB in memory, {FOLDER}", "gigabytes", FOLDER, None, 5.0),
)


def sides(options: argparse.Namespace) -> dict[str, dict]:
    found = {side: {"what": "mixed", "batch": count} for count, side in MIXED.items()}
    return {**found, WITNESS: {"what": "witness", "batch": 8}, SHARED: {"what": "shared"}, WARM: {"what": "warm"},
            COLD: {"what": "cold"}, FOLDER: {"what": "folder"}}


def measure(side: dict) -> dict:
    """One side's numbers."""
    import ppadapt  # before Paddle: it sets switches
    import paddle  # isort: skip

    logging.getLogger("ppadapt").setLevel(logging.ERROR)
    paddle.set_device(side["device"])
    with tempfile.TemporaryDirectory() as folder:
        measured = globals()[f"_{side['what']}"](ppadapt, paddle, side, Path(folder))
    return {"version": f"paddle {paddle.__version__}", "milliseconds": 0.0, "ratio": 0.0, "gigabytes": 0.0, **measured}


def _network(ppadapt, paddle, side):
    paddle.seed(0)
    return ppadapt.network(side["arch"])


def _files(ppadapt, paddle, side, folder: Path, count: int, **options) -> tuple:
    """`count` tuned files that differ, and the adaptation that they are of."""
    import numpy as np

    from ppadapt.weights import save_tuned

    network = _network(ppadapt, paddle, side)
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=64, **options),
                                head=ppadapt.heads.batchnorm_linear(network.embed_dim, 10))
    adaptation.eval()
    manifest = {"tuning": [{"name": "AdaptFormer", **adaptation.methods[0].options}], "head": "BatchNormLinear",
                "backbone": {**network.built_as, "digest": adaptation.backbone_digest}, "preprocess": [],
                "classes": [f"class {i}" for i in range(10)]}
    state, draw, paths = adaptation.state(), np.random.RandomState(0), []
    noise = {name: 0.02 * draw.standard_normal(value.shape).astype("float32") for name, value in state.items()}
    for number in range(count):
        paths.append(folder / f"task{number}.safetensors")
        scale = np.float32(1 + number / count)
        save_tuned(paths[-1], {name: np.abs(value + scale * noise[name]) for name, value in state.items()}, manifest)
    return adaptation, paths


def _compare(one, other, rounds: int) -> dict:
    times = ([], [])
    for way in (one, other):
        way()
    for _ in range(rounds):
        for way, taken in zip((one, other), times):
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
    first, second = map(statistics.median, times)
    return {"milliseconds": 1e3 * first, "ratio": first / second}


def _bank(ppadapt, paddle, side, paths):
    bank = ppadapt.Bank(_network(ppadapt, paddle, side))
    for path in paths:
        bank.add(path.stem, path)
    return bank


def _mixed(ppadapt, paddle, side, folder):
    adaptation, paths = _files(ppadapt, paddle, side, folder, 64)
    bank = _bank(ppadapt, paddle, side, paths)
    size = side["sizes"]["img_size"]
    images = paddle.randn([side["batch"], 3, size, size])
    names = [f"task{7 * i % 64}" for i in range(side["batch"])]

    def alone():
        with paddle.no_grad():
            adaptation(images).numpy()

    return _compare(lambda: bank(images, names), alone, side["steps"])


def _witness(ppadapt, paddle, side, folder):
    bank = _bank(ppadapt, paddle, side, _files(ppadapt, paddle, side, folder, 8)[1])
    size = side["sizes"]["img_size"]
    images = paddle.randn([side["batch"], 3, size, size])

    def ask(witness: bool):
        bank.witness = witness
        bank(images, bank.tasks)

    return _compare(lambda: ask(True), lambda: ask(False), 2 * side["steps"])


def _shared(ppadapt, paddle, side, folder):
    bank = _bank(ppadapt, paddle, side, _files(ppadapt, paddle, side, folder, 64, blocks="9:")[1])
    image = paddle.randn([1, 3, side["sizes"]["img_size"], side["sizes"]["img_size"]])

    def passes():
        for name in bank.tasks:
            bank(image, [name])

    return _compare(lambda: bank(image, [bank.tasks]), passes, 2)


def _warm(ppadapt, paddle, side, folder, cold: bool = False):
    paths = _files(ppadapt, paddle, side, folder, 24)[1]
    bank, taken = _bank(ppadapt, paddle, side, paths[:4]), []
    for path in paths[4:]:
        if cold:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        bank.add(path.stem, path)
        taken.append(time.perf_counter() - start)
    return {"milliseconds": 1e3 * statistics.median(taken)}


def _cold(ppadapt, paddle, side, folder):
    return _warm(ppadapt, paddle, side, folder, cold=True)


def _folder(ppadapt, paddle, side, folder):
    import resource

    path = _files(ppadapt, paddle, side, folder, 1)[1][0]
    for number in range(1, 1000):  # one file under many names: what is listed and kept is the same
        os.link(path, folder / f"task{number}.safetensors")
    bank = ppadapt.Bank(_network(ppadapt, paddle, side))
    start = time.perf_counter()
    bank.add_folder(folder)
    listed = time.perf_counter() - start
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = paddle.randn([1, 3, side["sizes"]["img_size"], side["sizes"]["img_size"]])
    for name in bank.tasks:
        bank.load(name)
    bank(image, bank.tasks[:1])
    return {"milliseconds": 1e3 * listed,
            "gigabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9}
