"""Peak memory of one run among several in a process."""
from __future__ import annotations

import ctypes
import gc
import resource
import sys

import paddle


def _on_gpu() -> bool:
    return paddle.is_compiled_with_cuda() and paddle.get_device().startswith("gpu")


def reset_peak() -> None:
    """Begin to measure anew. Where the system cannot (not Linux, no permission), the peak goes on."""
    gc.collect()
    if _on_gpu():
        paddle.device.cuda.empty_cache()
        paddle.device.cuda.reset_max_memory_allocated()
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier runs freed is not this run's
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # resets VmHWM, man 5 proc
    except (OSError, AttributeError):
        pass


def peak_mb() -> float:
    """Peak memory in MiB since `reset_peak`: of the GPU where there is one, else of the process."""
    if _on_gpu():
        return round(paddle.device.cuda.max_memory_allocated() / 2**20, 1)
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return round(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**10, 1)
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
