"""Peak memory of one run among several in a process: of Paddle's tensors, on a CPU as on a GPU.

The peak of the process would say less: most of a small network's is Paddle's own libraries, and what earlier
runs left behind in the heap counts for later ones, so that the order of methods shows in a comparison.
"""
from __future__ import annotations

import gc

import paddle
from paddle.base import core


def _on_gpu() -> bool:
    return paddle.is_compiled_with_cuda() and paddle.get_device().startswith("gpu")


def reset_peak() -> None:
    """Begin to measure anew."""
    gc.collect()
    if _on_gpu():
        paddle.device.cuda.empty_cache()
        paddle.device.cuda.reset_max_memory_allocated()
    else:
        core.host_memory_stat_reset_peak_value("Allocated", 0)


def peak_mb() -> float:
    """The most MiB that tensors took at once since `reset_peak`, those from before included."""
    peak = (paddle.device.cuda.max_memory_allocated() if _on_gpu()
            else core.host_memory_stat_peak_value("Allocated", 0))
    return round(peak / 2**20, 1)
