"""Whether oneDNN can be used here, found out at the first use and said once."""
from __future__ import annotations

import functools
import logging
import os
import sys

import numpy as np
import paddle

from . import operations
from .library import OneDNNError, loaded

LOGGER = logging.getLogger("ppadapt")
SWITCH = "PPADAPT_NO_ONEDNN"
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


@functools.cache
def usable() -> bool:
    """Whether float32 goes through oneDNN: it can be loaded, and a product of it is right. Else Paddle computes."""
    if os.environ.get(SWITCH) == "1" or sys.platform != "linux":
        return False
    try:
        loaded()
        difference = _difference(paddle.float32)
    except (OSError, AttributeError, OneDNNError) as error:
        LOGGER.info("oneDNN is not used, Paddle's own products are: %s", error)
        return False
    if difference > 1e-5:
        LOGGER.warning("oneDNN is not used, Paddle's own products are: a float32 product differs by %.1e", difference)
        return False
    return True


@functools.cache
def bfloat16_obstacle() -> str:
    """Why bfloat16 cannot be computed on this CPU; empty where it can."""
    if not usable():
        return "oneDNN of Paddle's wheel cannot be used here"
    if not _BFLOAT16_FLAGS & _processor_flags():
        return "this processor has no bfloat16 instructions (AVX-512 BF16 or AMX)"
    try:
        difference = _difference(paddle.bfloat16)
    except OneDNNError as error:
        return str(error)
    return "" if difference < 2e-2 else f"a bfloat16 product differs by {difference:.1e}"


def _difference(dtype) -> float:
    """Of a product from numpy's, relative to its largest value."""
    draw = np.random.RandomState(0)
    x, y = (draw.standard_normal(shape).astype("float32") for shape in ([33, 40], [40, 24]))
    out = paddle.empty([33, 24], "float32")
    operations.matmul(*(operations.whole(operations.cast(paddle.to_tensor(a, place=paddle.CPUPlace()), dtype))
                        for a in (x, y)), operations.whole(out))
    return float(np.abs(out.numpy() - x @ y).max() / np.abs(x @ y).max())


def _processor_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            return set(next((line for line in info if line.startswith("flags")), "").split())
    except OSError:
        return set()
