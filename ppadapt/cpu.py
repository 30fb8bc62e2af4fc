"""Switches for Paddle on a CPU that must be set before it is imported. Numbers: docs/performance.md.

* `MKL_DEBUG_CPU_TYPE=5`, on AMD processors: Paddle's wheel multiplies matrices with MKLML, which takes a
  slow path there otherwise.
* `MKL_NUM_THREADS`: Paddle sets OMP_NUM_THREADS to 1, so that one core multiplies and the others wait.
* `FLAGS_use_stride_kernel=0`, where there is no NVIDIA GPU: transposes that return views are copied later,
  element by element, by the next matrix product; the dense kernel is ten times as fast.
* glibc gives every large buffer back to the kernel when it is freed, so each operation pays for fresh
  pages again. `mallopt` makes it keep them; the process then holds on to its peak memory. It also gives threads
  arenas of their own, which they leave behind: each epoch has new ones, and a run with workers grew by 3% in 700 steps.

And one that is called before training, `keep_small_apart`: it takes a quarter off the peak memory.

A variable that is set already stays as it is. PPADAPT_NO_MKL_SWITCH=1, PPADAPT_NO_THREADS_SWITCH=1,
PPADAPT_NO_STRIDE_SWITCH=1 and PPADAPT_NO_MALLOC_SWITCH=1 leave things as they are.
"""
from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import sys
import zlib  # noqa: F401  before Paddle 2.6, whose own zlib is taken otherwise and crashes what imports it later
from pathlib import Path

LOGGER = logging.getLogger("ppadapt")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def prepare() -> None:
    """Set what can still be set. Quiet, and without effect where it does not apply."""
    if sys.platform != "linux":
        return
    if "paddle" not in sys.modules:
        if _wanted("MKL") and _is_amd():
            _set("MKL_DEBUG_CPU_TYPE", "5")
        if _wanted("THREADS") and "OMP_NUM_THREADS" not in os.environ:
            together = os.environ.get("PADDLE_LOCAL_SIZE", "")  # processes of paddle.distributed.launch on this machine
            _set("MKL_NUM_THREADS", str(max(1, cores() // max(1, int(together) if together.isdigit() else 1))))
        if _wanted("STRIDE") and not os.path.exists("/dev/nvidiactl"):
            _set("FLAGS_use_stride_kernel", "0")
    libc = _glibc()
    if libc:
        # Where glibc holds to the limit that mallopt(3) names, it refuses this, and would go on from 128 kiB.
        if not libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30):
            libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        if "MALLOC_ARENA_MAX" not in os.environ:
            libc.mallopt(_M_ARENA_MAX, 2)
        LOGGER.debug("glibc keeps freed buffers")


@functools.cache
def keep_small_apart() -> None:
    """Give small objects free places of their own, once: 6 MB, 20 ms.

    Paddle asks for big buffers at multiples of 4096 bytes, which leaves a gap before each. glibc puts small
    objects there, which then keep the buffers they lie between from ever growing together: a ViT-B step
    held 1.9 GB for 0.9 GB in use. Places that fit exactly are taken first.
    """
    libc = _glibc()
    if not libc:
        return
    places = []
    for size in range(24, 1024, 16):
        for _ in range(200):
            places.append(libc.malloc(size))
            libc.malloc(8)  # never freed: it keeps the place from growing together with the next
    for place in places:
        libc.free(place)


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores this process may use: its affinity, or the container's quota where that is less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if quota != "max" and int(quota) > 0:
            count = min(count, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no quota is known
        pass
    return max(1, count)


def _wanted(switch: str) -> bool:
    return os.environ.get(f"PPADAPT_NO_{switch}_SWITCH") != "1"


@functools.cache
def _glibc():
    """The C library, or None where it is not glibc or is to be left alone."""
    if sys.platform != "linux" or not _wanted("MALLOC"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
        libc.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    return libc


def _set(name: str, value: str) -> None:
    os.environ.setdefault(name, value)
    LOGGER.debug("%s=%s", name, os.environ[name])


def _is_amd() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            return "AuthenticAMD" in info.read(4096)
    except OSError:
        return False
