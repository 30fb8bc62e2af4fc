"""What each measure for a training step on a CPU brings: all of them, then all but one."""
from __future__ import annotations

import argparse

from . import Claim, training
from .training import measure  # noqa: F401  the numbers are those of that part

ALL = "all measures"
OFF = {
    "without oneDNN": "PPADAPT_NO_ONEDNN",
    "without MKL's switch for AMD": "PPADAPT_NO_MKL_SWITCH",
    "without threads for MKL": "PPADAPT_NO_THREADS_SWITCH",
    "without dense transposes": "PPADAPT_NO_STRIDE_SWITCH",
    "without keeping freed memory": "PPADAPT_NO_MALLOC_SWITCH",
    "without cheap frozen layers": "PPADAPT_PLAIN",
}
KEPT = {f"frozen matrices in {dtype}": dtype for dtype in ("bfloat16", "float16")}
COLUMNS = training.COLUMNS
CLAIMS = tuple(Claim(f"{what}, {name} / {ALL}", key, name, ALL) for name in (*OFF, *KEPT)
               for what, key in (("step time", "seconds"), ("peak memory", "peak_mib")))


def sides(options: argparse.Namespace) -> dict[str, dict]:
    side = {"method": "AdaptFormer", "batch": options.batch}
    return {ALL: side, **{name: {**side, "env": {switch: "1"}} for name, switch in OFF.items()},
            **{name: {**side, "frozen_dtype": dtype} for name, dtype in KEPT.items()}}
