"""Time and memory of a step, in training or inference, alike for every framework: standard library only."""
from __future__ import annotations

import ctypes
import statistics
import sys
import time
from typing import Callable, Optional


def measure(step: Callable[[], float], steps: int, gpu_peak: Optional[Callable[[], int]] = None) -> dict:
    """Call `step` 1 + `steps` times; the first is not timed. `gpu_peak()` gives bytes where a GPU is measured.

    Returns:
        seconds: median of a step; step_seconds: of each. peak_mib: of the process, from before the first step,
        or of the GPU.
        step_mib: the same without what was there before the first step: the weights, the libraries.
    """
    before = gpu_peak() / 2**20 if gpu_peak else _forget_the_past()
    step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = gpu_peak() / 2**20 if gpu_peak else _resident("VmHWM")
    return {"seconds": statistics.median(seconds), "step_seconds": seconds, "peak_mib": peak, "step_mib": peak - before}


def _forget_the_past() -> float:
    """Give free memory back and restart the count of the peak; returns what is resident, in MiB (0 off Linux)."""
    if sys.platform != "linux":
        return 0.0
    ctypes.CDLL(None).malloc_trim(0)
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:  # not allowed here: the peak counts from the process's start
        pass
    return _resident("VmRSS")


def _resident(what: str) -> float:
    if sys.platform != "linux":
        return 0.0
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) / 1024
